"""Measures durable ingest: violations a second, from a shard's call to its acknowledgement after the commit.

Beside it, on the same tables and with rows from the same generator, what the plain driver does with the same
two statements and nothing else: no host, no fence, no marks. The subject and its peers take turns.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import itertools
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from adapters.clock import now_ms
from adapters.queries import load_queries
from benchmarks.one_host import connected, system
from benchmarks.result import Result, percentile
from domain.errors import ServiceFailed
from domain.events import (
    SEVERITIES,
    Accepted,
    Batch,
    Busy,
    UserRef,
    ViolationDetected,
    decode_reply,
    encode_batch,
)
from domain.ids import violation_id

if TYPE_CHECKING:
    from actors.handles import HostHandle

SECONDS = 5.0
ROUNDS = 3
SOURCES = 8
BATCH_EVENTS = 500
THOUSAND = 1_000
PACED_TURNS = 2
"""A turn at half load lasts so many times as long: its 99th percentile needs more than a hundred batches."""

GUILDS = 2_000
PEOPLE = 20_000

HOST = "host"
_FIRST_GUILD, _FIRST_PERSON, _FIRST_MESSAGE = 10**17, 3 * 10**17, 5 * 10**17
_SQL = load_queries("guild_store.sql")

_Columns = list[list[Any]]


class Load(NamedTuple):
    """What one turn did: rows that were acknowledged, in how long, and how long each batch took."""

    rows: int
    seconds: float
    latencies_ms: list[float]

    @property
    def rows_per_s(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


async def run(*, seconds: float = SECONDS, rounds: int = ROUNDS) -> Result:
    """Let the host and the plain driver take turns, each for some seconds a round; compare the medians."""
    made = Violations()
    async with system() as under_test, AsyncExitStack() as stack:
        shards = _Shards(await under_test.begin_host(), made)
        peers = [await stack.enter_async_context(asyncpg_peer(under_test.database_url, made))]
        if importlib.util.find_spec("psycopg") is not None:
            peers.append(await stack.enter_async_context(_psycopg_peer(under_test.database_url, made)))
        turns: dict[str, Callable[[float], Awaitable[Load]]] = {HOST: shards.saturate}
        for peer in peers:
            turns[f"{peer.driver}_thousand_rows"] = peer.by_thousands
            turns[f"{peer.driver}_one_row"] = peer.one_by_one
        loads: dict[str, list[Load]] = {name: [await turn(1.0)] for name, turn in turns.items()}  # warms up
        paced: list[Load] = []
        for _ in range(rounds):
            for name, turn in turns.items():
                loads[name].append(await turn(seconds))
            half = median(load.rows_per_s for load in loads[HOST][1:]) / 2
            paced.append(await shards.pace(PACED_TURNS * seconds, half))
        acknowledged = {name: sum(load.rows for load in done) for name, done in loads.items()}
        acknowledged[HOST] += sum(load.rows for load in paced)
        exact = await _compare(under_test.database_url, acknowledged)
    rates = {name: median(load.rows_per_s for load in done[1:]) for name, done in loads.items()}
    saturated = [ms for load in loads[HOST][1:] for ms in load.latencies_ms]
    halved = [ms for load in paced for ms in load.latencies_ms]
    figures: dict[str, Any] = {
        "rounds": rounds,
        "seconds_a_turn": seconds,
        "sources": SOURCES,
        "batch_events": BATCH_EVENTS,
        "rows_per_s": round(rates[HOST]),
        "ack_ms_p50": round(percentile(saturated, 0.5), 1),
        "ack_ms_p99": round(percentile(saturated, 0.99), 1),
        "half_load_rows_per_s": round(median(load.rows_per_s for load in paced)),
        "half_load_ack_ms_p50": round(percentile(halved, 0.5), 1),
        "half_load_ack_ms_p99": round(percentile(halved, 0.99), 1),
        "half_load_ack_ms_p99_by_round": [round(percentile(load.latencies_ms, 0.99), 1) for load in paced],
        **exact,
    }
    baseline: dict[str, Any] = {f"{name}_per_s": round(rate) for name, rate in rates.items() if name != HOST}
    # What the database itself did to a transaction now and then: no acknowledgement can do better.
    alone = [ms for load in loads["asyncpg_thousand_rows"][1:] for ms in load.latencies_ms]
    baseline["asyncpg_thousand_rows_ms_p50"] = round(percentile(alone, 0.5), 1)
    baseline["asyncpg_thousand_rows_ms_p99"] = round(percentile(alone, 0.99), 1)
    baseline["ratio_to_one_row"] = round(rates[HOST] / rates["asyncpg_one_row"], 2)
    return Result("ingest", figures, baseline, rates[HOST] / rates["asyncpg_thousand_rows"])


class Violations:
    """Makes violations: a few guilds have most of them, as it is; the same ones in every run."""

    def __init__(self) -> None:
        self._random = random.Random(7)  # noqa: S311 - made-up traffic
        self._guilds = range(_FIRST_GUILD, _FIRST_GUILD + GUILDS)
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(GUILDS)))
        self._messages = itertools.count(_FIRST_MESSAGE)

    def make(self, count: int, maker: str) -> tuple[ViolationDetected, ...]:
        """Return so many violations, never seen before; ``maker`` is noted in them."""
        draw, ts_ms = self._random, now_ms()
        guilds = draw.choices(self._guilds, cum_weights=self._weights, k=count)
        return tuple(self._one(guild_id, maker, ts_ms) for guild_id in guilds)

    def _one(self, guild_id: int, maker: str, ts_ms: int) -> ViolationDetected:
        message_id, person = next(self._messages), self._random.randrange(PEOPLE)
        return ViolationDetected(
            guild_id=guild_id,
            event_id=violation_id(guild_id, message_id, "invites"),
            channel_id=guild_id + 1 + person % 20,
            channel_name=maker,
            message_id=message_id,
            user=UserRef(_FIRST_PERSON + person, f"person{person}", f"Person {person}"),
            detection="invite_link",
            rule="invites",
            severity=SEVERITIES[message_id % len(SEVERITIES)],
            action="delete",
            action_status="pending",
            excerpt="come over to discord.gg/somewhere, everybody is there already",
            content_hash=message_id.to_bytes(32, "big"),
            ts_ms=ts_ms,
        )


class _Shards:
    """The shards' side: several sources, each with one batch in flight."""

    def __init__(self, host: HostHandle, made: Violations) -> None:
        self._host = host
        self._made = made
        self._sources = [_Source(f"shard{n}", made) for n in range(SOURCES)]
        self._per_s = 50.0

    async def saturate(self, seconds: float) -> Load:
        """Send as fast as the host acknowledges."""
        # Half more than the last turn needed is made before the clock runs: making takes no turn's time.
        await self._make(1.5 * self._per_s * seconds)
        load = await self._all(seconds, None)
        self._per_s = load.rows_per_s / BATCH_EVENTS
        return load

    async def pace(self, seconds: float, rows_per_s: float) -> Load:
        """Send at a steady rate; a batch's time runs from when it was due, whether or not it could go."""
        await self._make(seconds * rows_per_s / BATCH_EVENTS)
        return await self._all(seconds, SOURCES * BATCH_EVENTS / rows_per_s)

    async def _make(self, batches: float) -> None:
        for source in self._sources:
            source.make(int(batches / SOURCES) + 1)
            await asyncio.sleep(0)

    async def _all(self, seconds: float, every_s: float | None) -> Load:
        latencies_ms: list[float] = []
        started = time.perf_counter()
        apart_s, until = (every_s or 0.0) / SOURCES, started + seconds
        await asyncio.gather(
            *(
                self._one(source, started + apart_s * n, until, every_s, latencies_ms)
                for n, source in enumerate(self._sources)
            )
        )
        lasted = time.perf_counter() - started
        return Load(len(latencies_ms) * BATCH_EVENTS, lasted, latencies_ms)

    async def _one(
        self, source: _Source, first: float, until: float, every_s: float | None, latencies_ms: list[float]
    ) -> None:
        for turn in itertools.count():
            due = time.perf_counter() if every_s is None else first + every_s * turn
            if due >= until:
                return
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._send(source.next())
            latencies_ms.append((time.perf_counter() - due) * 1000)

    async def _send(self, payload: bytes) -> None:
        while not isinstance(reply := decode_reply(await self._host.ingest(payload)), Accepted):
            if not isinstance(reply, Busy):
                raise ServiceFailed(f"The host does not take what is its own: {reply}")
            await asyncio.sleep(reply.retry_after_ms / 1000)


class _Source:
    """Batches of one source, made and encoded in advance."""

    def __init__(self, name: str, made: Violations) -> None:
        self._name = name
        self._made = made
        self._number = 0
        self._ready: deque[bytes] = deque()

    def make(self, count: int) -> None:
        """Have so many batches ready."""
        while len(self._ready) < count:
            self._number += 1
            batch = Batch(self._name, self._number, self._made.make(BATCH_EVENTS, HOST))
            self._ready.append(encode_batch(batch))

    def next(self) -> bytes:
        """Return the next batch."""
        if not self._ready:
            self.make(1)
        return self._ready.popleft()


class Peer:
    """A driver alone: the same two statements a transaction, one connection, columns made in advance."""

    def __init__(
        self,
        driver: str,
        write: Callable[[_Columns, _Columns], Awaitable[None]],
        made: Violations,
        backend_pid: int,
    ) -> None:
        self.driver = driver
        self.backend_pid = backend_pid
        """The database's process for its connection."""
        self._write = write
        self._made = made

    async def by_thousands(self, seconds: float) -> Load:
        """Write a thousand rows a transaction."""
        return await self._turn(f"{self.driver}_thousand_rows", THOUSAND, seconds)

    async def so_many(self, thousands: int) -> Load:
        """Write so many thousands, each in a transaction."""
        return await self._turn(f"{self.driver}_thousand_rows", THOUSAND, math.inf, thousands * THOUSAND)

    async def one_by_one(self, seconds: float) -> Load:
        """Write one row a transaction."""
        return await self._turn(f"{self.driver}_one_row", 1, seconds)

    async def _turn(self, maker: str, size: int, seconds: float, rows: float = math.inf) -> Load:
        latencies_ms: list[float] = []
        spent = 0.0
        while spent < seconds and len(latencies_ms) * size < rows:
            made = self._made.make(THOUSAND, maker)
            parts = [_columns_of(made[start : start + size]) for start in range(0, THOUSAND, size)]
            for users, violations in parts:
                started = time.perf_counter()
                await self._write(users, violations)
                took = time.perf_counter() - started
                spent += took
                latencies_ms.append(took * 1000)
                if spent >= seconds:
                    break
        return Load(len(latencies_ms) * size, spent, latencies_ms)


def _columns_of(violations: tuple[ViolationDetected, ...]) -> tuple[_Columns, _Columns]:
    """Return the parameters of the two statements: the people, and the violations."""
    people = {v.user.user_id: v.user for v in violations}
    users = [(u.user_id, u.username, u.display_name, u.avatar_url) for u in people.values()]
    rows = [
        (
            v.event_id,
            datetime.fromtimestamp(v.ts_ms / 1000, UTC),
            v.guild_id,
            v.channel_id,
            v.channel_name,
            v.message_id,
            v.user.user_id,
            v.detection,
            v.rule,
            v.severity,
            v.action,
            v.action_status,
            v.excerpt,
            v.content_hash,
        )
        for v in violations
    ]
    return _transposed(users), _transposed(rows)


def _transposed(rows: list[tuple[Any, ...]]) -> _Columns:
    return [list(column) for column in zip(*rows, strict=True)]


@asynccontextmanager
async def asyncpg_peer(database_url: str, made: Violations) -> AsyncIterator[Peer]:
    """Connect asyncpg, the driver that hosts use as well."""
    async with connected(database_url) as connection:

        async def write(users: _Columns, violations: _Columns) -> None:
            async with connection.transaction():
                await connection.fetch(_SQL["write_users"], *users)
                await connection.fetch(_SQL["write_violations"], *violations)

        yield Peer("asyncpg", write, made, connection.get_server_pid())


@asynccontextmanager
async def _psycopg_peer(database_url: str, made: Violations) -> AsyncIterator[Peer]:
    """Where psycopg happens to be installed; Guildhall does not use it."""
    psycopg: Any = importlib.import_module("psycopg")
    connection = await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, cursor_factory=psycopg.AsyncRawCursor
    )

    async def write(users: _Columns, violations: _Columns) -> None:
        async with connection.transaction():
            await connection.execute(_SQL["write_users"], users, prepare=True)
            await connection.execute(_SQL["write_violations"], violations, prepare=True)

    try:
        yield Peer("psycopg", write, made, connection.info.backend_pid)
    finally:
        await connection.close()


async def _compare(database_url: str, acknowledged: dict[str, int]) -> dict[str, Any]:
    """Hold what is stored against what was acknowledged, each maker's rows and the hourly counts."""
    async with connected(database_url) as connection:
        rows = await connection.fetch("SELECT channel_name, count(*) AS n FROM violations GROUP BY 1")
        counted = await connection.fetchval("SELECT sum(low + medium + high + critical) FROM metrics_hourly")
    stored = {row["channel_name"]: row["n"] for row in rows}
    return {
        "rows_acknowledged": acknowledged[HOST],
        "rows_stored": stored[HOST],
        "peers_rows_acknowledged": sum(acknowledged.values()) - acknowledged[HOST],
        "peers_rows_stored": sum(stored.values()) - stored[HOST],
        "rows_counted_by_hour": int(counted),
    }
