"""Work that many ask for at once is done once, and its answer is never older than the question."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NextRun(Generic[T]):
    """One at a time, ``every_s`` between the beginnings; whoever asks shares the next that begins."""

    def __init__(self, work: Callable[[], Awaitable[T]], every_s: float) -> None:
        self._work, self._every_s = work, every_s
        self._began_s = -math.inf
        self._running: asyncio.Task[T] | None = None
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """Return what the next run returns, or raise what it raises."""
        if self._next is None:
            self._next = asyncio.create_task(self._run_after(self._running))
        return await asyncio.shield(self._next)

    async def _run_after(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait({before})
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._began_s + self._every_s - loop.time()))
        self._began_s = loop.time()
        self._running, self._next = self._next, None
        return await self._work()
