"""What a socket weighs that only listens: in the relay's process, and in nginx beside it."""

from __future__ import annotations

import asyncio
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
SETTLE_S = 5.0


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
    await asyncio.sleep(SETTLE_S)  # collections and late answers; there is nothing to wait for
    return weigh(process)


def _kb_a_socket(before_mb: float, after_mb: float, sockets: int) -> float:
    return round((after_mb - before_mb) * 1_000 / sockets, 1)
