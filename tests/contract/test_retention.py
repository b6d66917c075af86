"""One suite for what is deleted because it is old, in Postgres and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import cycle

import asyncpg
import pytest
from msgspec.structs import replace

from adapters import retention
from adapters.memory import database
from adapters.memory.samples import violation
from domain.audit import Change
from domain.events import SEVERITIES, ActionSettled, MessagesCounted
from domain.ids import HOUR_MS, hour_start
from domain.insights import Wanted
from domain.placement import place
from tests.contract.stores import Host, Stores, fresh_id, memory_stores, postgres_stores

DAY_MS = 24 * HOUR_MS
BY = Change(77, None)


def at(month: int, day: int, hour: int = 0) -> int:
    """Return a time in a year of which no other test has rows."""
    return int(datetime(2003, month, day, hour, tzinfo=UTC).timestamp()) * 1000


NOW_MS = at(6, 20, 12)


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield memory_stores()
        return
    found, opened = await postgres_stores(postgres_dsn)
    yield found
    for store in opened:
        await store.close()


@pytest.fixture
def guild_id() -> int:
    return fresh_id()


@pytest.fixture
async def host(stores: Stores) -> Host:
    return await stores.begin(f"host{fresh_id()}")


async def tell(stores: Stores, host: Host, guild_id: int, *times: int) -> None:
    """Commit a violation of some severity at each of the times, each with a message and a review."""
    for ts_ms, severity in zip(times, cycle(SEVERITIES), strict=False):
        one = violation(guild_id, ts_ms // 1000, ts_ms=ts_ms, severity=severity)
        await host.tell(guild_id, one, MessagesCounted(guild_id, ts_ms, 1))
        assert await stores.insights.review(
            guild_id, one.event_id, "confirmed", None, from_version=0, change=BY
        )


async def left(stores: Stores, guild_id: int) -> list[int]:
    """Return the times of what is left; totals, hours and reviews must say the same."""
    ask = stores.insights.violations
    rows, total = await ask(guild_id, Wanted(), limit=1_000, offset=0)
    assert total == len(rows)
    for wanted in (Wanted(), Wanted(review="reviewed"), Wanted(rule="invite-links")):
        # By a page that is full, so that the total is counted.
        assert (await ask(guild_id, wanted, limit=1, offset=0))[1] == total
    hours = await stores.dashboard.hours(guild_id, 0)
    for severity in SEVERITIES:
        assert sum(getattr(hour, severity) for hour in hours) == [row.severity for row in rows].count(
            severity
        )
    return sorted(row.ts for row in rows)


async def forget(stores: Stores, days: int) -> int:
    """Forget until there is nothing more; return how often it took."""
    times = 1
    async with asyncio.timeout(30):
        while await stores.guilds.forget(NOW_MS, days):
            times += 1
    return times


@pytest.mark.parametrize("made", [True, False], ids=["months", "default"])
async def test_months_go_when_all_of_them_is_old(
    stores: Stores, host: Host, guild_id: int, made: bool
) -> None:
    """With hours and reviews; the month in which the last day to keep lies stays whole."""
    if made:
        for month in range(1, 6):
            await stores.guilds.ensure_partitions(at(month, 1))
    times = [at(1, 5), at(4, 30, 23), at(5, 1), at(5, 20), at(5, 22), NOW_MS]
    await tell(stores, host, guild_id, *times)
    await forget(stores, 365)
    assert await left(stores, guild_id) == times
    await forget(stores, 30)
    assert await left(stores, guild_id) == times[2:]
    hours = await stores.dashboard.hours(guild_id, 0)
    assert [hour.hour_ms for hour in hours] == times[2:]
    assert sum(hour.messages for hour in hours) == 4


async def test_a_guild_may_keep_its_violations_for_less_time(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """To the millisecond, and the other guilds keep theirs; messages are still counted."""
    other = fresh_id()
    times = [at(5, 3), NOW_MS - 7 * DAY_MS - 1, NOW_MS - 7 * DAY_MS, NOW_MS]
    for one in (guild_id, other):
        await tell(stores, host, one, *times)
    await stores.books.keep_for(guild_id, 7)
    await forget(stores, 365)
    assert await left(stores, guild_id) == times[2:]
    assert await left(stores, other) == times
    assert sum(hour.messages for hour in await stores.dashboard.hours(guild_id, 0)) == 4
    assert await stores.insights.violation(guild_id, violation(guild_id, times[0] // 1000).event_id) is None


@pytest.mark.parametrize("days", [365, 366, 3650])
async def test_no_guild_keeps_longer_than_the_installation(
    stores: Stores, host: Host, guild_id: int, days: int
) -> None:
    """What it may configure is less."""
    times = [at(5, 30), NOW_MS]
    await tell(stores, host, guild_id, *times)
    await stores.books.keep_for(guild_id, days)
    await forget(stores, 365)
    assert await left(stores, guild_id) == times


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
@pytest.mark.parametrize("days", [10**12, -(10**12), 0, -5, "7", None, [7], True])
async def test_nonsense_in_a_configuration_deletes_nothing(
    stores: Stores, host: Host, guild_id: int, days: object
) -> None:
    """And keeps nobody else's violations from being deleted."""
    times = [at(5, 30), NOW_MS]
    for one in (guild_id, other := fresh_id()):
        await tell(stores, host, one, *times)
    await stores.books.keep_for(guild_id, days)
    await stores.books.keep_for(other, 7)
    await forget(stores, 365)
    assert await left(stores, guild_id) == times
    assert await left(stores, other) == times[1:]


async def test_actions_whose_violation_never_came_go(stores: Stores, host: Host, guild_id: int) -> None:
    """When they are as old as violations that go; younger ones wait on."""
    ages = (31 * DAY_MS, 30 * DAY_MS + 1, 30 * DAY_MS, 0)
    lost = [violation(guild_id, number, ts_ms=NOW_MS - age_ms) for number, age_ms in enumerate(ages, 1)]
    await host.tell(guild_id, *(ActionSettled(guild_id, one.event_id, one.ts_ms, "done") for one in lost))
    assert await stores.books.early_actions(*lost) == 4
    await forget(stores, 30)
    assert await stores.books.early_actions(*lost) == 2
    committed = await host.tell(guild_id, *lost)
    assert {view.id for view in committed.settled} == {one.event_id for one in lost[2:]}


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
async def test_they_go_a_little_at_a_time(
    stores: Stores, host: Host, guild_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many have waited."""
    lost = [violation(guild_id, number, ts_ms=at(1, 1, number)) for number in range(1, 12)]
    await host.tell(guild_id, *(ActionSettled(guild_id, one.event_id, one.ts_ms, "done") for one in lost))
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    monkeypatch.setattr(retention, "_TURN_S", 0)
    left = [await stores.books.early_actions(*lost)]
    while await stores.guilds.forget(NOW_MS, 30):
        left.append(await stores.books.early_actions(*lost))
    assert left == [11, 7, 3]
    assert await stores.books.early_actions(*lost) == 0


async def test_of_placements_the_latest_are_kept(
    stores: Stores, guild_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; the one that holds is among them."""
    for module in (retention, database):
        monkeypatch.setattr(module, "PLACEMENTS_KEPT", 3)
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    last = await stores.guilds.last_placement()
    version, director = last.version if last else 0, await stores.guilds.register_director()
    for number in range(1, 9):
        placed = place(version + 2 * number, ["a", "b"], {guild_id: "b"})
        await stores.guilds.write_placement(replace(placed, director=director))
    await forget(stores, 365)
    assert await stores.books.placements() == [version + 2 * number for number in (6, 7, 8)]
    assert await stores.guilds.last_placement() == replace(placed, director=director)


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
async def test_it_is_deleted_a_little_at_a_time(
    stores: Stores, host: Host, guild_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is counted is what is there, after every step."""
    times = [at(5, 2, hour) for hour in range(11)]
    await tell(stores, host, guild_id, *times)
    await stores.books.keep_for(guild_id, 7)
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    monkeypatch.setattr(retention, "_TURN_S", 0)
    sizes = [len(await left(stores, guild_id))]
    while await stores.guilds.forget(NOW_MS, 365):
        sizes.append(len(await left(stores, guild_id)))
    assert sizes == [11, 7, 3]
    assert await left(stores, guild_id) == []


_PEOPLE = """
SELECT (extract(epoch FROM hour) * 1000)::bigint, sum(people)::int, sum(escalated)::int
FROM violation_people_hours WHERE guild_id = $1 GROUP BY hour ORDER BY hour
"""


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
async def test_what_belongs_to_old_months_goes_a_little_at_a_time(
    stores: Stores, host: Host, guild_id: int, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    """And is not to be seen from the first step on, wherever they break off: the next one goes on there."""
    await forget(stores, 365)
    monkeypatch.setattr(retention, "BATCH_ROWS", 4)
    monkeypatch.setattr(retention, "_TURN_S", 0)
    await stores.guilds.ensure_partitions(at(2, 1))
    guilds = [guild_id, *(fresh_id() for _ in range(3))]
    for one in guilds:
        await tell(stores, host, one, *(at(2, 5, hour) for hour in range(3)), NOW_MS)
    rows = await asyncpg.connect(postgres_dsn)
    hours, steps = [], 0
    while await stores.guilds.forget(NOW_MS, 30):
        hours.append(
            await rows.fetchval(
                "SELECT count(*) FROM metrics_hourly WHERE guild_id = ANY ($1::bigint[])", guilds
            )
        )
        steps += 1
        for one in guilds:
            assert await left(stores, one) == [NOW_MS]
    for one in guilds:
        # The person's last violation is elsewhere by now; the one after which they got worse is still known.
        assert [tuple(row) for row in await rows.fetch(_PEOPLE, one)] == [
            (at(2, 5, 1), 0, 1),
            (hour_start(NOW_MS), 1, 0),
        ]
    await rows.close()
    assert steps > 3
    assert hours[0] > hours[-1] >= 4
    for one in guilds:
        assert [hour.hour_ms for hour in await stores.dashboard.hours(one, 0)] == [NOW_MS]


async def test_months_in_use_go_another_time(postgres_dsn: str, guild_id: int) -> None:
    """Somebody reads: nobody is kept waiting behind that, and nothing is half done."""
    stores, opened = await postgres_stores(postgres_dsn)
    host = await stores.begin(f"host{guild_id}")
    await forget(stores, 365)
    await stores.guilds.ensure_partitions(at(2, 1))
    await tell(stores, host, guild_id, at(2, 5), NOW_MS)
    reader = await asyncpg.connect(postgres_dsn)
    try:
        async with reader.transaction():
            await reader.fetch("SELECT 1 FROM violations LIMIT 1")
            assert await forget(stores, 30) == 1
            assert await left(stores, guild_id) == [at(2, 5), NOW_MS]
        await forget(stores, 30)
        assert await left(stores, guild_id) == [NOW_MS]
    finally:
        await reader.close()
        for store in opened:
            await store.close()
