"""Measures whether memory grows while nothing else does: a whole demo under the same traffic for long.

A moderator's sockets watch some servers, so that frames travel too. Each process of ours is weighed every
few seconds; a straight line through its weights after a warm-up gives megabytes an hour. What the traffic
sent is held against what was stored and shown, because a system that drops its work stays slim, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import psutil

from benchmarks.memory import KINDS
from benchmarks.own_demo import own_demo
from benchmarks.result import Result
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Person, Sim, Watching

MINUTES = 30.0
RATE = 200
GUILDS = 200
WATCHED_GUILDS = 4
EVERY_S = 5.0
LEAST_SAMPLES = 30
"""A short run is sampled more often, or there would be nothing to draw a line through."""
DRAIN_WITHIN_S = 120.0

WARM_UP_SHARE = 0.2
WARM_UP_S = 120.0

WEIGHED = {
    "host": "guild hosts",
    "runner": "shard runners",
    "director": "director",
    "relay": "relay replicas",
}
"""How figures call a kind of process, and how :data:`benchmarks.memory.KINDS` does."""

_STORED = """
SELECT coalesce(sum(messages), 0)::bigint AS messages, coalesce(sum(joins), 0)::bigint AS joins,
       coalesce(sum(leaves), 0)::bigint AS leaves,
       (SELECT count(*) FROM violations) AS violations,
       (SELECT count(*) FROM violations WHERE action_status <> 'pending') AS actions
FROM metrics_hourly
"""
_GIVEN_UP = """
SELECT (SELECT coalesce(sum(lost_events), 0)::bigint FROM coverage_gaps)
       + (SELECT count(*) FROM poison_events)
"""


class Sample(NamedTuple):
    """What one process weighed at one time."""

    at_s: float
    """Since the traffic began."""
    mb: float


class Trend(NamedTuple):
    """What became of one process after the warm-up; megabytes, and megabytes an hour."""

    first: float
    last: float
    highest: float
    slope: float
    error: float
    """Standard error of the slope, as if each sample stood for itself. They lean on each other, so a slope
    is beyond doubt at several times this, not at twice."""


def warm_up_s(seconds: float) -> float:
    """Return how much of a run is not looked at: a fifth, and two minutes where that is at most half."""
    fifth = WARM_UP_SHARE * seconds
    return max(fifth, WARM_UP_S) if seconds >= 2 * WARM_UP_S else fifth


def trend(samples: Sequence[Sample], from_s: float) -> Trend:
    """Return the least-squares line through the samples from a time on; there must be three."""
    settled = [sample for sample in samples if sample.at_s >= from_s]
    hours = [sample.at_s / 3600 for sample in settled]
    sizes = [sample.mb for sample in settled]
    slope, intercept = linear_regression(hours, sizes)
    misses = sum((mb - intercept - slope * hour) ** 2 for hour, mb in zip(hours, sizes, strict=True))
    middle = fmean(hours)
    spread = sum((hour - middle) ** 2 for hour in hours)
    error = math.sqrt(misses / (len(settled) - 2) / spread)
    return Trend(sizes[0], sizes[-1], max(sizes), slope, error)


def trend_figures(kind: str, trends: Sequence[Trend]) -> dict[str, Any]:
    """Return the figures of a kind of process: those of the one that grew fastest."""
    worst = max(trends, key=lambda each: each.slope)
    return {
        f"{kind}_processes": len(trends),
        f"{kind}_first_mb": round(worst.first, 1),
        f"{kind}_last_mb": round(worst.last, 1),
        f"{kind}_highest_mb": round(worst.highest, 1),
        f"{kind}_slope_mb_per_hour": round(worst.slope, 2),
        f"{kind}_slope_error_mb_per_hour": round(worst.error, 2),
    }


async def run(*, minutes: float = MINUTES, rate: float = RATE, guilds: int = GUILDS) -> Result:
    """Post ``rate`` messages a second for a while, and see what that does to the memory."""
    with tempfile.TemporaryDirectory(prefix="guildhall-spool-") as folder:
        spool = Path(folder)
        async with own_demo("--guilds", str(guilds), GUILDHALL_SPOOL_DIR=folder) as demo:
            figures = await _steady(demo, minutes * 60, rate)
        figures["spooled_batches_at_end"] = _spooled(spool)
    return Result("steady", {"minutes": minutes, "rate": rate, "guilds": guilds} | figures)


class _Scales:
    """The processes that are weighed, and their weights so far."""

    def __init__(self, demo: DemoProcess) -> None:
        patterns = dict(KINDS)
        self.ended = 0
        self.samples: dict[str, dict[psutil.Process, list[Sample]]] = {kind: {} for kind in WEIGHED}
        for process in demo.descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(process.cmdline())
                for kind, name in WEIGHED.items():
                    if re.search(patterns[name], line):
                        self.samples[kind][process] = []
        if missing := [kind for kind, processes in self.samples.items() if not processes]:
            raise ServiceFailed(f"No process of these kinds runs: {', '.join(missing)}.")

    def weigh(self, at_s: float) -> None:
        """Add one sample a process: its own pages, those that were swapped out too.

        A process that is gone is not weighed any further; the one in its place starts from nothing.
        """
        for processes in self.samples.values():
            for process in list(processes):
                try:
                    info = process.memory_full_info()
                except psutil.NoSuchProcess:
                    del processes[process]
                    self.ended += 1
                else:
                    processes[process].append(Sample(at_s, (info.uss + info.swap) / 1e6))

    def figures(self, from_s: float) -> dict[str, Any]:
        """Return the figures of every kind."""
        figures: dict[str, Any] = {}
        for kind, processes in self.samples.items():
            if not processes:
                raise ServiceFailed(f"No {kind} lived through all of it.")
            figures |= trend_figures(kind, [trend(samples, from_s) for samples in processes.values()])
        return figures | {"processes_ended": self.ended}


class _Books:
    """What the local Discord sent. Its ledger is a ring, so it is read while it is written."""

    def __init__(self, sim: Sim) -> None:
        self._sim = sim
        self._read_to = 0
        self.offences: dict[int, int] = {}
        """The guild of each offending message."""

    async def read(self) -> None:
        """Read on."""
        while (page := await self._sim.get("ledger", since=self._read_to, limit=10_000))["entries"]:
            if page["lost"]:
                raise ServiceFailed("The local Discord's ledger was read too late.")
            self.offences |= {int(e["message_id"]): int(e["guild_id"]) for e in page["entries"] if e["label"]}
            self._read_to = page["next"]


async def _steady(demo: DemoProcess, seconds: float, rate: float) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, Person(demo.url) as owner:
        sim = Sim(demo.sim_url, http)
        await owner.log_in("owner")
        servers = (await owner.get("/api/servers"))["data"][:WATCHED_GUILDS]
        sockets = [await owner.watch() for _ in servers]
        for socket, server in zip(sockets, servers, strict=True):
            await socket.subscribe(server["id"])  # all stand before anything happens
        shown: set[str] = set()
        listeners = [asyncio.create_task(_listen(socket, shown)) for socket in sockets]
        scales, books = _Scales(demo), _Books(sim)
        every_s = min(EVERY_S, seconds / LEAST_SAMPLES)
        await sim.put("traffic", rate=rate)
        started = time.monotonic()
        samples = 0
        while (at_s := time.monotonic() - started) < seconds:
            scales.weigh(at_s)
            samples += 1
            await books.read()
            await asyncio.sleep(max(0.0, started + samples * every_s - time.monotonic()))
        await sim.put("traffic", rate=0)
        await books.read()
        watched = {int(server["id"]) for server in servers}
        figures = await _compare(demo.database_url, await sim.get("stats"), books.offences, watched, shown)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
        from_s = warm_up_s(seconds)
        return {"warm_up_s": round(from_s), "samples": samples} | scales.figures(from_s) | figures


async def _compare(
    database_url: str, sent: dict[str, int], offences: dict[int, int], watched: set[int], shown: set[str]
) -> dict[str, Any]:
    """Wait until everything arrived; then hold what is stored and shown against what was sent."""
    due = {name: sent[name] for name in ("messages", "joins", "leaves")}
    due |= {"violations": len(offences), "actions": len(offences)}
    due["shown"] = sum(guild_id in watched for guild_id in offences.values())
    connection = await asyncpg.connect(database_url)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN_S):
                while (got := await _arrived(connection, shown)) != due:  # noqa: ASYNC110 - others do it
                    await asyncio.sleep(0.1)
        stored = {row["message_id"] for row in await connection.fetch("SELECT message_id FROM violations")}
        return {
            "messages_sent": due["messages"],
            "messages_counted": got["messages"],
            "offences_sent": due["violations"],
            "violations_stored": got["violations"],
            "violations_missing": len(offences.keys() - stored),
            "shown_due": due["shown"],
            "shown": got["shown"],
            "events_not_delivered": sum(max(0, due[name] - got[name]) for name in due),
            "events_too_many": sum(max(0, got[name] - due[name]) for name in due),
            "events_given_up": await connection.fetchval(_GIVEN_UP),
        }
    finally:
        await connection.close()


async def _arrived(connection: Any, shown: set[str]) -> dict[str, int]:
    return dict(await connection.fetchrow(_STORED)) | {"shown": len(shown)}


async def _listen(watching: Watching, shown: set[str]) -> None:
    """Note each new violation that a socket is told of, until it is closed."""
    async for message in watching.socket:
        shown.update(
            event["data"]["id"]
            for event in json.loads(message.data).get("events", [])
            if event["type"] == "violation" and event["data"]["action_status"] == "pending"
        )


def _spooled(folder: Path) -> int:
    """Return the batches that ended runners left in their spools."""
    batches = 0
    for file in folder.glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            batches += connection.execute("SELECT count(*) FROM batches").fetchone()[0]
    return batches
