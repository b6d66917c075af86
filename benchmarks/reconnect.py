"""Kills relays and guild hosts under many watchers: ``guildhall bench reconnect``.

The watchers are clients of :mod:`guildhall.live` and follow one guild, in which messages are violations at a
steady pace. At the end the list of each is held against the database's rows. What Serve does about a dead
replica is part of it: it reloads HAProxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from typing import Any

import aiohttp
import psutil

from benchmarks.crowd import log_in_crowd
from benchmarks.own_demo import own_demo
from benchmarks.result import Result, percentile
from benchmarks.watchers import (
    LOOK_EVERY_S,
    Posting,
    Watcher,
    all_live,
    compare,
    in_background,
    named,
    seen_by,
)
from domain.protocol import MAX_SOCKETS_PER_USER
from guildhall.testing import CROWD_AT_ONE_ADDRESS, DemoProcess, Sim

GUILDS = 4
RELAYS = 2
NOTICED_WITHIN_S = 20.0
"""A host's kill that nobody has felt by then was not the guild's."""

KILLED = {"relay": "ray::ServeReplica:relay", "host": "ray::GuildHost"}
"""Kinds of processes, by how Ray names them."""

ENVIRONMENT = {
    "GUILDHALL_RELAY_REPLICAS": str(RELAYS),
    # The watchers are one address, and read their lists all at once.
    "GUILDHALL_LIMIT_READS": "100000 per second",
    "GUILDHALL_LIMIT_STRANGERS": "100000 per second",
    **CROWD_AT_ONE_ADDRESS,
    "GUILDHALL_LIMIT_SOCKETS_PER_ADDRESS": "20000",
}


class HaproxyWatch:
    """Counts the processes of HAProxy that there were: each reload brings another."""

    def __init__(self, demo: DemoProcess) -> None:
        self.pids: set[int] = set()
        self._demo = demo

    async def look_forever(self) -> None:
        """Look until cancelled."""
        while True:
            self.pids.update(process.pid for process in await named(self._demo, "haproxy"))
            await asyncio.sleep(LOOK_EVERY_S * 5)


async def run(*, clients: int = 500, kills: int = 8, pause_s: float = 10.0, rate: float = 2.0) -> Result:
    """Let ``clients`` watch while ``rate`` violations a second happen and ``kills`` processes die in turn.

    Before each kill everybody is live again, and ``pause_s`` have gone by.
    """
    async with own_demo("--guilds", str(GUILDS), **ENVIRONMENT) as demo:
        figures = await _watch_and_kill(demo, clients=clients, kills=kills, pause_s=pause_s, rate=rate)
    return Result("reconnect", figures)


async def _watch_and_kill(
    demo: DemoProcess, *, clients: int, kills: int, pause_s: float, rate: float
) -> dict[str, Any]:
    started = time.monotonic()
    connector = aiohttp.TCPConnector(limit=100)
    async with aiohttp.ClientSession() as control, aiohttp.ClientSession(connector=connector) as http:
        sim = Sim(demo.sim_url, control)
        guild_id = int((await sim.guild(0))["id"])
        cookies = await log_in_crowd(demo.data_dir, guild_id, -(-clients // MAX_SOCKETS_PER_USER))
        watchers = [
            Watcher(demo.url, guild_id, cookies[n // MAX_SOCKETS_PER_USER], http) for n in range(clients)
        ]
        haproxy = HaproxyWatch(demo)
        async with in_background(haproxy.look_forever(), *(watcher.watch() for watcher in watchers)):
            first_live_s = await all_live(watchers)
            posting = Posting(sim, guild_id, rate)
            async with in_background(posting.post_forever()):
                log = await _kill_in_turn(demo, watchers, kills, pause_s)
                await asyncio.sleep(pause_s)
            compared = await compare(demo.database_url, guild_id, posting.posted, watchers)
    seen = seen_by(watchers)
    back_s = [kill["all_live_again_s"] for kill in log if "all_live_again_s" in kill]
    lost = {name: number for name, number in sorted(seen.items()) if name.startswith("closed_")}
    return {
        "clients": clients,
        "seconds": round(time.monotonic() - started, 1),
        "violations_posted": len(posting.posted),
        **{f"{kind}_kills": sum(kill["killed"] == kind for kill in log) for kind in KILLED},
        "haproxy_reloads": max(0, len(haproxy.pids) - 1),
        "reconnects": sum(lost.values()),
        **lost,
        "resumed": seen["resumed"],
        "reloads": seen["reloads"] - clients,
        **compared,
        "first_live_s": round(first_live_s, 1),
        "all_live_again_s_max": max(back_s, default=0.0),
        "all_live_again_s_p50": percentile(back_s, 0.5),
        "log": log,
    }


async def _kill_in_turn(
    demo: DemoProcess, watchers: list[Watcher], kills: int, pause_s: float
) -> list[dict[str, Any]]:
    """Return of each kill what it did to the watchers, and in how many seconds everybody was live again."""
    log: list[dict[str, Any]] = []
    for number in range(kills):
        kind = list(KILLED)[number % len(KILLED)]
        await asyncio.sleep(pause_s)
        candidates = await named(demo, KILLED[kind])
        if not candidates:
            continue
        # The oldest: so each is killed before one is killed again, and the guild's own host is among them.
        victim = min(candidates, key=_age_key)
        seen_before = seen_by(watchers)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
        # A relay's sockets end with it. What a host's end does to them, if anything, comes a moment later.
        killed_at = time.monotonic()
        while (  # noqa: ASYNC110 - other processes cannot set our event
            seen_by(watchers) == seen_before and time.monotonic() - killed_at < NOTICED_WITHIN_S
        ):
            await asyncio.sleep(LOOK_EVERY_S)
        noticed_s = time.monotonic() - killed_at
        await all_live(watchers)
        felt = seen_by(watchers) - seen_before
        entry: dict[str, Any] = {"killed": kind, **dict(sorted(felt.items()))}
        if felt:
            entry["noticed_s"] = round(noticed_s, 1)
            entry["all_live_again_s"] = round(time.monotonic() - killed_at, 1)
        log.append(entry)
    return log


def _age_key(process: psutil.Process) -> float:
    try:
        return process.create_time()
    except psutil.NoSuchProcess:
        return math.inf
