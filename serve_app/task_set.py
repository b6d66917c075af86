"""Tasks that outlive whoever began them: counted, bounded in time, and waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


class TaskSet:
    """Owns tasks for their callers. What breaks in one that nobody waits for any more is told to the log."""

    def __init__(self, *, max_tasks: int, within_s: float) -> None:
        self._max_tasks = max_tasks
        self._within_s = within_s
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another task."""
        return len(self._tasks) >= self._max_tasks

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in a task of its own, and return what it returns.

        A caller that is cancelled does not cancel the work.

        Raises:
            TimeoutError: the work took longer than ``within_s``, and was ended.

        """
        task = asyncio.create_task(self._bounded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_tell)
            raise

    async def drain(self, within_s: float) -> None:
        """Wait for all tasks, but not for long; end those that take longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        if left:
            log.error("work_cut_short", tasks=len(left))
            await asyncio.gather(*left, return_exceptions=True)

    async def _bounded(self, work: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(self._within_s):
            return await work


def _tell(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work_broke", exc_info=error)
