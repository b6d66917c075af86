"""The rollups that answers are made of say what counting the rows says, whatever happens to the rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from adapters import migrate, offenders, retention, rollups
from adapters.guild_store import PostgresGuildStore
from adapters.insight_store import PostgresInsightStore
from adapters.memory.samples import person, violation
from adapters.queries import load_queries
from domain.audit import Change
from domain.errors import EventRefused, Fenced
from domain.events import SEVERITIES, ActionSettled
from domain.ids import HOUR_MS
from domain.insights import Span, Wanted
from tests.contract.stores import Host, Stores, fresh_id, postgres_stores

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
DIFFERENCES = load_queries("rollups.sql")["differences"]
BY = Change(77, None)
DAY_MS = 24 * HOUR_MS
NOW_MS = int(datetime(2011, 6, 2, 12, tzinfo=UTC).timestamp()) * 1000
"""Early in a month, in a year of which no other test has rows: what is days apart is in two months."""


@pytest.fixture(scope="module")
async def stores(postgres_dsn: str) -> AsyncIterator[Stores]:
    found, opened = await postgres_stores(postgres_dsn)
    await found.guilds.ensure_partitions(NOW_MS)
    yield found
    for store in opened:
        await store.close()


@pytest.fixture
async def rows(postgres_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def differences(rows: asyncpg.Connection, *guild_ids: int) -> list[tuple[Any, ...]]:
    """Return what a rollup of these guilds says otherwise than the rows; of all guilds without one."""
    found = await rows.fetch(DIFFERENCES)
    return [tuple(row) for row in found if not guild_ids or row["guild_id"] in guild_ids]


async def late_people(rows: asyncpg.Connection, guild_id: int) -> int:
    return int(
        await rows.fetchval("SELECT count(*) FROM violation_people WHERE guild_id = $1 AND late", guild_id)
    )


_one = st.builds(
    dict,
    user=st.integers(1, 3).map(person),
    rule=st.sampled_from(["a", "b"]),
    severity=st.sampled_from(SEVERITIES),
    # Five minutes apart; some at the same time, some in the month before.
    ts_ms=st.one_of(st.integers(-6, 6), st.sampled_from([-700, -2_000])).map(
        lambda at: NOW_MS + at * 300_000
    ),
    action_status=st.sampled_from(["pending", "none"]),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.lists(_one, min_size=1, max_size=6)),
        st.tuples(st.just("settle"), st.lists(st.integers(1, 20), max_size=4)),
        st.tuples(st.just("resend"), st.lists(st.integers(1, 20), max_size=4)),
        st.tuples(st.just("refused"), st.lists(_one, min_size=1, max_size=3)),
        st.tuples(st.just("fenced"), st.lists(_one, min_size=1, max_size=3)),
        st.tuples(st.just("review"), st.integers(1, 20)),
        st.tuples(st.just("delete"), st.integers(1, 20)),
        st.tuples(st.just("forget"), st.sampled_from([1, 5])),
        st.tuples(st.just("recount"), st.none()),
    ),
    max_size=8,
)


class _Life:
    """What a test does to one guild: all that can happen to rows."""

    def __init__(self, stores: Stores, host: Host, rows: asyncpg.Connection) -> None:
        self.guild_id = fresh_id()
        self._stores, self._host, self._rows = stores, host, rows
        self._made: list[Any] = []

    def _make(self, changes: list[dict[str, Any]]) -> list[Any]:
        made = []
        for change in changes:
            self._made.append(violation(self.guild_id, len(self._made) + 1, **change))
            made.append(self._made[-1])
        return made

    def _some(self, numbers: list[int]) -> list[Any]:
        return [self._made[number - 1] for number in numbers if number <= len(self._made)]

    async def tell(self, changes: list[dict[str, Any]]) -> None:
        await self._host.tell(self.guild_id, *self._make(changes))

    async def settle(self, numbers: list[int]) -> None:
        told = [
            ActionSettled(self.guild_id, one.event_id, one.ts_ms, "done" if one.message_id % 2 else "failed")
            for one in self._some(numbers)
        ]
        await self._host.tell(self.guild_id, *told)

    async def resend(self, numbers: list[int]) -> None:
        await self._host.tell(self.guild_id, *self._some(numbers))

    async def refused(self, changes: list[dict[str, Any]]) -> None:
        """Tell with what is refused whole; find out which it is by probing, as a host does."""
        made = self._make(changes)
        bad = replace(violation(self.guild_id, 10_000), excerpt="a\0b")
        with pytest.raises(EventRefused):
            await self._host.tell(self.guild_id, *made, bad)
        await self._host.probe()

    async def fenced(self, changes: list[dict[str, Any]]) -> None:
        """Tell, and then again in another life, after the first has tried once more."""
        made = self._make(changes)
        again = await self._stores.begin(self._host.incarnation.host_id)
        with pytest.raises(Fenced):
            await self._host.tell(self.guild_id, *made)
        self._host = again
        await self._host.tell(self.guild_id, *made)

    async def review(self, number: int) -> None:
        for one in self._some([number]):
            await self._stores.insights.review(
                self.guild_id, one.event_id, "confirmed", None, from_version=0, change=BY
            )

    async def delete(self, number: int) -> None:
        """As an operator does who must."""
        await self._rows.execute(
            "DELETE FROM violations WHERE guild_id = $1 AND message_id = $2", self.guild_id, number
        )

    async def forget(self, days: int) -> None:
        await self._stores.books.keep_for(self.guild_id, days)
        while await self._stores.guilds.forget(NOW_MS + HOUR_MS, 3_650):
            pass

    async def recount(self, _: None) -> None:
        while await self._stores.guilds.roll_up():
            pass
        assert await late_people(self._rows, self.guild_id) == 0


@SHARED
@given(_steps)
async def test_they_are_equal_after_every_step(
    stores: Stores, rows: asyncpg.Connection, steps: list[tuple[str, Any]]
) -> None:
    """Late, doubled, refused, fenced, settled, reviewed, forgotten or deleted by hand."""
    life = _Life(stores, await stores.begin(f"host{fresh_id()}"), rows)
    for name, what in [*steps, ("recount", None)]:
        await getattr(life, name)(what)
        assert await differences(rows, life.guild_id) == []


async def test_answers_from_rollups_and_from_rows_are_the_same(
    stores: Stores, rows: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of people whose rows came in order, and of those who must be asked; over the end of a month too."""
    guild_id = fresh_id()
    host = await stores.begin(f"host{guild_id}")
    for number in range(1, 400):
        at_ms = NOW_MS + (number * 7_919 % 1_000 - 900) * 300_000
        await host.tell(
            guild_id,
            violation(
                guild_id,
                number,
                # Few have very many, some have some.
                user=person(number * number % 11 + 1 if number % 3 else number % 37 + 100),
                severity=SEVERITIES[number * 31 % 4],
                ts_ms=at_ms,
            ),
        )
    spans = [
        Span(NOW_MS + since * HOUR_MS, NOW_MS + until * HOUR_MS)
        for since, until in ((-80, 20), (-30, -10), (-36, 100), (0, 3))
    ]

    async def people() -> list[Any]:
        ask = stores.insights
        return [
            (
                await ask.escalated(guild_id, span),
                *[
                    await ask.offenders(guild_id, span, limit=limit, offset=offset)
                    for limit, offset in ((3, 0), (2, 3), (50, 0), (5, 30), (1, 99))
                ],
            )
            for span in spans
        ]

    with monkeypatch.context() as by_rows:
        by_rows.setattr(offenders, "FEW_ROWS", 10**6)
        by_rows.setattr(offenders, "MAX_ASKED", -1)
        of_rows = await people()
    monkeypatch.setattr(offenders, "FEW_ROWS", -1)
    assert await late_people(rows, guild_id) > 0
    assert await people() == of_rows
    await stores.guilds.roll_up()
    assert await late_people(rows, guild_id) == 0
    assert await people() == of_rows
    for name in ("MAX_CANDIDATES", "MAX_ASKED"):
        monkeypatch.setattr(offenders, name, 1)
        assert await people() == of_rows


async def test_hosts_and_retention_at_once_lose_no_count(
    stores: Stores, rows: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late violations come in while old ones go and are recounted, of the same people and hours."""
    monkeypatch.setattr(retention, "BATCH_ROWS", 3)
    guild_id = fresh_id()
    host = await stores.begin(f"host{guild_id}")
    await stores.books.keep_for(guild_id, 1)

    async def tell(first: int) -> None:
        for number in range(first, first + 40):
            age_ms = number % 5 * 20 * HOUR_MS
            await host.tell(guild_id, violation(guild_id, number, user=person(1), ts_ms=NOW_MS - age_ms))

    async def forget() -> None:
        for _ in range(20):
            await stores.guilds.forget(NOW_MS, 3_650)
            await stores.guilds.roll_up()

    await asyncio.gather(tell(1), forget())
    assert await differences(rows, guild_id) == []


# -- an upgrade -----------------------------------------------------------------------------------


@pytest.fixture
async def earlier(empty: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the DSN of a database without rollups, in which stores of today can write."""
    others = [m for m in migrate.migrations() if m.version not in {10, 15}]
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda: others)
        await migrate.migrate(empty)
    return empty


async def test_what_was_there_is_counted_while_others_go_on(
    earlier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are right before, between and after; of a batch that breaks off nothing is counted twice."""
    monkeypatch.setattr(rollups, "_TURN_S", 0)
    monkeypatch.setattr(rollups, "BATCH_BLOCKS", 1)
    monkeypatch.setattr(offenders, "FEW_ROWS", -1)
    guilds = await PostgresGuildStore.open(earlier)
    await guilds.ensure_partitions(NOW_MS)
    insights = await PostgresInsightStore.open(earlier)
    connection = await asyncpg.connect(earlier)
    guild_id = fresh_id()
    host = Host(Stores(guilds, None, None, insights), await guilds.register_host("h"))  # type: ignore[arg-type]
    made = [
        violation(
            guild_id,
            number,
            user=person(number % 9 + 1),
            rule=f"rule{number % 3}",
            severity=SEVERITIES[number * 7 % 4],
            ts_ms=NOW_MS - number * 17 * 60_000,
        )
        for number in range(1, 301)
    ]
    stray = violation(guild_id, 999, ts_ms=NOW_MS - 5_000 * DAY_MS)
    span = Span(NOW_MS - 90 * HOUR_MS, NOW_MS + HOUR_MS)

    async def answers() -> list[Any]:
        ask = insights
        return [
            await ask.escalated(guild_id, span),
            await ask.offenders(guild_id, span, limit=4, offset=0),
            await ask.rules(guild_id, span),
            await ask.quarters(guild_id, span),
            [
                ([row.message_id for row in page], total)
                for wanted in (Wanted(), Wanted(rule="rule1"), Wanted(rule="rule2", severity="low"))
                for page, total in [await ask.violations(guild_id, wanted, limit=7, offset=3)]
            ],
        ]

    await host.tell(guild_id, *made[:280], stray)
    await migrate.migrate(earlier)
    assert (await connection.fetchval("SELECT count(*) FROM violations WHERE counted")) == 0
    before = await answers()
    steps = 0
    broke_off = connection.transaction()
    await broke_off.start()
    await connection.execute("SELECT count_earlier_violations(2)")
    await broke_off.rollback()
    while await guilds.roll_up():
        steps += 1
        assert await differences(connection) == []
        if steps == 2:
            assert await answers() == before
            # Of the release before, which knows nothing of rollups: rows come, settle and go.
            await host.tell(guild_id, *made[280:])
            settled = [ActionSettled(guild_id, one.event_id, one.ts_ms, "done") for one in made[::2]]
            await host.tell(guild_id, *settled)
            await connection.execute(
                "DELETE FROM violations WHERE message_id = ANY ($1::bigint[])", [1, 150, 299]
            )
            before = await answers()
            assert await differences(connection) == []
    assert steps > 3
    assert await differences(connection) == []
    assert await connection.fetchval("SELECT count(*) FROM violations WHERE NOT counted") == 0
    assert await connection.fetchval("SELECT count(*) FROM violation_people WHERE late") == 0
    assert await connection.fetchval("SELECT count(*) FROM violations_uncounted") == 0
    assert await answers() == before
    await connection.close()
    await insights.close()
    await guilds.close()
