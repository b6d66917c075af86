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
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil

from benchmarks.crowd import log_in_crowd
from benchmarks.result import Result, percentile
from domain.protocol import MAX_SOCKETS_PER_USER
from guildhall.live import Applied, Live, ReadViolations, Reset, ViolationList, Waiting, follow
from guildhall.testing import DemoProcess, Sim

GUILDS = 4
RELAYS = 2
ALL_LIVE_WITHIN_S = 180.0
SETTLED_WITHIN_S = 120.0
NOTICED_WITHIN_S = 20.0
"""A host's kill that nobody has felt by then was not the guild's."""
LOOK_EVERY_S = 0.1
MOST_ROWS = 100_000

KILLED = {"relay": "ray::ServeReplica:relay", "host": "ray::GuildHost"}
"""Kinds of processes, by how Ray names them."""

ENVIRONMENT = {
    "GUILDHALL_RELAY_REPLICAS": str(RELAYS),
    # The watchers are one address, and read their lists all at once.
    "GUILDHALL_LIMIT_READS": "100000 per second",
    "GUILDHALL_LIMIT_STRANGERS": "100000 per second",
    "GUILDHALL_LIMIT_REQUESTS": "100000 per second",
    "GUILDHALL_LIMIT_SOCKETS_PER_ADDRESS": "20000",
}


class Watcher:
    """One client, what it shows, and what happened to it."""

    def __init__(self, url: str, guild_id: int, cookie: str, http: aiohttp.ClientSession) -> None:
        self.shown = ViolationList(most=MOST_ROWS)
        self.live = False
        self.seen: Counter[str] = Counter()
        """Connections lost, by close code; ``resumed`` and ``reloads``."""
        self.out_of_turn = 0
        """Events that came twice, or out of order, since the last state was read."""
        self._last_offset: int | None = None
        self._http = http
        self._load = ReadViolations(http, url, guild_id, cookie=cookie, most=MOST_ROWS)
        self._updates = follow(url, guild_id, cookie=cookie, load=self._load)

    async def watch(self) -> None:
        """Follow until cancelled."""
        async with contextlib.aclosing(self._updates) as updates:
            async for update in updates:
                match update:
                    case Reset(snapshot=read):
                        self.shown.reset(read)
                        self.seen["reloads"] += 1
                        self._last_offset = None
                    case Applied(events=events):
                        self._check_order([event.offset for event in events])
                        self.shown.apply(events)
                    case Waiting(code=code):
                        self.seen[f"closed_{code}"] += 1
                        self.live = False
                    case Live(resumed=resumed):
                        self.seen["resumed"] += resumed
                        self.live = True
                    case _:
                        self.live = False

    def _check_order(self, offsets: list[int]) -> None:
        for offset in offsets:
            if self._last_offset is not None and offset != self._last_offset + 1:
                self.out_of_turn += 1
            self._last_offset = offset


class HaproxyWatch:
    """Counts the processes of HAProxy that there were: each reload brings another."""

    def __init__(self, demo: DemoProcess) -> None:
        self.pids: set[int] = set()
        self._demo = demo

    async def look_forever(self) -> None:
        """Look until cancelled."""
        while True:
            self.pids.update(process.pid for process in await _named(self._demo, "haproxy"))
            await asyncio.sleep(LOOK_EVERY_S * 5)


async def run(*, clients: int = 500, kills: int = 8, pause_s: float = 10.0, rate: float = 2.0) -> Result:
    """Let ``clients`` watch while ``rate`` violations a second happen and ``kills`` processes die in turn.

    Before each kill everybody is live again, and ``pause_s`` have gone by.
    """
    with tempfile.TemporaryDirectory(prefix="guildhall-bench-") as folder:
        demo = DemoProcess(
            Path(folder) / "data", "--guilds", str(GUILDS), "--rate", "0", command="demo", **ENVIRONMENT
        )
        try:
            await asyncio.to_thread(demo.wait_ready)
            figures = await _watch_and_kill(demo, clients=clients, kills=kills, pause_s=pause_s, rate=rate)
            code, said = await asyncio.to_thread(demo.end)
            figures["exit_code"] = code
            figures["said"] = [line for line in said.splitlines() if "rror" in line]
        finally:
            demo.make_sure_it_ended()
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
        async with _in_background(haproxy.look_forever(), *(watcher.watch() for watcher in watchers)):
            first_live_s = await _all_live(watchers)
            posting = Posting(sim, guild_id, rate)
            async with _in_background(posting.post_forever()):
                log = await _kill_in_turn(demo, watchers, kills, pause_s)
                await asyncio.sleep(pause_s)
            compared = await _compare(demo.database_url, guild_id, posting.posted, watchers)
    seen = _seen(watchers)
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


class Posting:
    """Posts messages that are violations."""

    def __init__(self, sim: Sim, guild_id: int, rate: float) -> None:
        self.posted: list[int] = []
        self._sim = sim
        self._guild_id = guild_id
        self._pause_s = 1 / rate

    async def post_forever(self) -> None:
        """Post until cancelled; how fast does not depend on how long a post takes."""
        due = time.monotonic()
        while True:
            number = len(self.posted)
            content = f"free nitro number {number} at https://dlscord-gifts.com/{number}"
            message = await self._sim.post("messages", guild_id=str(self._guild_id), content=content)
            self.posted.append(int(message["id"]))
            due += self._pause_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _kill_in_turn(
    demo: DemoProcess, watchers: list[Watcher], kills: int, pause_s: float
) -> list[dict[str, Any]]:
    """Return of each kill what it did to the watchers, and in how many seconds everybody was live again."""
    log: list[dict[str, Any]] = []
    for number in range(kills):
        kind = list(KILLED)[number % len(KILLED)]
        await asyncio.sleep(pause_s)
        candidates = await _named(demo, KILLED[kind])
        if not candidates:
            continue
        # The oldest: so each is killed before one is killed again, and the guild's own host is among them.
        victim = min(candidates, key=_age_key)
        seen_before = _seen(watchers)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.send_signal(signal.SIGKILL)
        # A relay's sockets end with it. What a host's end does to them, if anything, comes a moment later.
        killed_at = time.monotonic()
        while (  # noqa: ASYNC110 - other processes cannot set our event
            _seen(watchers) == seen_before and time.monotonic() - killed_at < NOTICED_WITHIN_S
        ):
            await asyncio.sleep(LOOK_EVERY_S)
        noticed_s = time.monotonic() - killed_at
        await _all_live(watchers)
        felt = _seen(watchers) - seen_before
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


def _seen(watchers: list[Watcher]) -> Counter[str]:
    """Return what happened to all of them together."""
    return sum((watcher.seen for watcher in watchers), Counter())


async def _all_live(watchers: list[Watcher]) -> float:
    """Wait until everybody is live; return the seconds that took, or the limit when somebody never was."""
    started = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALL_LIVE_WITHIN_S):
            while not all(watcher.live for watcher in watchers):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(LOOK_EVERY_S)
    return time.monotonic() - started


async def _compare(
    database_url: str, guild_id: int, posted: list[int], watchers: list[Watcher]
) -> dict[str, Any]:
    """Wait until all that was posted is stored and shown, if it ever is; then say what is not."""
    connection = await asyncpg.connect(database_url)
    try:
        rows: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLED_WITHIN_S):
                while True:
                    found = await connection.fetch(
                        "SELECT event_id, message_id FROM violations WHERE guild_id = $1 "
                        "ORDER BY ts DESC, message_id DESC, event_id",
                        guild_id,
                    )
                    rows = [str(row["event_id"]) for row in found]
                    stored = {row["message_id"] for row in found}
                    if stored >= set(posted) and all(_ids(watcher) == rows for watcher in watchers):
                        break
                    await asyncio.sleep(LOOK_EVERY_S * 5)
    finally:
        await connection.close()
    shown = [_ids(watcher) for watcher in watchers]
    return {
        "violations_stored": len(rows),
        "posted_not_stored": len(set(posted) - stored),
        "clients_live": sum(watcher.live for watcher in watchers),
        "missing": sum(len(set(rows) - set(ids)) for ids in shown),
        # A list merges by id, so it could not show it: what counts is what the client was given.
        "doubled": sum(watcher.out_of_turn for watcher in watchers),
        "stored_twice": len(rows) - len(set(rows)),
        "not_in_the_database": sum(len(set(ids) - set(rows)) for ids in shown),
        "out_of_order": sum(ids != rows and set(ids) == set(rows) for ids in shown),
    }


def _ids(watcher: Watcher) -> list[str]:
    return [violation.id for violation in watcher.shown]


async def _named(demo: DemoProcess, name: str) -> list[psutil.Process]:
    """Return the demo's processes whose command line begins with a name; a path before it does not count."""

    def look() -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for process in demo.descendants():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline()[:1])
                if command.startswith(name) or Path(command).name == name:
                    found.append(process)
        return found

    return await asyncio.to_thread(look)


@contextlib.asynccontextmanager
async def _in_background(*works: Any) -> AsyncIterator[None]:
    """Let these run meanwhile. One that breaks breaks the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()
