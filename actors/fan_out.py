"""Host to relays: one bounded queue a relay, so that a slow relay delays nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import NamedTuple

MAX_WAITING_LISTS = 2_000
"""Bound of one relay's queue: about a minute of commits. A relay behind that far is cut off; it comes
back, registers its sockets anew, and they resume or reload."""


class Item(NamedTuple):
    """A frame of a guild's stream. Frames of an activation that ended may still be on their way."""

    guild_id: int
    epoch: int
    offset: int
    """Of the last event in the frame."""
    frame: bytes


_END: list[Item] = []


class FanOut:
    """The relays that listen to a host, each with its queue."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[list[Item]]] = {}

    async def stream(self, relay_id: str) -> AsyncGenerator[list[Item], None]:
        """Yield what is sent to a relay until it leaves or is cut off.

        The first list is empty: it says that the stream stands, so that a relay registers no socket
        before it.
        """
        queue: asyncio.Queue[list[Item]] = asyncio.Queue()
        self._queues[relay_id] = queue
        try:
            yield []
            while (items := await queue.get()) is not _END:
                yield items
        finally:
            del self._queues[relay_id]

    def listens(self, relay_id: str) -> bool:
        """Whether a relay's stream stands."""
        return relay_id in self._queues

    def send(self, relay_id: str, items: list[Item]) -> None:
        """Queue items for a relay; one that does not listen any more is no error."""
        queue = self._queues.get(relay_id)
        if queue is None:
            return
        if queue.qsize() >= MAX_WAITING_LISTS:
            self.end(relay_id)
            return
        queue.put_nowait(items)

    def close(self) -> None:
        """End every stream."""
        for relay_id in list(self._queues):
            self.end(relay_id)

    def end(self, relay_id: str) -> None:
        """End a relay's stream; what waits in it is not sent any more."""
        queue = self._queues.get(relay_id)
        if queue is None:
            return
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(_END)
