"""Host to listeners: one bounded queue each, so that a slow one delays nobody.

Relays listen to frames; API replicas observe changes (:mod:`actors.observers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_WAITING_LISTS = 2_000
"""Bound of one listener's queue: about a minute of commits. A relay behind that far is cut off; it comes
back, registers its sockets anew, and they resume or reload."""


class Item(NamedTuple):
    """A frame of a guild's stream. Frames of an activation that ended may still be on their way."""

    guild_id: int
    epoch: int
    offset: int
    """Of the last event in the frame."""
    frame: bytes


class FanOut(Generic[T]):
    """Those who listen to a host, each with its queue."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[list[T] | None]] = {}  # None is a stream's end
        self._closed = False

    async def stream(self, listener_id: str) -> AsyncGenerator[list[T], None]:
        """Yield what is sent to a listener until it leaves or is cut off.

        The first list is empty: it says that the stream stands, so that nothing is registered before it.
        After ``close`` none stands any more: a host whose end its Director did not live to complete must
        not keep listeners that belong to its successor.
        """
        if self._closed:
            return
        queue: asyncio.Queue[list[T] | None] = asyncio.Queue()
        self._queues[listener_id] = queue
        try:
            yield []
            while (items := await queue.get()) is not None:
                yield items
        finally:
            del self._queues[listener_id]

    def listens(self, listener_id: str) -> bool:
        """Whether a listener's stream stands."""
        return listener_id in self._queues

    def listeners(self) -> list[str]:
        """Return whose streams stand."""
        return list(self._queues)

    def send(self, listener_id: str, items: list[T]) -> None:
        """Queue items for a listener; one that does not listen any more is no error."""
        queue = self._queues.get(listener_id)
        if queue is None:
            return
        if queue.qsize() >= MAX_WAITING_LISTS:
            self.end(listener_id)
            return
        queue.put_nowait(items)

    def close(self) -> None:
        """End every stream, also those that are still to come."""
        self._closed = True
        for listener_id in list(self._queues):
            self.end(listener_id)

    def end(self, listener_id: str) -> None:
        """End a stream; what waits in it is not sent any more."""
        queue = self._queues.get(listener_id)
        if queue is None:
            return
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
