"""One suite for the stores of Postgres and for their twin: what hosts commit, the dashboard reads, once."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from adapters import postgres
from adapters.guild_store import PostgresGuildStore
from adapters.memory.samples import NOON_MS, described, person, violation
from domain.errors import BatchTaken, EventRefused, Fenced, PlacementTaken, StoreUnavailable
from domain.events import (
    SEVERITIES,
    ActionSettled,
    BotPresenceChanged,
    Event,
    Gap,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    ViolationDetected,
)
from domain.guild import GuildChanged, GuildState, HourCounts, apply_all
from domain.ids import HOUR_MS, MAX_SNOWFLAKE, hour_start
from domain.insights import Wanted
from domain.placement import Placement, place
from domain.ports import HostRow, PoisonEvent, PoisonRow
from tests.contract.stores import Host, Stores, fresh_id, mark, memory_stores, postgres_stores

# Examples of one test share its stores: each takes guilds and sources that nobody has used.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield memory_stores()
        return
    found, opened = await postgres_stores(postgres_dsn)
    await found.guilds.ensure_partitions(NOON_MS)
    yield found
    for store in opened:
        await store.close()


@pytest.fixture
def guild_id() -> int:
    return fresh_id()


@pytest.fixture
async def host(stores: Stores) -> Host:
    return await stores.begin(f"host{fresh_id()}")


async def page(stores: Stores, guild_id: int, limit: int = 100, offset: int = 0) -> list[int]:
    """Return the message ids on a page of violations."""
    rows, _ = await stores.insights.violations(guild_id, Wanted(), limit=limit, offset=offset)
    return [int(row.message_id) for row in rows]


# -- what is committed is read ------------------------------------------------------------------------


async def test_a_violation_is_read_as_it_was_committed(stores: Stores, host: Host, guild_id: int) -> None:
    """Every field comes back, with the person's name beside it."""
    one = violation(guild_id, user=person(fresh_id(), avatar_url="https://cdn/a.png"))
    committed = await host.tell(guild_id, one)
    assert committed.new_violations == {one.event_id}
    [row], total = await stores.insights.violations(guild_id, Wanted(), limit=10, offset=0)
    assert total == 1
    assert row.plain() == {
        "id": str(one.event_id),
        "guild_id": str(guild_id),
        "channel_id": "7",
        "channel_name": "general",
        "message_id": "1",
        "user": {
            "id": str(one.user.user_id),
            "username": one.user.username,
            "display_name": one.user.display_name,
            "avatar_url": "https://cdn/a.png",
        },
        "detection": "invite_link",
        "rule": "invite-links",
        "severity": "medium",
        "action": "delete",
        "action_status": "pending",
        "excerpt": one.excerpt,
        "ts": NOON_MS,
        "committed_at": row.committed_at,
        "review": None,
    }
    assert abs(row.committed_at - committed.committed_at_ms) < 60_000


async def test_a_person_nobody_told_of_has_no_name(stores: Stores, host: Host, guild_id: int) -> None:
    """The row is there all the same, and says that names are unknown."""
    await host.tell(guild_id, violation(guild_id, user=person(fresh_id())), users=())
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=10, offset=0)
    assert (row.user.username, row.user.display_name, row.user.avatar_url) == (None, None, None)


async def test_people_are_known_by_their_last_name(stores: Stores, host: Host, guild_id: int) -> None:
    """Also when one commit names a person twice."""
    user_id = fresh_id()
    await host.tell(guild_id, violation(guild_id, user=person(user_id)))
    names = (person(user_id, username="second"), person(user_id, username="third"))
    await host.commit(users=names)
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=10, offset=0)
    assert row.user.username == "third"


async def test_a_guild_is_loaded_as_it_was_left(stores: Stores, host: Host, guild_id: int) -> None:
    """State and hours come back; hours before the asked time do not."""
    events: list[Event] = [
        described(guild_id, name="Ünïcode ✨", member_count=5),
        BotPresenceChanged(guild_id, online=True, ts_ms=NOON_MS),
        MessagesCounted(guild_id, NOON_MS - HOUR_MS, 3),
        MessagesCounted(guild_id, NOON_MS, 2),
        MemberJoined(guild_id, person(), NOON_MS),
        MemberLeft(guild_id, 1, NOON_MS),
        violation(guild_id, severity="critical"),
    ]
    await host.tell(guild_id, *events)
    now = HourCounts(NOON_MS, messages=2, critical=1, joins=1, leaves=1)
    before = HourCounts(NOON_MS - HOUR_MS, messages=3)
    loaded = await stores.guilds.load_guilds([guild_id, fresh_id()], NOON_MS - HOUR_MS)
    assert loaded == {guild_id: GuildState(guild_id, "Ünïcode ✨", 5, True, True, (before, now))}
    loaded = await stores.guilds.load_guilds([guild_id], NOON_MS)
    assert loaded[guild_id].hours == (now,)
    assert await stores.dashboard.hours(guild_id, 0) == [before, now]


async def test_a_guild_without_a_description_keeps_its_counts(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """Events may come before Discord described the guild."""
    await host.tell(guild_id, MessagesCounted(guild_id, NOON_MS, 2))
    loaded = await stores.guilds.load_guilds([guild_id], 0)
    assert loaded == {guild_id: GuildState(guild_id, hours=(HourCounts(NOON_MS, messages=2),))}
    assert await stores.dashboard.guilds([guild_id]) == {}


async def test_what_is_not_known_overwrites_nothing(stores: Stores, host: Host, guild_id: int) -> None:
    """A guild that was left keeps its name, icon and count; a new description replaces them."""
    await host.tell(guild_id, described(guild_id, icon_url="https://cdn/i.png"))
    await host.tell(guild_id, GuildLeft(guild_id))
    await host.commit(GuildChanged(GuildState(guild_id)))
    row = (await stores.dashboard.guilds([guild_id]))[guild_id]
    assert (row.name, row.icon_url, row.member_count) == (f"Guild {guild_id}", "https://cdn/i.png", 10)
    assert not row.bot_present
    await host.tell(guild_id, described(guild_id, icon_url=None), BotPresenceChanged(guild_id, True, 1))
    row = (await stores.dashboard.guilds([guild_id]))[guild_id]
    assert row.icon_url is None
    assert row.bot_online


async def test_the_largest_ids_are_stored_whole(stores: Stores, host: Host) -> None:
    """Ids go up to 2^63 - 1, in every column."""
    largest = MAX_SNOWFLAKE - fresh_id()
    one = violation(largest, largest, channel_id=largest, user=person(largest))
    await host.tell(largest, described(largest, owner_id=largest), one)
    [row], _ = await stores.insights.violations(largest, Wanted(), limit=1, offset=0)
    assert {row.guild_id, row.channel_id, row.message_id, row.user.id} == {str(largest)}
    assert list(await stores.guilds.load_guilds([largest], 0)) == [largest]


async def test_a_time_for_which_no_month_was_made_is_taken(stores: Stores, host: Host, guild_id: int) -> None:
    """Long ago or far ahead: the row is kept, counted, and a resend still finds it."""
    times = [1_420_070_400_000, NOON_MS + 400 * 24 * HOUR_MS]
    events = [violation(guild_id, number, ts_ms=ts_ms) for number, ts_ms in enumerate(times, 1)]
    assert len((await host.tell(guild_id, *events)).new_violations) == 2
    assert (await host.tell(guild_id, *events)).new_violations == frozenset()
    assert [hour.hour_ms for hour in await stores.dashboard.hours(guild_id, 0)] == [
        hour_start(ts_ms) for ts_ms in times
    ]


async def test_a_month_can_be_made_after_its_rows_came(stores: Stores, host: Host, guild_id: int) -> None:
    """The month of a row that came too early is made all the same, twice too, and the row is still there."""
    early = NOON_MS + (1_000 + fresh_id()) * 31 * 24 * HOUR_MS
    await host.tell(guild_id, violation(guild_id, ts_ms=early))
    await stores.guilds.ensure_partitions(early)
    await stores.guilds.ensure_partitions(early)
    assert await page(stores, guild_id) == [1]
    assert (await host.tell(guild_id, violation(guild_id, ts_ms=early))).new_violations == frozenset()


async def test_pages_are_stable_and_newest_first(stores: Stores, host: Host, guild_id: int) -> None:
    """Rows of one time are in one order too, so pages neither repeat nor miss one."""
    events = [violation(guild_id, number, ts_ms=NOON_MS + number // 5) for number in range(1, 24)]
    await host.tell(guild_id, *events)
    whole = await page(stores, guild_id)
    assert sorted(whole) == list(range(1, 24))
    assert [number // 5 for number in whole] == sorted((number // 5 for number in whole), reverse=True)
    pages = [await page(stores, guild_id, 7, offset) for offset in range(0, 28, 7)]
    assert [number for one in pages for number in one] == whole
    assert (await stores.insights.violations(guild_id, Wanted(), limit=7, offset=21))[1] == 23
    assert await stores.insights.violations(fresh_id(), Wanted(), limit=7, offset=0) == ([], 0)


# -- once ---------------------------------------------------------------------------------------------


async def test_a_duplicate_is_one_row_counted_once(stores: Stores, host: Host, guild_id: int) -> None:
    """Within a commit and across commits; only the new one is reported as new."""
    one, two = violation(guild_id, 1), violation(guild_id, 2, severity="low")
    assert (await host.tell(guild_id, one, one)).new_violations == {one.event_id}
    assert (await host.tell(guild_id, one, two)).new_violations == {two.event_id}
    assert await stores.dashboard.hours(guild_id, 0) == [HourCounts(NOON_MS, low=1, medium=1)]


async def test_the_highest_number_of_a_source_is_remembered(stores: Stores, host: Host) -> None:
    """One that is not new is refused, with all that came with it; a source nobody heard of has taken none."""
    source = f"s{fresh_id()}"
    assert await stores.guilds.taken_number(source) == 0
    await host.commit(marks=(mark(3, source), mark(1, f"{source}b")))
    for number in (2, 3):
        marks = (mark(number, source), mark(9, f"{source}c"))
        with pytest.raises(BatchTaken):
            await host.commit(marks=marks, gaps=((source, Gap(1, 2, 3)),))
    assert await stores.guilds.taken_number(f"{source}c") == 0
    assert await stores.books.gaps(source) == []
    assert await stores.guilds.taken_number(source) == 3
    assert await stores.guilds.taken_number(f"{source}b") == 1


async def test_an_action_settles_once(host: Host, guild_id: int) -> None:
    """Only a pending row learns how its action ended, and only that is reported."""
    one, other = violation(guild_id, 1), violation(guild_id, 2, action="none", action_status="none")
    await host.tell(guild_id, one, other)
    done = ActionSettled(guild_id, one.event_id, one.ts_ms, "done")
    committed = await host.tell(guild_id, done)
    assert [(view.id, view.action_status) for view in committed.settled] == [(one.event_id, "done")]
    assert committed.settled[0].user.username == one.user.username
    for late in (
        ActionSettled(guild_id, one.event_id, one.ts_ms, "failed"),
        ActionSettled(guild_id, other.event_id, other.ts_ms, "done"),
        ActionSettled(guild_id, one.event_id, one.ts_ms + 1, "failed"),
        ActionSettled(guild_id, violation(guild_id, 3).event_id, NOON_MS, "done"),
    ):
        assert (await host.tell(guild_id, late)).settled == ()


async def test_an_action_may_settle_in_the_commit_of_its_violation(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """Both came in one batch."""
    one = violation(guild_id)
    committed = await host.tell(guild_id, one, ActionSettled(guild_id, one.event_id, one.ts_ms, "failed"))
    assert [view.action_status for view in committed.settled] == ["failed"]
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0)
    assert row.action_status == "failed"


async def test_an_action_may_settle_before_its_violation(stores: Stores, host: Host, guild_id: int) -> None:
    """It waits for that, is reported when it comes, and the row is as if both had come in order."""
    one, other = violation(guild_id, 1), violation(guild_id, 2)
    done = ActionSettled(guild_id, one.event_id, one.ts_ms, "done", one.ts_ms + 250)
    assert (await host.tell(guild_id, done)).settled == ()
    assert (await host.tell(guild_id, other)).settled == ()
    committed = await host.tell(guild_id, one)
    assert committed.new_violations == {one.event_id}
    assert [(view.id, view.action_status) for view in committed.settled] == [(one.event_id, "done")]
    assert committed.settled[0].user.username == one.user.username
    rows, _ = await stores.insights.violations(guild_id, Wanted(), limit=10, offset=0)
    assert {row.id: row.action_status for row in rows} == {one.event_id: "done", other.event_id: "pending"}
    assert await stores.books.settled_after(one) == 250
    assert await stores.books.early_actions(one, other) == 0


@pytest.mark.parametrize("together", [True, False], ids=["one commit", "two commits"])
async def test_of_two_early_actions_the_first_wins(host: Host, guild_id: int, together: bool) -> None:
    """The same twice, or another: a violation takes what was told of it first, once."""
    one = violation(guild_id)
    first = ActionSettled(guild_id, one.event_id, one.ts_ms, "failed")
    second = replace(first, status="done")
    for events in ([first, first, second],) if together else ([first], [first], [second]):
        assert (await host.tell(guild_id, *events)).settled == ()
    assert [view.action_status for view in (await host.tell(guild_id, one)).settled] == ["failed"]
    committed = await host.tell(guild_id, one, second)
    assert (committed.new_violations, committed.settled) == (frozenset(), ())


@pytest.mark.parametrize("together", [True, False], ids=["one commit", "two commits"])
async def test_an_early_action_wins_over_a_late_one(
    stores: Stores, host: Host, guild_id: int, together: bool
) -> None:
    """Also when the late one comes with the violation; the outcome is reported once."""
    one = violation(guild_id)
    early = ActionSettled(guild_id, one.event_id, one.ts_ms, "failed")
    late = replace(early, status="done")
    await host.tell(guild_id, early)
    found = []
    for events in ([late, one],) if together else ([one], [late]):
        found.extend((await host.tell(guild_id, *events)).settled)
    assert [view.action_status for view in found] == ["failed"]
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0)
    assert row.action_status == "failed"
    assert await stores.books.early_actions(one) == 0


async def test_an_early_action_changes_no_violation_that_calls_for_none(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """As one that comes in time; and it does not wait on."""
    one = violation(guild_id, action="none", action_status="none")
    await host.tell(guild_id, ActionSettled(guild_id, one.event_id, one.ts_ms, "done"))
    assert (await host.tell(guild_id, one)).settled == ()
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0)
    assert row.action_status == "none"
    assert await stores.books.early_actions(one) == 0


async def test_early_actions_and_their_violations_are_taken_once(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """A batch that is sent again changes nothing, and what a probe tries is taken back."""
    one, source = violation(guild_id), f"s{guild_id}"
    done = ActionSettled(guild_id, one.event_id, one.ts_ms, "done")
    _, effects = apply_all(GuildState(guild_id), [done])
    await host.probe(*effects)
    assert await stores.books.early_actions(one) == 0
    await host.tell(guild_id, done, marks=(mark(1, source),))
    with pytest.raises(BatchTaken):
        await host.tell(guild_id, replace(done, status="failed"), marks=(mark(1, source),))
    _, effects = apply_all(GuildState(guild_id), [one])
    await host.probe(*effects)
    assert await stores.books.early_actions(one) == 1
    assert len((await host.tell(guild_id, one, marks=(mark(2, source),))).settled) == 1
    with pytest.raises(BatchTaken):
        await host.tell(guild_id, one, marks=(mark(2, source),))
    [row], _ = await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0)
    assert row.action_status == "done"


# -- all or nothing -----------------------------------------------------------------------------------


async def test_a_commit_that_fails_leaves_nothing(stores: Stores, host: Host, guild_id: int) -> None:
    """A text that cannot be stored is refused for good, and nothing of its commit is there."""
    source = f"s{guild_id}"
    bad = violation(guild_id, 2, excerpt="a\0b")
    with pytest.raises(EventRefused, match=r"(?i)NUL|0x00"):
        await host.tell(
            guild_id,
            described(guild_id),
            MessagesCounted(guild_id, NOON_MS, 1),
            violation(guild_id, 1),
            bad,
            marks=(mark(1, source),),
            gaps=((source, Gap(1, 2, 3)),),
        )
    assert await stores.guilds.load_guilds([guild_id], 0) == {}
    assert await stores.guilds.taken_number(source) == 0
    assert await stores.books.violations(guild_id) == []
    assert await stores.books.gaps(source) == []


async def test_gaps_are_kept(stores: Stores, host: Host) -> None:
    """What was lost stays on record, with its reason."""
    source = f"s{fresh_id()}"
    await host.commit(gaps=((source, Gap(1, 2, 3)), (source, Gap(4, 5, 0, "blind"))))
    assert await stores.books.gaps(source) == [(3, "overflow"), (0, "blind")]


async def test_a_fenced_host_writes_nothing(stores: Stores, guild_id: int) -> None:
    """From the moment its successor registered; a host that never registered neither."""
    host_id, source = f"host{guild_id}", f"s{guild_id}"
    first = await stores.begin(host_id)
    await first.tell(guild_id, MessagesCounted(guild_id, NOON_MS, 1))
    second = await stores.begin(host_id)
    assert second.incarnation.number > first.incarnation.number
    never = Host(stores, second.incarnation.__class__("never", 1))
    for fenced in (first, never):
        with pytest.raises(Fenced):
            await fenced.tell(guild_id, violation(guild_id), marks=(mark(1, source),))
    assert await stores.guilds.taken_number(source) == 0
    await second.tell(guild_id, MessagesCounted(guild_id, NOON_MS, 1))
    assert await stores.dashboard.hours(guild_id, 0) == [HourCounts(NOON_MS, messages=2)]


async def test_an_incarnation_is_never_given_twice(stores: Stores) -> None:
    """Not even to different hosts at once."""
    hosts = await asyncio.gather(*(stores.begin(f"host{fresh_id()}") for _ in range(20)))
    assert len({host.incarnation.number for host in hosts}) == 20


async def test_placements_are_numbered_on(stores: Stores) -> None:
    """The highest version written is the one that is found, with the guilds that have a host of their own."""
    last = await stores.guilds.last_placement()
    version = last.version if last else 0
    director = await stores.guilds.register_director()
    newest = signed(director, place(version + 12, ["a", "b", "own"], {MAX_SNOWFLAKE: "own", 1: "own"}))
    for placement in (newest, signed(director, place(version + 2, ["a"]))):
        await stores.guilds.write_placement(placement)
    assert await stores.guilds.last_placement() == newest


async def test_a_placement_that_is_written_stays(stores: Stores) -> None:
    """A second one of its version is refused as such, and the store goes on."""
    last = await stores.guilds.last_placement()
    director = await stores.guilds.register_director()
    first = signed(director, place((last.version if last else 0) + 1, ["a"], {1: "own"}))
    await stores.guilds.write_placement(first)
    for second in (signed(director, place(first.version, ["b"])), first):
        with pytest.raises(PlacementTaken, match=f"Placement {first.version} "):
            await stores.guilds.write_placement(second)
    assert await stores.guilds.last_placement() == first


async def test_only_the_newest_director_writes(stores: Stores) -> None:
    """An older one's placement is refused as such, its hosts do not begin, and it ends none."""
    last = await stores.guilds.last_placement()
    version = (last.version if last else 0) + 1
    old = await stores.guilds.register_director()
    host = await stores.guilds.register_host(name := f"host{fresh_id()}", "actor", old)
    new = await stores.guilds.register_director()
    assert new > old
    with pytest.raises(Fenced):
        await stores.guilds.write_placement(signed(old, place(version, ["a"])))
    with pytest.raises(Fenced):
        await stores.guilds.register_host(name, "another", old)
    with pytest.raises(Fenced):
        await stores.guilds.retire_host(name, old)
    assert await stores.guilds.last_placement() == last
    assert HostRow(name, host.number, "actor") in await stores.guilds.hosts()
    await stores.guilds.write_placement(signed(new, place(version, ["a"])))
    assert (await stores.guilds.register_host(name, "another", new)).number > host.number
    await stores.guilds.retire_host(name, new)


def signed(director: int, placement: Placement) -> Placement:
    return replace(placement, director=director)


async def test_hosts_that_write_the_same_people_wait_for_each_other(stores: Stores) -> None:
    """Many hosts, many commits, the same people in different orders: each is made, none is a deadlock."""
    people = [person(fresh_id()) for _ in range(30)]
    hosts = await asyncio.gather(*(stores.begin(f"host{fresh_id()}") for _ in range(6)))

    async def write(host: Host, turn: int) -> None:
        for step in range(8):
            start = (turn * 7 + step * 11) % len(people)
            names = [*people[start:], *people[:start]]
            if turn % 2:
                names.reverse()
            users = tuple(person(p.user_id, display_name=f"{turn}.{step}") for p in names)
            await host.commit(users=users)

    await asyncio.wait_for(asyncio.gather(*(write(host, turn) for turn, host in enumerate(hosts))), 30)


async def test_hosts_are_known_until_they_retire(stores: Stores) -> None:
    """Each by its newest life and that life's actor; retired it can write nothing, and may begin again."""
    name, source = f"host{fresh_id()}", f"s{fresh_id()}"

    async def known() -> list[HostRow]:
        rows = await stores.guilds.hosts()
        assert [row.host_id for row in rows] == sorted(row.host_id for row in rows)
        return [row for row in rows if row.host_id.startswith(name)]

    first = await stores.begin(name, "actor-1")
    other = await stores.begin(f"{name}b")
    assert await known() == [
        HostRow(name, first.incarnation.number, "actor-1"),
        HostRow(f"{name}b", other.incarnation.number, ""),
    ]
    second = await stores.begin(name, "actor-2")
    assert (await known())[0] == HostRow(name, second.incarnation.number, "actor-2")
    await stores.guilds.retire_host(name)
    await stores.guilds.retire_host("nobody")
    assert [row.host_id for row in await known()] == [f"{name}b"]
    for retired in (first, second):
        with pytest.raises(Fenced):
            await retired.commit(marks=(mark(1, source),))
    third = await stores.begin(name, "actor-3")
    assert third.incarnation.number > second.incarnation.number
    await third.commit(marks=(mark(1, source),))
    assert (await known())[0].actor_name == "actor-3"


# -- what is refused ----------------------------------------------------------------------------------

POISON = PoisonEvent("s", 7, 1, "Ünïcode ✨", b"\x00\xff")


async def test_what_is_set_aside_stays_until_it_is_settled(stores: Stores, host: Host) -> None:
    """Oldest first, as it was; of a guild or of none; an id is never given twice."""
    before = {row.poison_id for row in await stores.guilds.poison(limit=1_000)}

    async def rows(limit: int = 1_000) -> list[PoisonRow]:
        return [row for row in await stores.guilds.poison(limit=limit) if row.poison_id not in before]

    events = [replace(POISON, number=number, guild_id=number % 2 or None) for number in (1, 2, 3)]
    await host.commit(poison=tuple(events[:2]))
    await host.commit(poison=(events[2],))
    found = await rows()
    assert [row.event for row in found] == events
    assert len(await stores.guilds.poison(limit=1)) == 1
    await stores.guilds.settle_poison(found[2].poison_id)
    await stores.guilds.settle_poison(found[0].poison_id)
    assert [row.event for row in await rows()] == [events[1]]
    await host.commit(poison=(events[0],))
    [kept, again] = await rows()
    assert kept == found[1]
    assert again.poison_id not in {row.poison_id for row in found}
    assert await stores.guilds.find_poison(kept.poison_id) == kept
    for gone in (found[0].poison_id, again.poison_id + 1, 0, -1):
        assert await stores.guilds.find_poison(gone) is None
    for row in (kept, again):
        await stores.guilds.settle_poison(row.poison_id)


async def test_what_is_set_aside_is_found_by_its_source(stores: Stores, host: Host) -> None:
    """As long as it is not settled; the limit counts what is of the source."""
    source = f"poison-{fresh_id()}"
    others, own = replace(POISON, source=f"{source}0"), replace(POISON, source=source)
    await host.commit(poison=(others, own, own))
    first, second = await stores.guilds.poison(limit=10, source=source)
    assert (first.event, second.event) == (own, own)
    assert await stores.guilds.poison(limit=1, source=source) == [first]
    await stores.guilds.settle_poison(first.poison_id)
    assert await stores.guilds.poison(limit=1, source=source) == [second]
    [other] = await stores.guilds.poison(limit=10, source=others.source)
    for row in (second, other):
        await stores.guilds.settle_poison(row.poison_id)
    assert await stores.guilds.poison(limit=10, source=source) == []


REFUSED: dict[str, dict[str, Any]] = {
    "excerpt": {"event": violation(5, excerpt="a\0b")},
    "channel": {"event": violation(5, channel_name="a\0b")},
    "person": {"event": violation(5, user=person(5, display_name="a\0b"))},
    "guild's name": {"event": described(5, name="a\0b")},
    "icon": {"event": described(5, icon_url="a\0b")},
    "members": {"event": described(5, member_count=2**31)},
    "owner": {"event": described(5, owner_id=2**63)},
    "messages": {"event": MessagesCounted(5, NOON_MS, 2**63)},
    "far ahead": {"event": violation(5, ts_ms=10**18)},
    "long ago": {"event": MemberLeft(5, 5, -(10**18))},
    "an action far ahead": {"event": ActionSettled(5, violation(5).event_id, 10**18, "done")},
    "an answer far ahead": {"event": ActionSettled(5, violation(5).event_id, NOON_MS, "done", 10**18)},
    "gap": {"gaps": (("s", Gap(NOON_MS, 10**18, 1)),)},
    "gap's reason": {"gaps": (("s", Gap(1, 2, 3, "a\0b")),)},
    "lost": {"gaps": (("s", Gap(1, 2, 2**63)),)},
    "source": {"marks": (mark(1, "a\0b"),)},
    "number": {"marks": (mark(2**63, "large"),)},
    "poison": {"poison": (replace(POISON, reason="a\0b"),)},
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_can_never_be_stored_is_refused(
    stores: Stores, host: Host, guild_id: int, what: str
) -> None:
    """By the commit and by the probe, and the store goes on."""
    others = dict(REFUSED[what])
    events = [replace(event, guild_id=guild_id)] if (event := others.pop("event", None)) else []
    _, effects = apply_all(GuildState(guild_id), events)
    for attempt in (host.commit, host.probe):
        with pytest.raises(EventRefused):
            await attempt(*effects, **others)
    await host.tell(guild_id, MessagesCounted(guild_id, NOON_MS, 1))
    assert await stores.dashboard.hours(guild_id, 0) == [HourCounts(NOON_MS, messages=1)]


async def test_a_refusal_does_not_quote_what_it_refuses(stores: Stores, host: Host, guild_id: int) -> None:
    """Its reason goes to the log and into a table, where nobody's words belong; nor does its cause."""
    written = "my secret words"
    refusals: list[dict[str, Any]] = [{"excerpt": f"{written}\0"}, {"excerpt": written, "ts_ms": 10**18}]
    if isinstance(stores.guilds, PostgresGuildStore):
        # With these it quotes the whole row, and the value.
        refusals += [{"excerpt": written, "action_status": "odd"}, {"excerpt": written, "channel_id": 2**70}]
    for refused in refusals:
        _, effects = apply_all(GuildState(guild_id), [replace(violation(guild_id), **refused)])
        with pytest.raises(EventRefused) as caught:
            await host.probe(*effects)
        shown = "".join(traceback.format_exception(caught.value))
        assert written not in shown


async def test_no_source_has_a_name_that_cannot_be_stored(stores: Stores) -> None:
    """Asked for its number, the store refuses, as it refuses the mark."""
    with pytest.raises(EventRefused):
        await stores.guilds.taken_number("a\0b")


async def test_a_probe_writes_nothing(stores: Stores, host: Host, guild_id: int) -> None:
    """It succeeds where the commit would, raises what that would raise, and leaves no trace."""
    source = f"s{guild_id}"
    before = await stores.guilds.poison(limit=1_000)
    one = violation(guild_id)
    events: list[Event] = [described(guild_id), MessagesCounted(guild_id, NOON_MS, 1), one]
    _, effects = apply_all(GuildState(guild_id), events)
    told: dict[str, Any] = {
        "marks": (mark(1, source),),
        "gaps": ((source, Gap(1, 2, 3)),),
        "poison": (POISON,),
    }
    for _ in range(2):
        await host.probe(*effects, **told)
    assert await stores.guilds.load_guilds([guild_id], 0) == {}
    assert await stores.guilds.taken_number(source) == 0
    assert await stores.books.violations(guild_id) == []
    assert await stores.books.gaps(source) == []
    assert await stores.guilds.poison(limit=1_000) == before
    assert (await host.commit(*effects, marks=told["marks"])).new_violations == {one.event_id}
    with pytest.raises(BatchTaken):
        await host.probe(*effects, **told)
    await stores.begin(host.incarnation.host_id)
    with pytest.raises(Fenced):
        await host.probe()


# -- rollups ------------------------------------------------------------------------------------------

numbers = st.integers(1, 12)
severities = st.sampled_from(SEVERITIES)
commits = st.lists(st.lists(st.tuples(numbers, severities), max_size=8), min_size=1, max_size=5)


async def _rollups_equal_rows(stores: Stores, told: list[list[tuple[int, str]]]) -> None:
    guild_id = fresh_id()
    host = await stores.begin(f"host{guild_id}")
    first: dict[int, str] = {}
    messages = 0
    for batch in told:
        events: list[Event] = [MessagesCounted(guild_id, NOON_MS, len(batch))]
        messages += len(batch)
        for number, severity in batch:
            changes: dict[str, Any] = {"severity": severity, "ts_ms": NOON_MS + number % 3 * HOUR_MS}
            events.append(violation(guild_id, number, **changes))
            first.setdefault(number, severity)
        committed = await host.tell(guild_id, *events)
        assert committed.new_violations <= {e.event_id for e in events if isinstance(e, ViolationDetected)}
    rows = Counter((hour_start(ts), severity) for ts, severity in await stores.books.violations(guild_id))
    hours = await stores.dashboard.hours(guild_id, 0)
    counted = Counter({(hour.hour_ms, name): getattr(hour, name) for hour in hours for name in SEVERITIES})
    assert +counted == rows == Counter((NOON_MS + n % 3 * HOUR_MS, severity) for n, severity in first.items())
    assert sum(hour.messages for hour in hours) == messages
    assert (await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0))[1] == len(first)


@settings(SHARED, max_examples=50)
@given(told=commits)
async def test_rollups_equal_rows_in_memory(told: list[list[tuple[int, str]]]) -> None:
    """Whatever is told, however often: hourly counts are the rows, counted; messages are all counted."""
    await _rollups_equal_rows(memory_stores(), told)


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
@settings(SHARED, max_examples=20)
@given(told=commits)
async def test_rollups_equal_rows_in_postgres(stores: Stores, told: list[list[tuple[int, str]]]) -> None:
    """The same on the real database."""
    await _rollups_equal_rows(stores, told)


# -- away ---------------------------------------------------------------------------------------------


async def test_a_database_that_cannot_be_used_is_away(postgres_dsn: str) -> None:
    """Calls say ``StoreUnavailable``, and the pool finds its way back by itself; a standby is away too."""
    stores, opened = await postgres_stores(postgres_dsn)
    host = await stores.begin(f"host{fresh_id()}")
    other = await asyncpg.connect(postgres_dsn)
    await other.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'guildhall'"
    )
    for call in (host.commit, stores.dashboard.ping):
        for _ in range(10):
            try:
                await call()
                break
            except StoreUnavailable:
                continue
        else:
            pytest.fail("it did not come back")
    await other.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
    standby, more = await postgres_stores(postgres_dsn)
    await standby.guilds.hosts()  # it connects when it is first asked
    await other.execute("SET default_transaction_read_only = off; ALTER ROLE CURRENT_USER RESET ALL")
    with pytest.raises(StoreUnavailable):
        await standby.guilds.register_host("h0")
    await other.close()
    for store in (*opened, *more):
        await store.close()


async def test_a_host_that_froze_in_a_transaction_does_not_keep_its_successor_waiting(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds its row and says nothing more: Postgres ends it, the successor registers, and it is fenced."""
    monkeypatch.setattr(postgres, "IDLE_IN_TRANSACTION_MS", 300)
    frozen = await PostgresGuildStore.open(postgres_dsn)
    name = f"host{fresh_id()}"
    old = await frozen.register_host(name)
    async with frozen._pool.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        held = await connection.fetchval("SELECT incarnation FROM hosts WHERE host_id = $1 FOR SHARE", name)
        assert held == old.number
        other = await PostgresGuildStore.open(postgres_dsn)
        async with asyncio.timeout(10):
            new = await other.register_host(name)
        assert new.number > old.number
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)):
            await connection.fetchval("SELECT 1")
    with pytest.raises(Fenced):
        await Host(memory_stores()._replace(guilds=frozen), old).commit()
    await frozen.close()
    await other.close()


async def test_a_commit_in_doubt_is_waited_for(postgres_dsn: str) -> None:
    """Whoever asks for its number is answered when its transaction has ended, and then knows of it."""
    name = f"doubt{fresh_id()}"
    store = await PostgresGuildStore.open(postgres_dsn)
    incarnation = await store.register_host(name)
    try:
        async with store._pool.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT 1 FROM hosts WHERE host_id = $1 FOR SHARE", name)
            await connection.execute("INSERT INTO ingest_sources (source, number) VALUES ($1, 7)", name)
            asking = asyncio.create_task(store.settled_number(incarnation, name))
            assert await store.taken_number(name) == 0
            done, _ = await asyncio.wait({asking}, timeout=0.2)
            assert done == set()
            await transaction.commit()
        assert await asyncio.wait_for(asking, 5) == 7
    finally:
        await store.close()
