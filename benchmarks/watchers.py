"""People who watch one guild during a benchmark, and what their lists are held against at its end.

The watchers are clients of :mod:`guildhall.live`; what each shows must be what the database has.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil

from guildhall.live import (
    Applied,
    Live,
    ReadViolations,
    RecentViolations,
    Reset,
    Update,
    ViolationList,
    Waiting,
    follow,
)
from guildhall.testing import DemoProcess, Sim

ALL_LIVE_WITHIN_S = 180.0
SETTLED_WITHIN_S = 120.0
LOOK_EVERY_S = 0.1
MOST_ROWS = 100_000


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
                self._note(update)

    def _note(self, update: Update[RecentViolations]) -> None:
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


def seen_by(watchers: list[Watcher]) -> Counter[str]:
    """Return what happened to all of them together."""
    return sum((watcher.seen for watcher in watchers), Counter())


async def all_live(watchers: list[Watcher]) -> float:
    """Wait until everybody is live; return the seconds that took, or the limit when somebody never was."""
    started = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALL_LIVE_WITHIN_S):
            while not all(watcher.live for watcher in watchers):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(LOOK_EVERY_S)
    return time.monotonic() - started


async def compare(
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


async def named(demo: DemoProcess, name: str) -> list[psutil.Process]:
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
async def in_background(*works: Any) -> AsyncIterator[None]:
    """Let these run meanwhile. One that breaks breaks the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        yield
        for task in tasks:
            task.cancel()
