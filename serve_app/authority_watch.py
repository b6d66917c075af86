"""How a replica hears from the Rbac actor whose authority may have changed.

It listens to one stream, on which the actor gives a sign of life every two seconds. A replica that has heard
nothing for ``LEASE_S``, or whose stream broke, believes nothing that it remembers, and asks again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from domain.errors import HostUnreachable, StoreUnavailable
from domain.roles import AuthorityChange, Roles
from tasks import SupervisedTasks

log = structlog.get_logger()

LEASE_S = 5.0
FIRST_RETRY_S, LONGEST_RETRY_S = 0.1, 2.0


class AuthorityListener(Protocol):
    """Who holds answers of the Rbac actor."""

    def changed(self, changes: Sequence[AuthorityChange]) -> None:
        """Ask again about these."""
        ...

    def missed(self) -> None:
        """Ask again about everybody: some changes may not have been heard."""
        ...


class AuthorityWatch:
    """Keeps the stream up, over all lives of the actor."""

    def __init__(
        self, roles: Roles, listeners: Sequence[AuthorityListener], monotonic_s: Callable[[], float]
    ) -> None:
        self._roles = roles
        self._listeners = list(listeners)
        self._monotonic_s = monotonic_s
        self._heard_s: float | None = None
        self._tasks = SupervisedTasks("authority")
        self.changes = self.breaks = 0
        """Changes that were heard, and streams that ended."""

    def add(self, listener: AuthorityListener) -> None:
        """Tell one more listener, from here on."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to listen."""
        self._tasks.keep("listen", self._listen_forever)

    async def stop(self) -> None:
        """Listen no more."""
        await self._tasks.stop()

    @property
    def hears(self) -> bool:
        """Whether a change would be heard: the stream stands, and gave a sign of life."""
        return self._heard_s is not None and self._monotonic_s() - self._heard_s <= LEASE_S

    async def _listen_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                async for changes in self._roles.changes(secrets.token_hex(8)):
                    self._take(changes)
                    retry_s = FIRST_RETRY_S
                log.info("authority_stream_ended")
            except (HostUnreachable, StoreUnavailable) as problem:
                log.warning("authority_stream_broke", error=str(problem))
            except Exception:
                # Whatever it was: without this task nobody would ever hear of a change again.
                log.exception("authority_stream_broke")
            if self._heard_s is not None:
                self.breaks += 1
            self._heard_s = None
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _take(self, changes: list[AuthorityChange]) -> None:
        was_silent = not self.hears
        self._heard_s = self._monotonic_s()
        self.changes += len(changes)
        for listener in self._listeners:
            if was_silent:
                listener.missed()
            if changes:
                listener.changed(changes)
