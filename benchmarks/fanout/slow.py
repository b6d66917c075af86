"""Some stop reading: what the others notice of it, what it costs the relay, and how those are closed."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil

from benchmarks.fanout.audience import Audience, Delays
from benchmarks.fanout.subject import Subject
from benchmarks.one_host import weigh
from domain.protocol import CloseCode

SLOW_SOCKETS = 50
RECEIVE_BUFFER = 4_096
"""Bytes that each of them lets the kernel keep for it."""

EVENT_BYTES = 8_192
PER_S = 50.0
BEFORE_S = 10.0
DURING_S = 30.0
"""Twelve megabytes a socket. Linux keeps some seven on the way to one who does not read (on loopback, in the
buffers of two connections), the relay one; less than a minute, or missing pongs would end them before."""
DRAIN_WITHIN_S = 60.0
WEIGH_EVERY_S = 0.5


async def slow_readers(subject: Subject, sockets: int, slow: int) -> dict[str, Any]:
    """Send large events to everybody, a while with all of them reading, and then with some who do not."""
    async with Audience() as audience:
        door = await subject.door(sockets)
        await audience.open(door, sockets, exact=True, slow=slow, receive_buffer=RECEIVE_BUFFER)
        before = await _send(subject, audience, BEFORE_S)
        await audience.pause()
        relay = subject.relay()
        weights_mb = [weigh(relay).pss]
        weighing = asyncio.create_task(_weigh_forever(relay, weights_mb))
        try:
            during = await _send(subject, audience, DURING_S)
        finally:
            weighing.cancel()
        ended = await audience.resume(DRAIN_WITHIN_S)
    return {
        "slow_sockets": slow,
        "slow_sockets_closed_4008": ended["codes"].get(str(int(CloseCode.TOO_SLOW)), 0),
        "slow_sockets_ended": ended,
        "others_ms_p50_before": before.p50,
        "others_ms_p99_before": before.p99,
        "others_ms_p50_during": during.p50,
        "others_ms_p99_during": during.p99,
        "relay_grew_mb": round(max(weights_mb) - weights_mb[0], 1),
    }


async def _send(subject: Subject, audience: Audience, seconds: float) -> Delays:
    """Have large events shown at a steady rate; return how late they were with those who read."""
    await audience.begin()
    events = await subject.pace_announcements(PER_S, seconds, EVENT_BYTES)
    await audience.until(events)
    (await audience.counts()).require_exactly(events, "slow readers")
    return await audience.delays()


async def _weigh_forever(relay: psutil.Process, weights_mb: list[float]) -> None:
    while True:
        await asyncio.sleep(WEIGH_EVERY_S)
        weights_mb.append(weigh(relay).pss)
