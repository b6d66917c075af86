"""Tasks that live for long have an owner: what breaks is logged and begun anew, what hangs is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
STABLE_AFTER_S = 60.0
"""A loop that ran for so long makes its next backoff the first one again."""

AILING_AFTER_FAILURES = 3
"""A loop that broke so often in a row is told of: its owner cannot do its work."""

STUCK_AFTER_S = 10.0
"""One round of a periodic task that takes longer is told of."""


class _Loop:
    def __init__(self) -> None:
        self.failures = 0
        self.began: float | None = None
        self.round_began: float | None = None
        self.stuck_after_s = STUCK_AFTER_S


class SupervisedTasks:
    """Owns the tasks of an actor or a replica. None of them ends unnoticed, and all end with the owner."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: dict[str, _Loop] = {}

    def __len__(self) -> int:
        """Return how many tasks there are now."""
        return len(self._tasks)

    def keep(
        self, name: str, work: Callable[[], Awaitable[None]], *, may_end: bool = False
    ) -> asyncio.Task[None]:
        """Run a loop for as long as the owner lives: broken or ended, it begins anew after a pause.

        One that ``may_end`` does so when its work is done, and begins anew only when it broke.
        """
        loop = self._loops[name] = _Loop()
        return self._own(name, self._keep(name, loop, work, may_end=may_end))

    def every(
        self,
        name: str,
        period_s: float,
        work: Callable[[], Awaitable[None]],
        *,
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> asyncio.Task[None]:
        """Do something again and again with a pause between; one round that breaks does not end it."""
        loop = self._loops[name] = _Loop()
        loop.stuck_after_s = stuck_after_s

        async def rounds() -> None:
            while True:
                await asyncio.sleep(period_s)
                loop.round_began = asyncio.get_running_loop().time()
                try:
                    await work()
                finally:
                    loop.round_began = None
                loop.failures = 0

        return self._own(name, self._keep(name, loop, rounds))

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends by itself; what it raises is logged."""
        return self._own(name, self._once(name, work))

    def ailing(self) -> tuple[str, ...]:
        """Return the names of the loops that break whenever they begin, or that hang."""
        now_s = asyncio.get_running_loop().time()
        return tuple(
            name
            for name, loop in self._loops.items()
            if (
                loop.failures >= AILING_AFTER_FAILURES
                and (loop.began is None or now_s - loop.began < STABLE_AFTER_S)
            )
            or (loop.round_began is not None and now_s - loop.round_began > loop.stuck_after_s)
        )

    async def stop(self) -> None:
        """End all tasks."""
        tasks, self._loops = list(self._tasks), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"{self._owner}: {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep(
        self, name: str, loop: _Loop, work: Callable[[], Awaitable[None]], *, may_end: bool = False
    ) -> None:
        clock = asyncio.get_running_loop()
        while True:
            began = loop.began = clock.time()
            try:
                await work()
                if may_end:
                    if self._loops.get(name) is loop:
                        del self._loops[name]
                    return
                log.error("task_ended", owner=self._owner, task=name)
            except Exception:
                log.exception("task_broke", owner=self._owner, task=name)
            loop.began = None
            if clock.time() - began >= STABLE_AFTER_S:
                loop.failures = 0
            await asyncio.sleep(min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(loop.failures, 16)))
            loop.failures += 1

    async def _once(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("task_broke", owner=self._owner, task=name)
