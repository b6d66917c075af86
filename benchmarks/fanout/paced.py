"""At a steady rate: how long after its commit an event is with everybody who watches."""

from __future__ import annotations

from statistics import median
from typing import Any

import psutil

from benchmarks.fanout.audience import Audience, Delays
from benchmarks.fanout.cores import Cores
from benchmarks.fanout.peer import Peer
from benchmarks.fanout.subject import Subject

WARM_UP_S = 2.0


async def pace(subject: Subject, sockets: int, per_s: float, seconds: float) -> dict[str, Any]:
    """Open sockets; have violations committed at a steady rate, and see when they arrive."""
    async with Audience() as audience:
        await audience.open(await subject.door(sockets), sockets, exact=True)
        return await commits_to_arrivals(subject, audience, sockets, per_s, seconds)


async def pace_beside(
    subject: Subject, peer: Peer, sockets: int, per_s: float, *, seconds: float, rounds: int
) -> dict[str, Any]:
    """Let both have events at the same pace for as many sockets, taking turns; return how late each was.

    Guildhall's are late from their commit on, the peer's from when they are published.
    """
    late: dict[str, list[Delays]] = {"guildhall": [], peer.name: []}
    async with Audience() as ours, Audience() as theirs:
        await ours.open(await subject.door(sockets), sockets, exact=True)
        await theirs.open(await peer.door(sockets), sockets, exact=True)
        turns = ((("guildhall", ours, subject.pace_violations)), (peer.name, theirs, peer.pace))
        for _, audience, pace_one in turns:
            await audience.begin()
            await audience.until(await pace_one(per_s, WARM_UP_S))
        for _ in range(rounds):
            for who, audience, pace_one in turns:
                await audience.begin()
                events = await pace_one(per_s, seconds / rounds)
                await audience.until(events)
                (await audience.counts()).require_exactly(events, who)
                late[who].append(await audience.delays())
    name = f"beside_{peer.name}_{per_s:g}_per_s_{sockets}_sockets"
    p99s = {who: median(each.p99 for each in delays) for who, delays in late.items()}
    return {
        f"{name}_ms_p50": {who: median(each.p50 for each in delays) for who, delays in late.items()},
        f"{name}_ms_p99": p99s,
        f"{name}_ms_p99_by_round": {who: [each.p99 for each in delays] for who, delays in late.items()},
        f"{name}_p99_to_{peer.name}": round(p99s["guildhall"] / p99s[peer.name], 2),
    }


async def commits_to_arrivals(
    subject: Subject, audience: Audience, sockets: int, per_s: float, seconds: float
) -> dict[str, Any]:
    """Have violations committed at a steady rate; return how late they were with an audience that is there.

    Raises:
        ServiceFailed: a socket lacks an event, or was closed.

    """
    name = f"paced_{per_s:g}_per_s_{sockets}_sockets"
    await audience.begin()
    await audience.until(await subject.pace_violations(per_s, WARM_UP_S))
    await audience.begin()
    cores = Cores([*subject.processes(), psutil.Process(audience.pid)])
    events = await subject.pace_violations(per_s, seconds)
    await audience.until(events)
    busy = cores.busy()
    (await audience.counts()).require_exactly(events, name)
    delays = await audience.delays()
    return {
        f"{name}_events": events,
        f"{name}_deliveries": delays.count,
        f"{name}_ms_p50": delays.p50,
        f"{name}_ms_p99": delays.p99,
        f"{name}_ms_max": delays.max,
        f"{name}_cores": busy,
    }
