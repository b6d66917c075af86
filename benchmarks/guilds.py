"""Measures what a guild costs: memory while it lives, time to activate it, memory that sleep gives back.

One host with many guilds that have rows, beside one Ray actor a guild, on the same machine in the same run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from actors.guild_table import TableSettings
from adapters.clock import now_ms
from adapters.guild_store import PostgresGuildStore
from benchmarks.one_host import System, Weight, actor_processes, connected, system, weigh
from benchmarks.result import Result
from domain.errors import ServiceFailed
from domain.events import (
    Accepted,
    Batch,
    BotPresenceChanged,
    Busy,
    Event,
    MessagesCounted,
    decode_reply,
    encode_batch,
)
from domain.guild import WINDOW_HOURS
from domain.ids import HOUR_MS, hour_start

if TYPE_CHECKING:
    from actors.handles import HostHandle

GUILDS = 100_000
HOURS_EACH = 3
SOURCES = 8
BATCH_EVENTS = 500
LOAD_AT_ONCE = 5_000

TICK_MS = 100
IDLE_BASE_MS = 5_000
IDLE_MS_PER_GUILD = 0.2
"""The first guild must not sleep before the last is awake, at 5,000 a second."""
SLEEP_WITHIN_S = 60.0
RETURNED_AFTER_S = 3.0
"""The hosts' allocator returns within some seconds what was freed."""

ACTORS_A_TIME = 5
FIRST_GUILD = 10**17

# Rows by the hundred thousand, straight from the database: no store has a call for that, nor should it.
_FILL_GUILDS = """
INSERT INTO guilds (guild_id, name, owner_id, member_count, bot_present, bot_online)
SELECT $1 + n, 'Guild number ' || n, $1 - 1 - n, 10 + n % 5000, true, true
FROM generate_series(1, $2::bigint) AS n
"""
_FILL_HOURS = """
INSERT INTO metrics_hourly (guild_id, hour, messages, low, medium, high, critical, joins, leaves)
SELECT $1 + n, date_trunc('hour', now(), 'UTC') - make_interval(hours => h), 400 + n % 100, 3, 2, 1, 0, 2, 1
FROM generate_series(1, $2::bigint) AS n, generate_series(1, $3::integer) AS h
"""


async def run(*, count: int = GUILDS) -> Result:
    """Bring ``count`` guilds to life twice and let them sleep again; weigh the host at every step."""
    async with system() as under_test:
        await fill(under_test.database_url, count)
        idle_ms = int(IDLE_BASE_MS + IDLE_MS_PER_GUILD * count)
        table = TableSettings(max_live=count + 1, idle_after_ms=idle_ms)
        host = await under_test.begin_host(table, tick_ms=TICK_MS)
        [process] = actor_processes("GuildHost")
        scales = _Scales(host, process, count, idle_ms)
        empty = weigh(process)
        actors = [await _cost_of_actors()]
        # What already stands in the row: the guild is loaded and answers, and no row changes.
        presence = await scales.wake("presence", lambda guild: BotPresenceChanged(guild, True, now_ms()))
        actors.append(await _cost_of_actors())
        counted = await scales.wake("count", lambda guild: MessagesCounted(guild, hour_start(now_ms()), 1))
        loaded_per_s = await _load_alone(under_test, count)
        figures: dict[str, Any] = {
            "guilds": count,
            "rows_in_store": await _rows_in_store(under_test.database_url),
            "empty_pss_mb": round(empty.pss, 1),
            "empty_rss_mb": round(empty.rss, 1),
            **presence.figures("presence", empty),
            **counted.figures("count", empty),
            "store_load_guilds_per_s": round(loaded_per_s),
            "deactivations": (await host.stats()).deactivations,
        }
    actor_mb = median(mb for mb, _ in actors)
    guild_mb = max(presence.above(empty), counted.above(empty)) / count
    baseline = {
        "what": "a Ray actor a guild",
        "actor_pss_mb": round(actor_mb, 1),
        "actor_start_s": round(median(seconds for _, seconds in actors), 3),
        "guilds_in_one_actors_memory": round(actor_mb / guild_mb) if guild_mb > 0 else None,
    }
    return Result("guilds", figures, baseline, guild_mb / actor_mb)


class _Wave(NamedTuple):
    """All guilds awake, and asleep again."""

    live: int
    seconds: float
    awake: Weight
    asleep: Weight

    def above(self, empty: Weight) -> float:
        """Return the memory of the live guilds."""
        return self.awake.uss - empty.uss

    def figures(self, name: str, empty: Weight) -> dict[str, Any]:
        """Return what was measured, the memory above that of the empty host."""
        return {
            f"{name}_live_guilds": self.live,
            f"{name}_activated_per_s": round(self.live / self.seconds),
            f"{name}_live_pss_mb": round(self.awake.pss, 1),
            f"{name}_live_rss_mb": round(self.awake.rss, 1),
            f"{name}_above_empty_mb": round(self.above(empty), 1),
            f"{name}_asleep_pss_mb": round(self.asleep.pss, 1),
            f"{name}_given_back_mb": round(self.awake.uss - self.asleep.uss, 1),
        }


class _Scales:
    def __init__(self, host: HostHandle, process: psutil.Process, count: int, idle_ms: int) -> None:
        self._host = host
        self._process = process
        self._guild_ids = range(FIRST_GUILD + 1, FIRST_GUILD + count + 1)
        self._idle_ms = idle_ms

    async def wake(self, name: str, event: Callable[[int], Event]) -> _Wave:
        """Send each guild one event, from several sources at once; wait until all sleep again."""
        shares = [list(batches(f"{name}-{n}", self._guild_ids[n::SOURCES], event)) for n in range(SOURCES)]
        started = time.perf_counter()
        await asyncio.gather(*(send(self._host, share) for share in shares))
        seconds = time.perf_counter() - started
        live = (await self._host.stats()).guilds
        awake = weigh(self._process)
        await _until(self._all_asleep, self._idle_ms / 1000 + SLEEP_WITHIN_S)
        await asyncio.sleep(RETURNED_AFTER_S)
        return _Wave(live, seconds, awake, weigh(self._process))

    async def _all_asleep(self) -> bool:
        return (await self._host.stats()).guilds == 0


def batches(source: str, guild_ids: Sequence[int], event: Callable[[int], Event]) -> Any:
    """Yield encoded batches of one event for each guild."""
    for number, start in enumerate(range(0, len(guild_ids), BATCH_EVENTS), start=1):
        events = tuple(event(guild_id) for guild_id in guild_ids[start : start + BATCH_EVENTS])
        yield encode_batch(Batch(source, number, events))


async def send(host: HostHandle, payloads: list[bytes]) -> None:
    """Send batches in order, one in flight, each until it is taken."""
    for payload in payloads:
        while not isinstance(reply := decode_reply(await host.ingest(payload)), Accepted):
            if not isinstance(reply, Busy):
                raise ServiceFailed(f"The host does not take what is its own: {reply}")
            await asyncio.sleep(reply.retry_after_ms / 1000)


async def _until(ask: Callable[[], Awaitable[bool]], within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not await ask():  # noqa: ASYNC110 - another process lets them sleep
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ServiceFailed(f"The guilds did not go to sleep within {within_s:.0f} s.") from error


async def fill(database_url: str, count: int) -> None:
    """Write the rows of so many guilds, with their last hours."""
    async with connected(database_url) as connection:
        await connection.execute(_FILL_GUILDS, FIRST_GUILD, count)
        await connection.execute(_FILL_HOURS, FIRST_GUILD, count, HOURS_EACH)
        await connection.execute("VACUUM ANALYZE guilds, metrics_hourly")


async def _rows_in_store(database_url: str) -> int:
    async with connected(database_url) as connection:
        hours = await connection.fetchval("SELECT count(*) FROM metrics_hourly")
        return int(hours + await connection.fetchval("SELECT count(*) FROM guilds"))


async def _load_alone(under_test: System, count: int) -> float:
    """Return guilds per second of the store's own part of an activation, in this process."""
    store = await PostgresGuildStore.open(under_test.database_url)
    since_ms = hour_start(now_ms()) - (WINDOW_HOURS - 1) * HOUR_MS
    guild_ids = list(range(FIRST_GUILD + 1, FIRST_GUILD + count + 1))
    started = time.perf_counter()
    loaded = 0
    for start in range(0, count, LOAD_AT_ONCE):
        loaded += len(await store.load_guilds(guild_ids[start : start + LOAD_AT_ONCE], since_ms))
    seconds = time.perf_counter() - started
    await store.close()
    return loaded / seconds


async def _cost_of_actors() -> tuple[float, float]:
    """Start a few actors that do nothing yet; return megabytes and seconds each, and end them."""
    import ray  # noqa: PLC0415 - only once its environment is prepared

    class GuildAlone:
        async def ping(self) -> bool:
            return True

    remote = ray.remote(GuildAlone).options(num_cpus=0)
    started = time.perf_counter()
    actors = [remote.remote() for _ in range(ACTORS_A_TIME)]
    await asyncio.gather(*(actor.ping.remote() for actor in actors))
    seconds = (time.perf_counter() - started) / ACTORS_A_TIME
    processes = actor_processes("GuildAlone")
    sizes = [weigh(process).pss for process in processes]
    for actor in actors:
        ray.kill(actor)
    await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
    return sum(sizes) / len(sizes), seconds
