"""At a steady rate: how long after its commit an event is with everybody who watches."""

from __future__ import annotations

from typing import Any

import psutil

from benchmarks.fanout.audience import Audience
from benchmarks.fanout.cores import Cores
from benchmarks.fanout.subject import Subject

WARM_UP_S = 2.0


async def pace(subject: Subject, sockets: int, per_s: float, seconds: float) -> dict[str, Any]:
    """Open sockets; have violations committed at a steady rate, and see when they arrive."""
    async with Audience() as audience:
        await audience.open(await subject.door(sockets), sockets, exact=True)
        return await commits_to_arrivals(subject, audience, sockets, per_s, seconds)


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
