"""Connects very many shards in many runners, and counts what Discord was sent: one IDENTIFY a shard.

The runners' bots are the real ones, several in a process; they share the book of grants in a real Redis, and
the local Discord's limiter counts when it receives. Time is scaled: the interval is shorter than Discord's
five seconds, the law the same.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import msgspec

from adapters.discord_bot import ShardSettings
from adapters.embedded_redis import EmbeddedRedis
from benchmarks.identify_child import Orders
from benchmarks.result import Result
from discord_sim.app import DiscordSim
from discord_sim.app import Settings as SimSettings
from discord_sim.gateway_session import GatewayOptions
from domain.errors import ServiceFailed
from domain.identify import IdentifyRules

INTERVAL_S = 0.5
MARGIN_S = 0.15
"""More than a tenth, unlike in earnest: a busy machine is late by as much at every scale."""
CONNECT_WITHIN_S = 30.0
END_WITHIN_S = 30.0


class Plan(msgspec.Struct, frozen=True):
    """How many shards connect, in how many runners and processes."""

    shards: int = 1_024
    runners: int = 64
    processes: int = 8
    max_concurrency: int = 16
    interval_s: float = INTERVAL_S


async def run(plan: Plan | None = None) -> Result:
    """Connect all shards once; return what Discord received."""
    plan = plan or Plan()
    gateway = GatewayOptions(
        max_concurrency=plan.max_concurrency,
        identify_interval_s=plan.interval_s,
        session_starts=4 * plan.shards,
        heartbeat_grace=10.0,
    )
    async with DiscordSim(SimSettings(guilds=plan.shards, gateway=gateway)) as sim:
        with tempfile.TemporaryDirectory(prefix="gh-") as folder:
            async with EmbeddedRedis(Path(folder), Path(folder)) as redis_url:
                took_s = await _connect(plan, sim, redis_url)
        core = sim.simulation.gateway
        rounds = -(-plan.shards // plan.max_concurrency)
        return Result(
            "identify",
            {
                "shards": plan.shards,
                "runners": plan.runners,
                "processes": plan.processes,
                "max_concurrency": plan.max_concurrency,
                "identifies": core.identifies + core.identifies_refused,
                "identifies_refused": core.identifies_refused,
                "interval_s": plan.interval_s,
                "closest_in_a_bucket_s": round(core.closest_identifies_s, 3),
                "connected_after_s": round(took_s, 1),
                "least_by_the_law_s": round((rounds - 1) * plan.interval_s, 1),
            },
        )


async def _connect(plan: Plan, sim: DiscordSim, redis_url: str) -> float:
    """Return after how many seconds all shards were connected."""
    rules = IdentifyRules(interval_ms=int((plan.interval_s + MARGIN_S) * 1000))
    per_runner = -(-plan.shards // plan.runners)
    runners = [
        ShardSettings(
            sim.settings.token,
            tuple(range(first, min(first + per_runner, plan.shards))),
            plan.shards,
            f"{sim.url}/api/v10",
            sim.gateway_url,
            rules,
        )
        for first in range(0, plan.shards, per_runner)
    ]
    began_s = time.monotonic()
    shares = [tuple(runners[number :: plan.processes]) for number in range(plan.processes)]
    children = [await _start(Orders(share, redis_url)) for share in shares if share]
    try:
        rounds = -(-plan.shards // plan.max_concurrency)
        async with asyncio.timeout(CONNECT_WITHIN_S + 3 * rounds * rules.interval_ms / 1000):
            goals = [sum(len(each.shard_ids) for each in share) for share in shares if share]
            await asyncio.gather(*(_until(*each) for each in zip(children, goals, strict=True)))
        return time.monotonic() - began_s
    finally:
        await asyncio.gather(*(_end(child) for child in children))


async def _start(orders: Orders) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.identify_child", msgspec.json.encode(orders).decode()),
        stdin=PIPE,
        stdout=PIPE,
    )


async def _until(child: Process, goal: int) -> None:
    assert child.stdout is not None  # noqa: S101 - it was asked for
    while line := await child.stdout.readline():
        if int(line) == goal:
            return
    raise ServiceFailed(f"A process with {goal} shards ended before all were connected.")


async def _end(child: Process) -> None:
    assert child.stdin is not None  # noqa: S101 - it was asked for
    child.stdin.close()
    try:
        async with asyncio.timeout(END_WITHIN_S):
            await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
