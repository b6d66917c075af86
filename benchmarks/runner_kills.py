"""Kills shard runners, again and again, and holds what is stored against what the local Discord sent.

A whole demo under steady traffic. Half of the kills come while the database takes nothing, so that the spool
is full of what waits for it; what the ledger of the local Discord calls an offence must be one row all the
same, every message counted once, and nobody may identify twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Any

import aiohttp
import asyncpg
import msgspec
import psutil

from benchmarks.own_demo import own_demo
from benchmarks.result import Result, percentile
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Sim

DRAIN_WITHIN_S = 120.0
BACK_WITHIN_S = 60.0
POSTGRES_AWAY_S = 6.0
LOOK_EVERY_S = 0.1


class Plan(msgspec.Struct, frozen=True):
    """How much is killed, and under what traffic."""

    kills: int = 20
    rate: float = 200.0
    guilds: int = 200
    shards: int = 4
    shards_per_runner: int = 2
    seed: int = 1
    least_pause_s: float = 1.0
    longest_pause_s: float = 4.0


async def run(plan: Plan | None = None) -> Result:
    """Kill runners under traffic; return what is missing, doubled or miscounted."""
    plan = plan or Plan()
    shards = {
        "GUILDHALL_SHARDS": str(plan.shards),
        "GUILDHALL_SHARDS_PER_RUNNER": str(plan.shards_per_runner),
    }
    async with own_demo("--guilds", str(plan.guilds), **shards) as demo:
        return Result("runner-kills", await kill_runners(demo, plan))


async def kill_runners(demo: DemoProcess, plan: Plan) -> dict[str, Any]:
    """Kill runners of a demo as planned; return what is missing, doubled or miscounted of its messages."""
    chance = random.Random(plan.seed)  # noqa: S311 - makes a plan
    async with aiohttp.ClientSession() as http:
        sim = Sim(demo.sim_url, http)
        earlier = len(await sim.posted_since(0))
        await sim.put("traffic", rate=plan.rate)
        back_s: list[float] = []
        with_full_spool = 0
        for number in range(plan.kills):
            await asyncio.sleep(chance.uniform(plan.least_pause_s, plan.longest_pause_s))
            full = number % 2 == 1
            async with _postgres_away(demo) if full else contextlib.nullcontext():
                if full:
                    await asyncio.sleep(POSTGRES_AWAY_S / 2)
                    with_full_spool += 1
                began = time.monotonic()
                _kill_one(demo, chance)
                if full:
                    await asyncio.sleep(POSTGRES_AWAY_S / 2)
            await _until_connected(sim, plan.shards)
            back_s.append(time.monotonic() - began)
        await asyncio.sleep(plan.least_pause_s)
        await sim.put("traffic", rate=0)
        posted = await sim.posted_since(earlier)
        stats = await sim.get("stats")
        return {
            "kills": plan.kills,
            "rate": plan.rate,
            "kills_with_full_spool": with_full_spool,
            "back_s_p50": round(percentile(back_s, 0.5), 1),
            "back_s_worst": round(max(back_s, default=0.0), 1),
            "identifies_beyond_the_first": stats["identifies"] + stats["identifies_refused"] - plan.shards,
            "resumes": stats["resumes"],
            "resumes_refused": stats["resumes_refused"],
        } | await _compare(demo.database_url, earlier, posted)


def _kill_one(demo: DemoProcess, chance: random.Random) -> None:
    runners = [each for each in demo.descendants() if "ray::ShardRunner" in _name(each)]
    if not runners:
        raise ServiceFailed("No shard runner runs.")
    chance.choice(sorted(runners, key=lambda each: each.pid)).kill()


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""


@contextlib.asynccontextmanager
async def _postgres_away(demo: DemoProcess) -> Any:
    """Freeze the database's processes: nobody can commit, and the spools fill."""
    server = next(each for each in demo.descendants() if "postgres" in _name(each) and "-D" in _name(each))
    frozen = [*server.children(recursive=True), server]
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


async def _until_connected(sim: Sim, shards: int) -> None:
    await asyncio.sleep(LOOK_EVERY_S)  # the local Discord notices a moment later that a client is gone
    try:
        async with asyncio.timeout(BACK_WITHIN_S):
            while len((await sim.get("stats"))["shards_connected"]) < shards:  # noqa: ASYNC110 - another process
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as error:
        raise ServiceFailed(f"A runner that was killed is not back after {BACK_WITHIN_S:.0f} s.") from error


async def _compare(database_url: str, earlier: int, posted: list[dict[str, Any]]) -> dict[str, Any]:
    """Wait until every message is counted and every deletion settled; then look for what is wrong."""
    offences = {int(entry["message_id"]): entry["label"] for entry in posted if entry["label"]}
    connection = await asyncpg.connect(database_url)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_WITHIN_S):
                total = earlier + len(posted)
                # Other processes count and delete.
                while await _counted(connection) < total or await _pending(connection):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
                await asyncio.sleep(1.0)  # what would be too many comes now
        first = min(int(entry["message_id"]) for entry in posted)
        rows = await connection.fetch(
            "SELECT message_id, detection, action_status FROM violations WHERE message_id >= $1", first
        )
        stored = {row["message_id"]: row["detection"] for row in rows}
        gaps = await connection.fetch("SELECT reason, lost_events FROM coverage_gaps")
        return {
            "messages_posted": len(posted),
            "counts_wrong_by": await _counted(connection) - earlier - len(posted),
            "offences_posted": len(offences),
            "violations_stored": len(rows),
            "missing": len(offences.keys() - stored.keys()),
            "doubled": len(rows) - len(stored),
            "not_an_offence": len(stored.keys() - offences.keys()),
            "wrong_kind": sum(stored[key] != offences[key] for key in stored.keys() & offences.keys()),
            "still_pending": sum(row["action_status"] == "pending" for row in rows),
            "gaps": len(gaps),
        }
    finally:
        await connection.close()


async def _counted(connection: Any) -> int:
    return int(await connection.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly"))


async def _pending(connection: Any) -> int:
    """Return how many messages are still to be deleted, which the local Discord limits by channel."""
    return int(await connection.fetchval("SELECT count(*) FROM violations WHERE action_status = 'pending'"))
