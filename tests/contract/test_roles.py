"""One suite for the roles' store in Postgres and for its twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from adapters import role_store
from adapters.audit import PostgresAuditLog
from adapters.guild_store import PostgresGuildStore
from adapters.memory import MemoryAuditLog, MemoryDatabase, MemoryGuildStore, MemoryRoleStore
from adapters.memory.samples import described
from adapters.postgres import open_pool
from adapters.role_store import PostgresRoleStore
from domain.audit import AuditEntry, AuditLog
from domain.errors import (
    DiscordOwnerStays,
    GuildhallError,
    LastOwner,
    MayNotChangeRoles,
    NoSuchRole,
    StoreUnavailable,
    TooManyMappings,
)
from domain.events import Event, GuildLeft
from domain.guild import GuildState, apply_all
from domain.permissions import ROLES, Role
from domain.ports import Commit, GuildStore
from domain.roles import (
    MAX_MAPPINGS,
    Assign,
    Author,
    GuildRoles,
    MapRole,
    Member,
    Revoke,
    RoleChange,
    RoleStore,
    UnmapRole,
)
from tests.contract.stores import fresh_id


class World(NamedTuple):
    """A database, by all that writes to it here."""

    roles: RoleStore
    audit: AuditLog
    hosts: GuildStore
    give: Any

    async def tell(self, *events: Event) -> None:
        """Let a host make events durable."""
        incarnation = await self.hosts.register_host(f"h{fresh_id()}")
        for event in events:
            _, effects = apply_all(GuildState(event.guild_id), [event])
            await self.hosts.commit(incarnation, Commit(effects, (), ()))

    async def assigned(self, guild_id: int) -> dict[int, Role]:
        rows, total = await self.roles.assignments(guild_id, limit=100, offset=0)
        assert total == len(rows)
        return {row.user_id: row.role for row in rows}

    async def mapped(self, guild_id: int) -> dict[int, Role]:
        rows, _ = await self.roles.mappings(guild_id, limit=1_000, offset=0)
        return {row.discord_role_id: row.role for row in rows}

    async def log(self, guild_id: int) -> list[AuditEntry]:
        """Return the entries of a guild, oldest first."""
        rows, _ = await self.audit.page(guild_id, limit=1_000, offset=0)
        return [row.entry for row in reversed(rows)]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[World]:
    if request.param == "memory":
        database = MemoryDatabase()
        memory = MemoryRoleStore(database)
        yield World(memory, MemoryAuditLog(database), MemoryGuildStore(database), memory.give)
        return
    pool = await open_pool(postgres_dsn, max_size=4)
    store = PostgresRoleStore(pool)
    hosts = await PostgresGuildStore.open(postgres_dsn)
    yield World(store, PostgresAuditLog(pool), hosts, store.give)
    await hosts.close()
    await pool.close()


@pytest.fixture
def guild_id() -> int:
    return fresh_id()


def member(guild_id: int, user_id: int, *, owns: bool = False, permissions: int = 0) -> Member:
    return Member(user_id, guild_id, owns, permissions)


def owner(guild_id: int, user_id: int = 1) -> Author:
    """Return somebody to whom Discord gave the guild when they logged in."""
    return Author(member(guild_id, user_id, owns=True), request_id="the-request")


# -- what was changed is read -------------------------------------------------------------------------


async def test_a_role_is_read_as_it_was_given(world: World, guild_id: int) -> None:
    """With who gave it and when; the last one counts, and other guilds are not concerned."""
    other = fresh_id()
    for role in ROLES:
        at_ms = await world.roles.change(Assign(7, role), owner(guild_id))
        [row], total = await world.roles.assignments(guild_id, limit=10, offset=0)
        assert total == 1
        assert (row.user_id, row.role, row.assigned_by, row.assigned_at_ms) == (7, role, 1, at_ms)
    assert await world.assigned(other) == {}
    await world.roles.change(Revoke(7), owner(guild_id))
    assert await world.assigned(guild_id) == {}


async def test_a_mapping_is_read_as_it_was_made(world: World, guild_id: int) -> None:
    """With who made it and when; the last one counts, and other guilds are not concerned."""
    for role in ROLES:
        at_ms = await world.roles.change(MapRole(77, role), owner(guild_id))
        [row], total = await world.roles.mappings(guild_id, limit=10, offset=0)
        assert total == 1
        assert (row.discord_role_id, row.role, row.mapped_by, row.mapped_at_ms) == (77, role, 1, at_ms)
    assert await world.mapped(fresh_id()) == {}
    await world.roles.change(UnmapRole(77), owner(guild_id))
    assert await world.mapped(guild_id) == {}


async def test_what_no_person_decided_names_nobody(world: World, guild_id: int) -> None:
    """A role can be given without anybody's name, and counts like any other."""
    await world.give(guild_id, 7, "viewer")
    await world.give(guild_id, 7, "moderator")
    [row], _ = await world.roles.assignments(guild_id, limit=10, offset=0)
    assert (row.role, row.assigned_by) == ("moderator", None)


async def test_lists_are_in_the_order_of_roles(world: World, guild_id: int) -> None:
    """Then in that of ids, so that pages neither repeat nor miss one."""
    wanted = [(role, number) for role in ROLES for number in (11, 12, 13)]
    for role, number in reversed(wanted):
        await world.roles.change(Assign(ROLES.index(role) + 10 * number, role), owner(guild_id))
        await world.roles.change(MapRole(ROLES.index(role) + 10 * number, role), owner(guild_id))
    ids = [ROLES.index(role) + 10 * number for role, number in wanted]
    for offset in range(0, 15, 5):
        assigned, total = await world.roles.assignments(guild_id, limit=5, offset=offset)
        assert total == 12
        assert [row.user_id for row in assigned] == ids[offset : offset + 5]
        mapped, total = await world.roles.mappings(guild_id, limit=5, offset=offset)
        assert total == 12
        assert [row.discord_role_id for row in mapped] == ids[offset : offset + 5]


async def test_records_hold_what_a_role_depends_on(world: World, guild_id: int) -> None:
    """Of each who is asked for: their own assignment, the guild's mappings, and whose guild it is."""
    other = fresh_id()
    await world.tell(described(guild_id, owner_id=5), described(other, owner_id=6), GuildLeft(other))
    await world.roles.change(Assign(7, "viewer"), owner(guild_id, 5))
    await world.roles.change(MapRole(77, "admin"), owner(guild_id, 5))
    await world.roles.change(MapRole(78, "viewer"), owner(other))
    asked = [
        member(guild_id, 7),
        member(guild_id, 8, owns=True),
        member(other, 7, permissions=8),
        member(2**63 - 1, 2**63 - 1),
    ]
    assert await world.roles.records(asked) == {
        asked[0]: GuildRoles(5, {7: "viewer"}, {77: "admin"}),
        asked[1]: GuildRoles(5, {}, {77: "admin"}),
        asked[2]: GuildRoles(None, {}, {78: "viewer"}),  # the bot left: what it knew is old
        asked[3]: GuildRoles(),
    }
    assert await world.roles.records([]) == {}


# -- the log ------------------------------------------------------------------------------------------


async def test_every_change_is_in_the_log(world: World, guild_id: int) -> None:
    """With what was before, who did it and by which request; a change that was refused is not."""
    by = owner(guild_id)
    changes: list[RoleChange] = [
        Assign(7, "viewer"),
        Assign(7, "owner"),
        Revoke(7),
        MapRole(77, "admin"),
        MapRole(77, "viewer"),
        UnmapRole(77),
    ]
    for change in changes:
        await world.roles.change(change, by)
    with pytest.raises(NoSuchRole):
        await world.roles.change(Revoke(7), by)
    log = await world.log(guild_id)
    assert {(e.guild_id, e.actor_id, e.request_id) for e in log} == {(guild_id, 1, "the-request")}
    assert [(entry.action, entry.target, entry.details) for entry in log] == [
        ("role.assigned", "7", {"role": "viewer"}),
        ("role.assigned", "7", {"role": "owner", "was": "viewer"}),
        ("role.revoked", "7", {"was": "owner"}),
        ("role.mapped", "77", {"role": "admin"}),
        ("role.mapped", "77", {"role": "viewer", "was": "admin"}),
        ("role.unmapped", "77", {"was": "viewer"}),
    ]


async def test_a_change_without_its_entry_is_none(
    postgres_dsn: str, guild_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever breaks between the two, neither is there afterwards."""
    store = await PostgresRoleStore.open(postgres_dsn)

    class Crash(Exception):
        pass

    async def crash(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(role_store, "write_audit", crash)
    changes: list[RoleChange] = [Assign(7, "viewer"), MapRole(77, "admin")]
    for change in changes:
        with pytest.raises(Crash):
            await store.change(change, owner(guild_id))
    assert await store.assignments(guild_id, limit=9, offset=0) == ([], 0)
    assert await store.mappings(guild_id, limit=9, offset=0) == ([], 0)
    await store.close()


# -- what is refused ----------------------------------------------------------------------------------

NOBODYS = [("nobody", {}), ("administrator", {"permissions": 8}), ("moderator", {}), ("admin", {})]


@pytest.mark.parametrize(("who", "flags"), NOBODYS)
async def test_only_owners_change_roles(world: World, guild_id: int, who: str, flags: dict[str, Any]) -> None:
    """Nobody else can, for themselves or for others; nothing is changed, nothing is logged."""
    if who in ROLES:
        await world.give(guild_id, 2, who)
    before = await world.assigned(guild_id)
    author = Author(member(guild_id, 2, **flags), frozenset({guild_id}))
    changes: list[RoleChange] = [
        *(Assign(2, role) for role in ROLES),
        Assign(3, "viewer"),
        Revoke(2),
        Revoke(3),
        MapRole(guild_id, "owner"),
        UnmapRole(77),
    ]
    for change in changes:
        with pytest.raises(MayNotChangeRoles):
            await world.roles.change(change, author)
    assert await world.assigned(guild_id) == before
    assert await world.mapped(guild_id) == {}
    assert await world.log(guild_id) == []


async def test_discords_owner_stays_what_they_are(world: World, guild_id: int) -> None:
    """Neither others nor they themselves can name them anything, as long as the guild is theirs."""
    unknown = fresh_id()
    await world.tell(described(guild_id, owner_id=5))
    await world.roles.change(Assign(6, "owner"), owner(guild_id, 5))
    assigned_owner = Author(member(guild_id, 6))
    for author, target in (
        (owner(guild_id, 5), 5),
        (assigned_owner, 5),
        (owner(unknown, 1), 1),  # where the bot is not, the login says whose it is
    ):
        changes: list[RoleChange] = [Assign(target, "viewer"), Assign(target, "owner"), Revoke(target)]
        for change in changes:
            with pytest.raises(DiscordOwnerStays):
                await world.roles.change(change, author)
    with pytest.raises(MayNotChangeRoles):
        await world.roles.change(Assign(7, "viewer"), owner(guild_id, 1))  # theirs at login, not any more
    await world.roles.change(Revoke(6), owner(guild_id, 5))
    assert await world.assigned(guild_id) == {}


async def test_the_last_owner_stays(world: World, guild_id: int) -> None:
    """Where Discord's owner is not known, the last one who was made owner cannot be removed or demoted."""
    await world.give(guild_id, 6, "owner")
    author = Author(member(guild_id, 6))
    changes: list[RoleChange] = [Revoke(6), Assign(6, "admin")]
    for change in changes:
        with pytest.raises(LastOwner):
            await world.roles.change(change, author)
    await world.roles.change(Assign(6, "owner"), author)
    await world.roles.change(Assign(7, "owner"), author)
    await world.roles.change(Assign(6, "admin"), author)
    assert await world.assigned(guild_id) == {7: "owner", 6: "admin"}
    with pytest.raises(LastOwner):
        await world.roles.change(Revoke(7), Author(member(guild_id, 7)))
    await world.tell(described(guild_id, owner_id=5))
    await world.roles.change(Revoke(7), Author(member(guild_id, 7)))


async def test_the_mapping_that_makes_the_last_owner_stays(world: World, guild_id: int) -> None:
    """Who is owner by a role of Discord cannot take that from themselves when nobody else is known."""
    await world.roles.change(MapRole(77, "owner"), owner(guild_id))
    author = Author(member(guild_id, 6), frozenset({guild_id, 77}))
    changes: list[RoleChange] = [UnmapRole(77), MapRole(77, "admin"), Assign(6, "admin")]
    for change in changes:
        with pytest.raises(LastOwner):
            await world.roles.change(change, author)
    await world.roles.change(Assign(6, "owner"), author)
    await world.roles.change(UnmapRole(77), Author(member(guild_id, 6)))
    assert await world.mapped(guild_id) == {}


async def test_a_guild_has_so_many_mappings(world: World, guild_id: int) -> None:
    """As many as it can have roles on Discord; one that is there can still be changed."""
    for role_id in range(1, MAX_MAPPINGS + 1):
        await world.roles.change(MapRole(role_id, "viewer"), owner(guild_id))
    with pytest.raises(TooManyMappings):
        await world.roles.change(MapRole(MAX_MAPPINGS + 1, "viewer"), owner(guild_id))
    await world.roles.change(MapRole(1, "moderator"), owner(guild_id))
    assert len(await world.mapped(guild_id)) == MAX_MAPPINGS


# -- at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("demote", [True, False])
async def test_two_cannot_remove_the_last_owners_at_once(
    world: World, demote: bool, postgres_dsn: str
) -> None:
    """Neither each other nor themselves, whichever life of the Rbac actor each of them asks."""
    another = await PostgresRoleStore.open(postgres_dsn)
    stores = [world.roles, another if isinstance(world.roles, PostgresRoleStore) else world.roles]
    for turn in range(10):
        guild = fresh_id()
        for user_id in (6, 7):
            await world.give(guild, user_id, "owner")
        pairs = [(6, 7), (7, 6)] if turn % 2 else [(6, 6), (7, 7)]
        done = await asyncio.gather(
            *(
                store.change(
                    Assign(target, "viewer") if demote else Revoke(target), Author(member(guild, by))
                )
                for store, (by, target) in zip(stores, pairs, strict=True)
            ),
            return_exceptions=True,
        )
        refused = [one for one in done if isinstance(one, GuildhallError)]
        assert [type(one) for one in refused] == [MayNotChangeRoles if turn % 2 else LastOwner]
        assert list((await world.assigned(guild)).values()).count("owner") == 1
        assert len(await world.log(guild)) == 1
    await another.close()


async def test_changes_of_a_guild_stand_in_the_log_as_they_were_made(world: World, guild_id: int) -> None:
    """Whoever waited for whom: each entry begins where the one before ended."""
    await asyncio.gather(
        *(world.roles.change(Assign(7, ROLES[n % 4]), owner(guild_id)) for n in range(12)),
        *(world.roles.change(MapRole(77, ROLES[n % 4]), owner(guild_id)) for n in range(12)),
    )
    for target, found in (("7", await world.assigned(guild_id)), ("77", await world.mapped(guild_id))):
        details = [entry.details for entry in await world.log(guild_id) if entry.target == target]
        assert len(details) == 12
        assert [one.get("was") for one in details] == [None, *(one["role"] for one in details[:-1])]
        assert found[int(target)] == details[-1]["role"]


# -- away ---------------------------------------------------------------------------------------------


async def test_a_database_that_is_away_is_said_to_be(postgres_dsn: str, guild_id: int) -> None:
    """By every call, in both."""
    store = await PostgresRoleStore.open(postgres_dsn)
    await store.close()
    database = MemoryDatabase()
    database.available = False
    for roles in (store, MemoryRoleStore(database)):
        for call in (
            roles.records([member(guild_id, 1)]),
            roles.change(Assign(7, "viewer"), owner(guild_id)),
            roles.assignments(guild_id, limit=1, offset=0),
            roles.mappings(guild_id, limit=1, offset=0),
            roles.give(guild_id, 1, "viewer"),
        ):
            with pytest.raises(StoreUnavailable):
                await call
