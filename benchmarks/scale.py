"""Measures what grows with guilds, hosts, replicas, watchers and shards; each part has its bound.

One host process, and others simulated: the classes are the real ones, the wire between them is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from benchmarks import identify, scale_guilds, scale_network, scale_roles
from benchmarks.result import Result, part

PARTS = ("memory", "sleepers", "placing", "chatter", "roles", "identify")
MOST_CORE_PERCENT = 5.0
MOST_REVOCATION_S = 1.0


class Plan(msgspec.Struct, frozen=True):
    """How much of everything."""

    guilds: int = scale_guilds.LIVE_GUILDS
    sleepers: int = scale_guilds.SLEEPERS
    hosts_placed: int = scale_network.MANY_HOSTS
    hosts: int = 100
    replicas: int = 64
    seconds: float = 10.0
    """How long messages are counted."""
    pairs: int = scale_roles.PAIRS
    """(socket, guild)."""
    revocations: int = scale_roles.REVOCATIONS
    identify: identify.Plan = identify.Plan()
    parts: tuple[str, ...] = PARTS


async def run(plan: Plan | None = None) -> Result:
    """Measure each part after the other, each with a system of its own."""
    plan = plan or Plan()
    measures: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "memory": lambda: scale_guilds.memory(plan.guilds),
        "sleepers": lambda: scale_guilds.sleepers(plan.sleepers),
        "placing": lambda: scale_network.placing(plan.hosts_placed),
        "chatter": lambda: scale_network.chatter(plan.hosts, plan.replicas, plan.seconds),
        "roles": lambda: _roles(plan),
        "identify": lambda: _identify(plan),
    }
    figures: dict[str, Any] = {}
    for name in PARTS:
        if name in plan.parts:
            figures[name] = await measures[name]()
    figures["all_met"] = all(measured["met"] for measured in figures.values())
    return Result("scale", figures)


async def _roles(plan: Plan) -> dict[str, Any]:
    figures = (
        await scale_roles.run(scale_roles.Plan(pairs=plan.pairs, revocations=plan.revocations))
    ).figures
    kept, deaf_s = figures["percent_of_a_core"], figures["deaf_ms_p99"] / 1000
    return part(
        bound=f"roles of {plan.pairs:,} (socket, guild) pairs kept with {MOST_CORE_PERCENT:.0f} % of a core, "
        f"revocation p99 {MOST_REVOCATION_S:.0f} s",
        met=kept <= MOST_CORE_PERCENT and deaf_s <= MOST_REVOCATION_S,
        **figures,
    )


async def _identify(plan: Plan) -> dict[str, Any]:
    figures = (await identify.run(plan.identify)).figures
    return part(
        bound="one IDENTIFY a shard, none refused",
        met=figures["identifies"] == figures["shards"] and figures["identifies_refused"] == 0,
        **figures,
    )
