"""The Rbac actor as a plain object: what it says, what it asks Discord, and what is left when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.rbac import Rbac
from adapters.memory import MemoryAuthorityStore, MemoryClock, MemoryDatabase, MemoryMembers, MemoryRoleStore
from domain.authority import LIST_MARGIN_MS, AuthorityNotice, GuildAuthority, MemberAuthority
from domain.errors import (
    DiscordBusy,
    DiscordUnavailable,
    LastOwner,
    MayNotChangeRoles,
    RolesUnavailable,
    StoreUnavailable,
)
from domain.gateway_hearing import ShardHeard
from domain.permissions import ADMINISTRATOR, Role
from domain.ports import GuildRow
from domain.roles import Assign, AuthorityChange, Mapping, MapRole, Member, Revoke, RoleStore
from tests.memory_rbac import memory_rbac
from tests.waiting import eventually

GUILD, OTHER = 40, 41


def member(user_id: int = 7, guild_id: int = GUILD, *, owns: bool = False, permissions: int = 0) -> Member:
    return Member(user_id, guild_id, owns, permissions)


OWNER = member(1, owns=True)


class Rig:
    """An actor, the twins below it, and a clock."""

    def __init__(self, clock: MemoryClock, database: MemoryDatabase) -> None:
        self.clock, self.database = clock, database
        self.members = MemoryMembers()
        self.authority = MemoryAuthorityStore()
        self.rbac = self.live_again()

    def live_again(self) -> Rbac:
        self.rbac = memory_rbac(self.database, self.members, self.seconds, self.authority)
        return self.rbac

    def seconds(self) -> float:
        return self.clock() / 1000

    def map_role(self, role_id: int, role: Role, guild_id: int = GUILD) -> None:
        self.database.role_mappings[guild_id, role_id] = Mapping(role_id, role, 1, 0)

    async def role(self, who: Member) -> Role | None:
        return (await asyncio.wait_for(self.rbac.roles_of([who]), 5)).get(who)


@pytest.fixture
def rig(clock: MemoryClock, database: MemoryDatabase) -> Rig:
    return Rig(clock, database)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is so."""

    async def ask() -> bool:
        return true()

    await eventually(ask, within_s=5)


# -- how a role is found ------------------------------------------------------------------------------


async def test_many_are_answered_at_once(rig: Rig) -> None:
    """Each by what is known of them, also those who have no role."""
    rig.database.roles[GUILD, 7] = "moderator"
    asked = [
        OWNER,
        member(7),
        member(8),
        member(9, permissions=ADMINISTRATOR),
        member(7, OTHER),
        member(7, OTHER, owns=True),
    ]
    assert await rig.rbac.roles_of(asked) == {
        OWNER: "owner",
        member(7): "moderator",
        member(8): None,
        member(7, OTHER): None,
        member(9, permissions=ADMINISTRATOR): "admin",
        member(7, OTHER, owns=True): "owner",
    }
    assert await rig.rbac.roles_of([]) == {}
    assert not rig.members.calls


async def test_the_highest_mapped_role_counts(rig: Rig) -> None:
    """Of several Discord roles, and of everybody's; in this guild only."""
    rig.map_role(GUILD, "viewer")
    rig.map_role(71, "moderator")
    rig.map_role(72, "admin")
    for given, role in (
        ((), "viewer"),
        ((70,), "viewer"),
        ((71,), "moderator"),
        ((72, 71), "admin"),
    ):
        rig.members.given[GUILD, 7] = rig.members.given[OTHER, 7] = frozenset(given)
        rig.live_again()
        assert await rig.role(member()) == role
        assert await rig.role(member(guild_id=OTHER)) is None


@pytest.mark.parametrize(
    ("who", "assigned", "role"),
    [
        (member(owns=True), "viewer", "owner"),
        (member(), "viewer", "viewer"),
        (member(permissions=ADMINISTRATOR), "moderator", "moderator"),
    ],
)
async def test_discord_is_asked_only_when_it_matters(
    rig: Rig, who: Member, assigned: Role, role: Role
) -> None:
    """Neither about owners, nor about who was given a role, nor where nothing is mapped."""
    rig.map_role(71, "admin")
    rig.members.given[GUILD, 7] = frozenset({71})
    rig.database.roles[GUILD, 7] = assigned
    assert await rig.role(who) == role
    assert await rig.role(member(guild_id=OTHER, permissions=ADMINISTRATOR)) == "admin"
    assert not rig.members.calls
    rig.database.roles.clear()
    assert await rig.role(member(permissions=ADMINISTRATOR)) == "admin"
    assert rig.members.calls == {(GUILD, 7): 1}


async def test_a_mapping_outweighs_administrator(rig: Rig) -> None:
    """Also downwards, like an assignment; who has no mapped role keeps what ADMINISTRATOR gives."""
    rig.map_role(71, "viewer")
    administrator = member(permissions=ADMINISTRATOR)
    assert await rig.role(administrator) == "admin"
    rig.live_again()
    rig.members.given[GUILD, 7] = frozenset({71})
    assert await rig.role(administrator) == "viewer"


# -- asking Discord -----------------------------------------------------------------------------------


class Held:
    """Questions to Discord that wait until they are let go; ``problem`` is then raised."""

    def __init__(self, members: MemoryMembers) -> None:
        self.let_go = asyncio.Event()
        self.problem: Exception | None = None
        self.most = self.now = 0
        members.before = self._hold

    async def _hold(self, guild_id: int, user_id: int) -> None:
        del guild_id, user_id
        self.now += 1
        self.most = max(self.most, self.now)
        await self.let_go.wait()
        self.now -= 1
        if self.problem is not None:
            raise self.problem


async def test_discord_is_asked_once_however_many_want_to_know(rig: Rig) -> None:
    """While the question is under way, and for a minute after it."""
    rig.map_role(71, "admin")
    rig.members.given[GUILD, 7] = frozenset({71})
    held = Held(rig.members)
    asking = [asyncio.create_task(rig.role(member())) for _ in range(50)]
    await until(lambda: bool(rig.members.calls))
    held.let_go.set()
    assert await asyncio.gather(*asking) == ["admin"] * 50
    rig.clock.advance(29_999)
    assert await rig.role(member()) == "admin"
    assert rig.members.calls == {(GUILD, 7): 1}


async def test_what_discord_said_counts_for_half_an_hour_at_most(rig: Rig) -> None:
    """After five minutes Discord is asked again, and nobody waits for that; at the end, everybody does."""
    rig.map_role(71, "admin")
    rig.members.given[GUILD, 7] = frozenset({71})
    assert await rig.role(member()) == "admin"
    rig.members.given[GUILD, 7] = frozenset()
    held = Held(rig.members)
    rig.clock.advance(1_799_999)
    assert await rig.role(member()) == "admin"
    await until(lambda: rig.members.calls == {(GUILD, 7): 2})
    rig.clock.advance(1)
    asking = asyncio.create_task(rig.role(member()))
    held.let_go.set()
    assert await asking is None
    assert rig.members.calls == {(GUILD, 7): 2}


@pytest.mark.parametrize(
    "problem", [DiscordUnavailable(), DiscordBusy(retry_after_s=40.0), RuntimeError("a bug")]
)
async def test_trouble_at_discord_takes_nobodys_role(rig: Rig, problem: Exception) -> None:
    """For half an hour the last answer serves; then nobody knows, which is not to have no role."""
    rig.map_role(71, "admin")
    who = [member(user_id) for user_id in range(100, 200)]
    rig.members.given = {(GUILD, one.user_id): frozenset({71}) for one in who}
    assert await rig.rbac.roles_of(who) == dict.fromkeys(who, "admin")
    held = Held(rig.members)
    held.problem = problem
    held.let_go.set()
    for _ in range(29):
        rig.clock.advance(60_000)
        assert await rig.rbac.roles_of(who) == dict.fromkeys(who, "admin")
    await until(lambda: rig.rbac._members._questions.rests_s(GUILD, rig.seconds()) > 1)
    rig.clock.advance(60_000)
    assert await rig.rbac.roles_of([*who, OWNER]) == {OWNER: "owner"}
    with pytest.raises(RolesUnavailable):
        await rig.rbac.change(Assign(7, "viewer"), who[0])


@pytest.mark.parametrize(
    "problem", [DiscordUnavailable(), DiscordBusy(retry_after_s=5.0), RuntimeError("a bug")]
)
async def test_of_whom_discord_does_not_tell_nothing_is_known(rig: Rig, problem: Exception) -> None:
    """They are missing from the answer, which comes at once while Discord is left alone."""
    rig.map_role(71, "owner")
    rig.members.given[GUILD, 7] = rig.members.given[GUILD, 8] = frozenset({71})
    held = Held(rig.members)
    held.problem = problem
    held.let_go.set()
    administrator = member(permissions=ADMINISTRATOR)
    assert await rig.rbac.roles_of([member(), administrator, member(9, OTHER)]) == {member(9, OTHER): None}
    held.problem = None
    assert await rig.rbac.roles_of([member()]) == {}
    assert await rig.rbac.roles_of([member(8)]) == {}
    assert rig.members.calls == {(GUILD, 7): 1}
    rig.clock.advance(5_000)
    assert await rig.role(member()) == "owner"
    assert await rig.role(member(8)) == "owner"


def _settled(settings: MemberRolesSettings, rig: Rig) -> MemberRoles:
    return MemberRoles(settings, rig.members, rig.seconds)


async def test_nobody_waits_long_for_discord(rig: Rig) -> None:
    """Of whom it does not tell in time nothing is known; its answer is remembered when it comes."""
    roles = _settled(MemberRolesSettings(answer_within_s=0.01), rig)
    rig.members.given[GUILD, 7] = frozenset({71})
    held = Held(rig.members)
    assert await roles.of([(GUILD, 7)]) == {(GUILD, 7): None}
    held.let_go.set()

    async def told() -> bool:
        return (await roles.of([(GUILD, 7)]))[GUILD, 7] == {GUILD, 71}

    await eventually(told)
    assert rig.members.calls == {(GUILD, 7): 1}


async def test_so_many_questions_are_asked_and_wait(rig: Rig) -> None:
    """A few at a time, a bounded number in all; who comes when there is no room is asked about later."""
    roles = _settled(MemberRolesSettings(at_once=3, waiting=10, per_s=1_000), rig)
    people = [(guild_id, 7) for guild_id in range(1, 21)]
    rig.members.given = dict.fromkeys(people, frozenset({71}))
    held = Held(rig.members)
    asking = asyncio.create_task(roles.of(people))
    await until(lambda: held.now == 3)
    held.let_go.set()
    found = await asking
    assert held.most == 3
    assert [bool(found[who]) for who in people] == [True] * 10 + [False] * 10
    assert all((await roles.of(people)).values())
    assert set(rig.members.calls.values()) == {1}


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_limit_fails_nobody(rig: Rig, everywhere: bool) -> None:
    """Every second request is refused: it waits as long as Discord says, and all are asked about."""
    rig.members.page_size = 10
    crowd = [(GUILD, user_id) for user_id in range(1, 61)]
    people = [*crowd, (OTHER, 7), (OTHER, 8)]
    rig.members.given = dict.fromkeys([*crowd, (OTHER, 7)], frozenset({71}))
    tries = 0

    async def every_second_one(*_: int) -> None:
        nonlocal tries
        tries += 1
        if tries % 2:
            raise DiscordBusy(retry_after_s=0.4, everywhere=everywhere)

    rig.members.before = every_second_one
    roles = _settled(MemberRolesSettings(per_s=1_000), rig)

    async def all_known() -> bool:
        rig.clock.advance(100)
        return None not in (await roles.of(people, wait=False)).values()

    await eventually(all_known, within_s=5)
    assert (await roles.of(people))[OTHER, 8] == frozenset()
    assert sum(rig.members.calls.values()) + sum(rig.members.lists.values()) == tries
    assert tries <= 2 * len(people)


async def test_while_the_gateway_is_heard_nobody_is_asked_about_again(rig: Rig) -> None:
    """What changes is told; an hourly look makes sure. After a gap, what was said before it is renewed."""
    rig.map_role(71, "admin")
    rig.map_role(72, "viewer")
    rig.members.given[GUILD, 7] = frozenset({71})

    async def pass_by(minutes: int, life: str = "a", notices: Sequence[AuthorityNotice] = ()) -> Role | None:
        for _ in range(minutes):
            rig.clock.advance(60_000)
            await rig.rbac.heard(list(notices), [ShardHeard(0, 1, life, 0.0)])
        return await rig.role(member())

    assert await pass_by(1) == "admin"
    assert await pass_by(59) == "admin"
    assert rig.members.calls == {(GUILD, 7): 1}
    lost = MemberAuthority(GUILD, 7, rig.clock(), frozenset({GUILD, 72}))
    assert await pass_by(1, notices=[lost]) == "viewer"
    assert await pass_by(59) == "viewer"
    assert rig.members.calls == {(GUILD, 7): 1}
    rig.members.given[GUILD, 7] = frozenset({72})
    assert await pass_by(1) == "viewer"
    await until(lambda: rig.members.calls == {(GUILD, 7): 2})
    assert await pass_by(5) == "viewer"
    rig.members.given[GUILD, 7] = frozenset()
    for calls, gap in enumerate(({"life": "b"}, {"notices": [GuildAuthority(GUILD, 0, 1, missed=True)]}), 3):
        await pass_by(1, **gap)  # type: ignore[arg-type]
        await pass_by(5, "b")
        await until(lambda calls=calls: rig.members.calls == {(GUILD, 7): calls})  # type: ignore[misc]
    assert await rig.role(member()) is None


# -- changes ------------------------------------------------------------------------------------------


async def test_a_change_holds_from_the_next_question_on(rig: Rig) -> None:
    """In every life: the actor remembers no role."""
    other_life = memory_rbac(rig.database)
    for role in ("viewer", "owner"):
        at_ms = await rig.rbac.change(Assign(7, role), OWNER, "the-request")
        assert at_ms == rig.clock()
        assert await rig.role(member()) == role
        assert await other_life.roles_of([member()]) == {member(): role}
    await other_life.change(Revoke(7), OWNER)
    assert await rig.role(member()) is None
    actions = [row.entry.action for row in rig.database.audit]
    assert actions == ["role.assigned", "role.assigned", "role.revoked"]
    assert [row.entry.request_id for row in rig.database.audit] == ["the-request", "the-request", None]


async def test_who_is_owner_by_a_discord_role_may_change_roles(rig: Rig) -> None:
    """As long as Discord says that they have it."""
    rig.map_role(71, "owner")
    rig.members.given[GUILD, 7] = frozenset({71})
    await rig.rbac.change(Assign(8, "viewer"), member())
    await rig.rbac.change(MapRole(72, "viewer"), member())
    with pytest.raises(MayNotChangeRoles):
        await rig.rbac.change(Assign(9, "viewer"), member(8))
    rig.members.given[GUILD, 7] = frozenset()
    rig.clock.advance(1_800_000)
    with pytest.raises(MayNotChangeRoles):
        await rig.rbac.change(Assign(9, "viewer"), member())


async def test_two_lives_do_not_remove_both_last_owners(rig: Rig) -> None:
    """Whoever comes second finds that they are the last one."""
    rig.database.roles |= {(GUILD, 6): "owner", (GUILD, 7): "owner"}
    lives = (rig.rbac, memory_rbac(rig.database))
    done = await asyncio.gather(
        *(life.change(Revoke(user), member(user)) for life, user in zip(lives, (6, 7), strict=True)),
        return_exceptions=True,
    )
    assert [type(one) for one in done].count(LastOwner) == 1
    assert list(rig.database.roles.values()) == ["owner"]


async def test_lists_come_from_the_store(rig: Rig) -> None:
    """Page by page."""
    for user_id in (7, 8, 9):
        await rig.rbac.change(Assign(user_id, "viewer"), OWNER)
        await rig.rbac.change(MapRole(user_id, "viewer"), OWNER)
    assigned, total = await rig.rbac.assignments(GUILD, limit=2, offset=1)
    assert ([row.user_id for row in assigned], total) == ([8, 9], 3)
    mapped, total = await rig.rbac.mappings(GUILD, limit=2, offset=1)
    assert ([row.discord_role_id for row in mapped], total) == ([8, 9], 3)


# -- what the gateway says ----------------------------------------------------------------------------


class Listening:
    """A replica's stream from an actor, and what came over it."""

    def __init__(self, rbac: Rbac) -> None:
        self.told: list[AuthorityChange] = []
        self.stands = asyncio.Event()
        self.task = asyncio.create_task(self._listen(rbac))

    async def _listen(self, rbac: Rbac) -> None:
        async for changes in rbac.changes("replica"):
            self.stands.set()
            self.told += changes


async def test_who_leaves_has_no_role_at_once(rig: Rig) -> None:
    """Whatever gave it, until a newer list or a rejoin says otherwise; replicas are told."""
    rig.database.roles[GUILD, 7] = "owner"
    assert await rig.role(member()) == "owner"
    listening = Listening(rig.rbac)
    await listening.stands.wait()
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), None)])
    await until(lambda: listening.told == [AuthorityChange(GUILD, 7, rig.clock())])
    assert await rig.role(member()) is None
    with pytest.raises(MayNotChangeRoles):
        await rig.rbac.change(Assign(8, "viewer"), member())
    assert await rig.role(member()._replace(as_of_ms=rig.clock() + LIST_MARGIN_MS)) == "owner"
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), frozenset({GUILD}))])
    assert await rig.role(member()) == "owner"
    listening.task.cancel()


async def test_a_role_that_discord_takes_away_is_gone_at_once(rig: Rig) -> None:
    """A member's, or everybody's by its deletion; nobody is asked for it, also if an answer is under way."""
    rig.map_role(71, "admin")
    rig.map_role(72, "viewer")
    for user_id in (7, 8):
        rig.members.given[GUILD, user_id] = frozenset({71, 72})
        assert await rig.role(member(user_id)) == "admin"
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), frozenset({GUILD, 72}))])
    assert (await rig.role(member()), await rig.role(member(8))) == ("viewer", "admin")
    deleted = GuildAuthority(GUILD, rig.clock(), 1, deleted=frozenset({72}))
    await rig.rbac.heard([deleted])
    assert (await rig.role(member()), await rig.role(member(8))) == (None, "admin")
    assert rig.members.calls == {(GUILD, 7): 1, (GUILD, 8): 1}
    held = Held(rig.members)
    asking = asyncio.create_task(rig.role(member(9)))
    await until(lambda: held.now == 1)
    rig.members.given[GUILD, 9] = frozenset({71})
    await rig.rbac.heard([MemberAuthority(GUILD, 9, rig.clock(), frozenset({GUILD}))])
    held.let_go.set()
    assert await asking is None
    assert await rig.role(member(9)) is None


async def test_a_guild_that_is_given_away_changes_hands_at_once(rig: Rig) -> None:
    """Before the database has heard of it, however long that takes; then what is on record counts again."""
    rig.database.guilds[GUILD] = GuildRow(GUILD, "Guild", None, 2, bot_present=True, bot_online=True)
    rig.database.owners[GUILD] = 1
    assert await rig.role(OWNER) == "owner"
    await rig.rbac.heard([GuildAuthority(GUILD, rig.clock(), owner_id=8)])
    assert (await rig.role(OWNER), await rig.role(member(8))) == (None, "owner")
    with pytest.raises(MayNotChangeRoles):
        await rig.rbac.change(Assign(9, "viewer"), OWNER)
    rig.clock.advance(60 * 60_000)
    assert (await rig.role(OWNER), await rig.role(member(8))) == (None, "owner")
    for owner_id in (8, 9):
        rig.database.owners[GUILD] = owner_id
        assert [await rig.role(member(user_id)) for user_id in (1, 8, 9)] == [
            "owner" if user_id == owner_id else None for user_id in (1, 8, 9)
        ]


async def test_who_left_has_no_role_whatever_the_clocks_say(rig: Rig) -> None:
    """A list that was seen before is older than the notice, and so is one from the future."""
    rig.database.roles[GUILD, 7] = "viewer"
    ahead = member()._replace(as_of_ms=rig.clock() + 60_000)  # by a replica whose clock is wrong
    assert await rig.role(ahead) == "viewer"
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), None)])
    for _ in range(3):
        assert await rig.role(ahead) is None
        rig.clock.advance(30_000)
    rig.clock.advance(LIST_MARGIN_MS)
    assert await rig.role(member()._replace(as_of_ms=rig.clock())) == "viewer"
    rig.clock.advance(-3_600_000)
    from_before = member(8)._replace(as_of_ms=rig.clock() + 3_600_000)
    rig.database.roles[GUILD, 8] = "viewer"
    assert await rig.role(member(8)) == "viewer"
    await rig.rbac.heard([MemberAuthority(GUILD, 8, rig.clock(), None)])
    assert await rig.role(from_before) is None
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), None)])  # dated before the first one
    assert await rig.role(member()._replace(as_of_ms=rig.clock())) is None


async def test_the_next_life_knows_who_left(rig: Rig) -> None:
    """Of people who are logged in; also what could be kept only later."""
    rig.authority.logged_in = {7}
    rig.database.roles |= {(GUILD, 7): "viewer", (OTHER, 7): "viewer"}
    await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), None)])
    assert await rig.role(member()) is None
    rig.authority.available = False
    await rig.rbac.heard([MemberAuthority(OTHER, 7, rig.clock(), None)])
    assert await rig.role(member(guild_id=OTHER)) is None
    rig.authority.available = True
    await rig.rbac.heard([])
    rig.live_again()
    assert await rig.rbac.roles_of([member(), member(guild_id=OTHER)]) == {
        member(): None,
        member(guild_id=OTHER): None,
    }


async def test_replicas_are_told_of_every_change_of_roles(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom it concerns, and also when it failed: whether it was made is not always known."""
    listening = Listening(rig.rbac)
    await listening.stands.wait()
    await rig.rbac.change(Assign(7, "viewer"), OWNER)
    await rig.rbac.change(MapRole(71, "viewer"), OWNER)

    async def lost(*_: object) -> int:
        raise StoreUnavailable

    monkeypatch.setattr(rig.rbac._store, "change", lost)
    with pytest.raises(StoreUnavailable):
        await rig.rbac.change(Revoke(8), OWNER)
    expected = [(GUILD, 7), (GUILD, None), (GUILD, 8)]
    await until(lambda: [change[:2] for change in listening.told] == expected)
    listening.task.cancel()


# -- away ---------------------------------------------------------------------------------------------


async def test_what_cannot_go_on_is_told_and_holds_up_no_sign_of_life(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notices that cannot be kept by any try make the actor ill; its listeners hear that it lives."""
    monkeypatch.setattr("actors.rbac.SIGN_OF_LIFE_S", 0.01)
    assert await rig.rbac.ping() is None

    async def breaks(_: object) -> set[int]:
        raise RuntimeError

    monkeypatch.setattr(rig.authority, "keep", breaks)
    with pytest.raises(RuntimeError):
        await rig.rbac.heard([MemberAuthority(GUILD, 7, rig.clock(), None)])

    async def ails() -> str | None:
        return await rig.rbac.ping()

    assert await eventually(ails, within_s=5) == "It cannot go on with: keep."
    stream = rig.rbac.changes("replica")
    async with asyncio.timeout(5):
        assert [await anext(stream) for _ in range(3)][1:] == [[], []]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_without_a_database_nobody_knows(rig: Rig) -> None:
    """Every call says so; afterwards it goes on by itself."""
    await rig.rbac.start()
    rig.database.available = False
    for call in (
        lambda: rig.rbac.roles_of([member()]),
        lambda: rig.rbac.change(Assign(7, "viewer"), OWNER),
        lambda: rig.rbac.assignments(GUILD, limit=1, offset=0),
        lambda: rig.rbac.mappings(GUILD, limit=1, offset=0),
    ):
        with pytest.raises(StoreUnavailable):
            await call()
    rig.database.available = True
    assert await rig.role(OWNER) == "owner"
    assert rig.database.roles == {}
    assert rig.database.audit == []


async def test_a_store_that_cannot_be_opened_is_tried_again(rig: Rig) -> None:
    """By whoever asks next, and opened once only."""
    tries = 0

    async def open_store() -> RoleStore:
        nonlocal tries
        tries += 1
        await asyncio.sleep(0)
        if tries == 1:
            raise StoreUnavailable
        return MemoryRoleStore(rig.database)

    rbac = Rbac(open_store, lambda: _settled(MemberRolesSettings(), rig), MemoryAuthorityStore, rig.clock)
    with pytest.raises(StoreUnavailable):
        await rbac.start()
    assert await asyncio.gather(*(rbac.roles_of([OWNER]) for _ in range(5))) == [{OWNER: "owner"}] * 5
    assert tries == 2


class _LostAnswer(MemoryRoleStore):
    """Dies at the worst moment: the change is made, and nobody is told."""

    async def change(self, *arguments: object) -> int:
        await super().change(*arguments)  # type: ignore[arg-type]
        raise ConnectionResetError


async def test_a_life_that_ends_in_a_change_leaves_it_whole_or_not_begun(rig: Rig) -> None:
    """Either the role and its entry in the log are there, or neither; the next life goes on from that."""

    async def open_store() -> RoleStore:
        return _LostAnswer(rig.database)

    dying = Rbac(open_store, lambda: _settled(MemberRolesSettings(), rig), MemoryAuthorityStore, rig.clock)
    with pytest.raises(ConnectionResetError):
        await dying.change(Assign(7, "admin"), OWNER)
    rig.live_again()
    assert await rig.role(member()) == "admin"
    assert [row.entry.action for row in rig.database.audit] == ["role.assigned"]
    await rig.rbac.change(Assign(7, "admin"), OWNER)  # as who was told nothing would do
    assert await rig.role(member()) == "admin"
