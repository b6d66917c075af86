"""Tasks with an owner: what breaks is logged and begun anew, what hangs is named, and all end together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

import structlog

log = structlog.get_logger()

FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.1, 10.0
STABLE_AFTER_S = 60.0
"""A loop that ran for so long makes its next backoff the first one again."""

AILING_AFTER_FAILURES = 3
"""A loop that broke so often in a row is told of: its owner cannot do its work."""

STUCK_AFTER_S = 10.0
"""One round of a periodic task that takes longer is told of."""

T = TypeVar("T")


class _Loop:
    def __init__(self) -> None:
        self.failures = 0
        self.began: float | None = None
        self.round_began: float | None = None
        self.stuck_after_s = STUCK_AFTER_S


class SupervisedTasks:
    """Owns the tasks of an actor, a replica or a part of it. None of them ends unnoticed."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: dict[str, _Loop] = {}
        _owners.add(self)

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
        task = self._own(name, self._once(name, work))
        task.add_done_callback(lambda _: work.close())  # should it have been ended before it began
        return task

    def call(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something for a caller, who takes what it returns or raises from the task."""
        return self._own(name, work)

    async def finish(self, name: str, work: Coroutine[Any, Any, T], within_s: float) -> T:
        """Run something to its end, even when its caller is cancelled meanwhile; return what it returns.

        What it raises when nobody waits for it any more is logged.

        Raises:
            TimeoutError: the work took longer than ``within_s``, and was ended.

        """
        task = self.call(name, _bounded(work, within_s))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._log_failure)
            raise

    def ailing(self) -> tuple[str, ...]:
        """Return the names of the loops that break whenever they begin, or that hang."""
        if not self._loops:
            return ()
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

    async def drain(self, within_s: float) -> None:
        """Wait for all tasks, but not for long; end those that take longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        if self._tasks:
            log.error("work_cut_short", owner=self._owner, tasks=len(self._tasks))
        await self.stop()

    async def stop(self) -> None:
        """End all tasks."""
        tasks, self._loops = list(self._tasks), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _own(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
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

    def _log_failure(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task_broke", owner=self._owner, task=task.get_name(), exc_info=error)


_owners: WeakSet[SupervisedTasks] = WeakSet()


def ailing_here() -> tuple[str, ...]:
    """Return the loops of this process that cannot go on, each as ``owner: name``."""
    return tuple(sorted(f"{owner._owner}: {name}" for owner in list(_owners) for name in owner.ailing()))  # noqa: SLF001


async def _bounded(work: Coroutine[Any, Any, T], within_s: float) -> T:
    async with asyncio.timeout(within_s):
        return await work
