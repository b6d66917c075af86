"""Spares everybody the wait for what does not answer: one finds out, a probe says when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tasks import SupervisedTasks

log = structlog.get_logger()


class CircuitBreaker:
    """Open while what it stands before does not answer. Only the probe waits then, behind all requests."""

    def __init__(self, probe: Callable[[], Awaitable[object]], *, pause_s: float = 1.0) -> None:
        self._probe = probe
        self._pause_s = pause_s
        self._tasks = SupervisedTasks("circuit breaker")

    @property
    def is_open(self) -> bool:
        """Whether nobody should ask right now."""
        return len(self._tasks) > 0

    def trip(self) -> None:
        """Open it, because an answer did not come."""
        if not self.is_open:
            self._tasks.keep("probe", self._probe_until_it_answers, may_end=True)

    async def close(self) -> None:
        """Probe no more."""
        await self._tasks.stop()

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(self._pause_s)
            try:
                await self._probe()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
                log.debug("still_away", error=repr(error))
            else:
                return
