"""What waits for the consumer: bounded, in order, and without what is out of date."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Generic, TypeVar

from guildhall.live.status import Behind, Connecting, Live, Status, Waiting
from guildhall.live.words import Applied, Reset

S = TypeVar("S")

Update = Reset[S] | Applied | Connecting | Live | Waiting | Behind


class Outbox(Generic[S]):
    """Holds updates until they are taken.

    A state that was read anew replaces the states and events that still wait before it: it holds what they
    say. Of statuses in a row only the last is kept. So what waits is a state, events up to the bound, and
    a status between them.
    """

    def __init__(self, max_events: int) -> None:
        self._max_events = max_events
        self._updates: deque[Update[S]] = deque()
        self._events = 0
        self._end: BaseException | None = None
        self._something = asyncio.Event()

    @property
    def overfull(self) -> bool:
        """Whether more events wait than may."""
        return self._events > self._max_events

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._updates

    def put(self, update: Update[S]) -> None:
        """Add an update."""
        if isinstance(update, Reset):
            self._updates = deque(one for one in self._updates if not isinstance(one, Reset | Applied))
            self._events = 0
        elif isinstance(update, Applied):
            self._events += len(update.events)
        elif self._updates and isinstance(self._updates[-1], Status):
            self._updates.pop()
        self._updates.append(update)
        self._something.set()

    def end(self, error: BaseException) -> None:
        """Say that nothing follows, and why. The first reason counts."""
        self._end = self._end or error
        self._something.set()

    async def take(self) -> Update[S]:
        """Return the next update, when there is one; raise what it ended with after the last."""
        while not self._updates:
            if self._end is not None:
                raise self._end
            self._something.clear()
            await self._something.wait()
        update: Any = self._updates.popleft()
        if isinstance(update, Applied):
            self._events -= len(update.events)
        taken: Update[S] = update
        return taken
