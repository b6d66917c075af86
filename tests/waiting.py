"""Waiting for a thing instead of for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(ask: Callable[[], Awaitable[T | None]], *, within_s: float = 20.0) -> T:
    """Ask until the answer is something; fail when it is not in time."""
    async with asyncio.timeout(within_s):
        while not (answer := await ask()):  # noqa: ASYNC110 - another process cannot set our event
            await asyncio.sleep(0.02)
        return answer
