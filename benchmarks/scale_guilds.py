"""What very many guilds cost a host: memory while they live, and its loop while sleeping ones wake."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.guild import Watch
from actors.guild_table import TableSettings
from actors.host import GuildHost, HostSettings
from adapters.clock import now_ms
from adapters.guild_store import PostgresGuildStore
from benchmarks.guilds import FIRST_GUILD, SOURCES, batches, fill, send
from benchmarks.one_host import actor_processes, database, system, weigh
from benchmarks.result import part
from domain.events import BotPresenceChanged
from domain.placement import place

LIVE_GUILDS = 1_000_000
MOST_MB = 1_600.0
SLEEPERS = 20_000
MOST_BLOCKED_S = 0.1
CALLS_A_TURN = 50
"""So many calls arrive at the host between two turns of its loop."""


class LoopMeter:
    """Measures for how long a loop was busy with something else.

    Once by the clock, and once by the processor time that the thread used: where other processes want the
    same cores, the clock says how long those took.
    """

    def __init__(self) -> None:
        self.longest_s = self.longest_busy_s = 0.0
        self._task = asyncio.create_task(self._beat(), name="loop-meter")

    async def _beat(self) -> None:
        while True:
            began_s, busy_s = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.perf_counter() - began_s - 0.005)
            self.longest_busy_s = max(self.longest_busy_s, time.thread_time() - busy_s)

    async def stop(self) -> None:
        """Measure no more."""
        await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def memory(live: int) -> dict[str, Any]:
    """Bring guilds with three hours each to life in one host process; add up what all of them need.

    Beside the guilds each host that the shipped bound asks for counts as an empty process.
    """
    async with system() as under_test:
        await fill(under_test.database_url, live)
        table = TableSettings(max_live=live + 1, idle_after_ms=3_600_000)
        host = await under_test.begin_host(table)
        [process] = actor_processes("GuildHost")
        empty = weigh(process)
        guild_ids = range(FIRST_GUILD + 1, FIRST_GUILD + live + 1)
        event: Callable[[int], Any] = lambda guild_id: BotPresenceChanged(guild_id, True, now_ms())  # noqa: E731
        shares = [list(batches(f"scale-{n}", guild_ids[n::SOURCES], event)) for n in range(SOURCES)]
        began_s = time.perf_counter()
        await asyncio.gather(*(send(host, share) for share in shares))
        took_s = time.perf_counter() - began_s
        await asyncio.sleep(3)  # the allocator gives back what passed
        awake = weigh(process)
        found = (await host.stats()).guilds
    hosts = math.ceil(live / TableSettings().max_live)
    guilds_mb = awake.uss - empty.uss
    total_mb = guilds_mb + hosts * empty.pss
    return part(
        bound=f"{live:,} guilds live in {MOST_MB * live / LIVE_GUILDS:,.0f} MB over all hosts",
        met=found == live and total_mb <= MOST_MB * live / LIVE_GUILDS,
        live_guilds=found,
        guilds_mb=round(guilds_mb, 1),
        bytes_a_guild=round(guilds_mb * 1e6 / live),
        hosts=hosts,
        empty_host_mb=round(empty.pss, 1),
        total_mb=round(total_mb, 1),
        activated_per_s=round(live / took_s),
    )


async def sleepers(count: int) -> dict[str, Any]:
    """Ask a host for sleeping guilds one by one, as fast as it takes the calls; watch its loop meanwhile."""
    async with database() as database_url:
        await fill(database_url, count)
        settings = HostSettings("bench", tick_ms=1_000, owns_process=True)
        host = GuildHost(settings, partial(PostgresGuildStore.open, database_url), now_ms)
        await host.start()
        await host.assign(place(1, ["bench"]))
        listening = asyncio.create_task(_listen(host), name="relay")
        while not host._fan_out.listens("relay"):  # noqa: SLF001, ASYNC110 - it has no event
            await asyncio.sleep(0.001)
        gc.collect()
        meter = LoopMeter()
        began_s = time.perf_counter()
        asked = []
        for number in range(1, count + 1):
            wanted = Watch(number, FIRST_GUILD + number, 10, None)
            asked.append(asyncio.create_task(host.watch("relay", wanted)))
            if number % CALLS_A_TURN == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*asked)
        took_s = time.perf_counter() - began_s
        await meter.stop()
        stats = await host.stats()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await host.stop("the benchmark is over")
    return part(
        bound=f"the loop is never blocked for longer than {MOST_BLOCKED_S * 1000:.0f} ms",
        met=stats.watched_guilds == count and meter.longest_busy_s <= MOST_BLOCKED_S,
        watched_guilds=stats.watched_guilds,
        longest_blocked_ms=round(meter.longest_s * 1000, 1),
        of_it_busy_ms=round(meter.longest_busy_s * 1000, 1),
        took_s=round(took_s, 2),
    )


async def _listen(host: GuildHost) -> None:
    async for _ in host.stream("relay"):
        pass
