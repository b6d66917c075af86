"""Sending at a steady rate, whoever sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def send_steadily(
    per_s: float, seconds: float, send: Callable[[int, int], Awaitable[None]]
) -> tuple[int, float]:
    """Send what is due, as first number and count, until the time is over; return how many, and how long."""
    started, sent, total = time.perf_counter(), 0, round(per_s * seconds)
    while sent < total:
        due = min(total, int((time.perf_counter() - started) * per_s) + 1)
        if due > sent:
            await send(sent, due - sent)
            sent = due
        await asyncio.sleep(max(0.0, started + sent / per_s - time.perf_counter()))
    return total, time.perf_counter() - started
