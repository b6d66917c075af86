"""What a socket weighs that only listens: in the relay's process, and in nginx beside it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psutil

from benchmarks.fanout.audience import Audience
from benchmarks.fanout.paced import commits_to_arrivals
from benchmarks.fanout.peer import Peer
from benchmarks.fanout.subject import Subject
from benchmarks.one_host import Weight, weigh

PER_S = 4.0
WARM_UP_SOCKETS = 50
"""The first sockets bring in what is there once for all of them."""
SETTLED_MB, SETTLE_WITHIN_S = 0.5, 15.0
"""A process has settled when it neither grew nor shrank by so much within a second."""


async def weigh_sockets_and_pace(subject: Subject, sockets: int, seconds: float) -> dict[str, Any]:
    """Weigh the relay before and after so many sockets subscribed; then let them hear a few events."""
    async with Audience() as first:
        await first.open(await subject.door(WARM_UP_SOCKETS), WARM_UP_SOCKETS, exact=True)
    relay = subject.relay()
    door = await subject.door(sockets)
    before = await _settled(relay)
    async with Audience() as audience:
        opened_s = await audience.open(door, sockets, exact=True)
        after = await _settled(relay)
        paced = await commits_to_arrivals(subject, audience, sockets, PER_S, seconds)
    return {
        "idle_sockets": sockets,
        "idle_sockets_opened_s": round(opened_s, 1),
        "relay_mb_before": round(before.pss),
        "relay_mb_after": round(after.pss),
        "relay_kb_a_socket": _kb_a_socket(before.pss, after.pss, sockets),
        "relay_kb_a_socket_uss": _kb_a_socket(before.uss, after.uss, sockets),
        **paced,
    }


async def weigh_nchan_sockets(peer: Peer, sockets: int) -> dict[str, Any]:
    """Weigh nginx's worker before and after so many sockets listen."""
    async with Audience() as first:
        await first.open(await peer.door(WARM_UP_SOCKETS), WARM_UP_SOCKETS)
    worker = peer.processes()[-1]
    before = await _settled(worker)
    async with Audience() as audience:
        await audience.open(await peer.door(sockets), sockets)
        after = await _settled(worker)
    return {"nchan_kb_a_socket": _kb_a_socket(before.pss, after.pss, sockets)}


async def _settled(process: psutil.Process) -> Weight:
    """Return what a process weighs once it has done what sockets gave it to do."""
    deadline = time.perf_counter() + SETTLE_WITHIN_S
    weight = weigh(process)
    while time.perf_counter() < deadline:
        await asyncio.sleep(1.0)
        before, weight = weight, weigh(process)
        if abs(weight.pss - before.pss) < SETTLED_MB:
            break
    return weight


def _kb_a_socket(before_mb: float, after_mb: float, sockets: int) -> float:
    return round((after_mb - before_mb) * 1_000 / sockets, 1)
