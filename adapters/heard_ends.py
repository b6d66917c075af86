"""What was heard of sessions that ended, until somebody asks for it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

MAX_WAITING = 10_000
"""Where more wait, it is told instead that some were missed: to look at all is cheaper then."""


class HeardEnds:
    """The listener's side of :class:`domain.sessions.EndedSessions`. To hear never waits."""

    def __init__(self) -> None:
        self._waiting: deque[str | None] = deque()
        self._something = asyncio.Event()
        self._closed = False

    def hear(self, session_id: str) -> None:
        """Keep the id of a session that ended for the listener."""
        if len(self._waiting) >= MAX_WAITING:
            self.miss()
        else:
            self._keep(session_id)

    def miss(self) -> None:
        """Tell the listener to look at all that it holds, which is more than all that waits for it."""
        self._waiting.clear()
        self._keep(None)

    def _keep(self, heard: str | None) -> None:
        if not self._closed:
            self._waiting.append(heard)
            self._something.set()

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        self._waiting.clear()
        self._something.set()

    def __aiter__(self) -> Self:
        """Return what is listened to."""
        return self

    async def __anext__(self) -> str | None:
        """Return what was heard next; who gives up waiting for it misses nothing."""
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._something.clear()
            await self._something.wait()
        return self._waiting.popleft()
