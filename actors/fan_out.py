"""Host to listeners: one bounded queue each, so that a slow one delays nobody.

Relays listen to frames; API replicas observe changes (:mod:`actors.observers`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_WAITING_LISTS = 2_000
"""Bound of one listener's queue: about a minute of ticks. A relay behind that far is cut off; it comes
back, registers its sockets anew, and they resume or reload."""
MAX_WAITING_BYTES = 64 << 20
"""The other bound: lists of a storm are long."""


class Item(NamedTuple):
    """A frame of a guild's stream. Frames of an activation that ended may still be on their way."""

    guild_id: int
    epoch: int
    offset: int
    """Of the last event in the frame."""
    frame: bytes


PROBE = Item(0, 0, 0, b"")
"""In place of a frame: the relay is to say that it is there."""


class _Waiting(Generic[T]):
    """What waits for one listener."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[tuple[list[T], int] | None] = asyncio.Queue()  # None is the stream's end
        self.size = 0
        self.sent = 0


class FanOut(Generic[T]):
    """Those who listen to a host, each with its queue."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting[T]] = {}
        self._closed = False

    async def stream(self, listener_id: str) -> AsyncGenerator[list[T], None]:
        """Yield what is sent to a listener until it leaves or is cut off.

        The first list is empty: it says that the stream stands, so that nothing is registered before it.
        After ``close`` none stands any more: a host whose end its Director did not live to complete must
        not keep listeners that belong to its successor.
        """
        if self._closed:
            return
        waiting = self._waiting[listener_id] = _Waiting[T]()
        try:
            yield []
            while (sent := await waiting.lists.get()) is not None:
                items, size = sent
                waiting.size -= size
                yield items
        finally:
            del self._waiting[listener_id]

    def listens(self, listener_id: str) -> bool:
        """Whether a listener's stream stands."""
        return listener_id in self._waiting

    def listeners(self) -> list[str]:
        """Return whose streams stand."""
        return list(self._waiting)

    def sent(self) -> dict[str, int]:
        """Return how many lists were sent to each listener whose stream stands, the first one aside."""
        return {listener_id: waiting.sent for listener_id, waiting in self._waiting.items()}

    def send(self, listener_id: str, items: list[T], size: int = 0) -> None:
        """Queue items of ``size`` bytes in all; a listener that is not there any more is no error."""
        waiting = self._waiting.get(listener_id)
        if waiting is None:
            return
        if waiting.lists.qsize() >= MAX_WAITING_LISTS or waiting.size + size > MAX_WAITING_BYTES:
            self.end(listener_id)
            return
        waiting.size += size
        waiting.sent += 1
        waiting.lists.put_nowait((items, size))

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
        while not waiting.lists.empty():
            waiting.lists.get_nowait()
        waiting.size = 0
        waiting.lists.put_nowait(None)
