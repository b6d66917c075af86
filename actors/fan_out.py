"""Host to listeners: what waits for each is bounded, so that a slow one delays nobody.

Relays listen to events; API replicas observe changes (:mod:`actors.observers`). A listener that is ready
takes all that waits for it as one list: one that keeps up is sent everything at once, and one that is busy
gets longer lists instead of more of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_WAITING_ITEMS = 100_000
"""Bound of what waits for one listener. One that is further behind is cut off; a relay comes back,
registers its sockets anew, and they resume or reload."""
MAX_WAITING_BYTES = 64 << 20
"""The other bound: items of a storm are long."""


class Item(NamedTuple):
    """Events of a guild that were published together, maybe by an activation that has ended since."""

    guild_id: int
    epoch: int
    offset: int
    """Of the last event."""
    events: Sequence[bytes]
    """With consecutive offsets, each ready for a frame (:func:`domain.protocol.events_frame`)."""


PROBE = Item(0, 0, 0, ())
"""In place of events: the relay is to say that it is there."""


class _Waiting(Generic[T]):
    """What waits for one listener."""

    def __init__(self) -> None:
        self.items: list[T] = []
        self.size = 0
        self.sent = 0
        self.ended = False
        self.something = asyncio.Event()


class FanOut(Generic[T]):
    """Those who listen to a host, each with what waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting[T]] = {}
        self._closed = False

    async def stream(self, listener_id: str) -> AsyncGenerator[list[T], None]:
        """Yield what is sent to a listener until it leaves or is cut off: all that waits when it is ready.

        The first list is empty: it says that the stream stands, so that nothing is registered before it.
        After ``close`` none stands any more: a host whose end its Director did not live to complete must
        not keep listeners that belong to its successor.
        """
        if self._closed:
            return
        waiting = self._waiting[listener_id] = _Waiting[T]()
        try:
            yield []
            while True:
                await waiting.something.wait()
                if waiting.ended:
                    return
                items, waiting.items, waiting.size = waiting.items, [], 0
                waiting.something.clear()
                yield items
        finally:
            del self._waiting[listener_id]

    def listens(self, listener_id: str) -> bool:
        """Whether a listener's stream stands."""
        waiting = self._waiting.get(listener_id)
        return waiting is not None and not waiting.ended

    def listeners(self) -> list[str]:
        """Return whose streams stand."""
        return [listener_id for listener_id in self._waiting if self.listens(listener_id)]

    def sent(self) -> dict[str, int]:
        """Return how many items were sent to each listener whose stream stands."""
        return {listener_id: self._waiting[listener_id].sent for listener_id in self.listeners()}

    def send(self, listener_id: str, items: Sequence[T], size: int = 0) -> None:
        """Send items of ``size`` bytes in all, none as a sign of life; whoever left is no error."""
        waiting = self._waiting.get(listener_id)
        if waiting is None or waiting.ended:
            return
        if len(waiting.items) + len(items) > MAX_WAITING_ITEMS or waiting.size + size > MAX_WAITING_BYTES:
            self.end(listener_id)
            return
        waiting.items += items
        waiting.size += size
        waiting.sent += len(items)
        waiting.something.set()

    def close(self) -> None:
        """End every stream, also those that are still to come."""
        self._closed = True
        for listener_id in list(self._waiting):
            self.end(listener_id)

    def end(self, listener_id: str) -> None:
        """End a stream; what waits in it is not sent any more."""
        waiting = self._waiting.get(listener_id)
        if waiting is None:
            return
        waiting.ended = True
        waiting.items, waiting.size = [], 0
        waiting.something.set()
