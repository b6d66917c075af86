"""Whether a shard runner may deliver: only as the newest of its lives, and once it is known to be that."""

from __future__ import annotations

import asyncio

from domain.events import Sender


class SenderFence:
    """Holds deliveries back until their sender is registered, and for good once it was replaced."""

    def __init__(self) -> None:
        self.sender: Sender | None = None
        """As whom batches are sent; None is nobody's life, whose batches need no leave."""
        self.replaced = asyncio.Event()
        self._may_send = asyncio.Event()

    @classmethod
    def without(cls) -> SenderFence:
        """Return one that holds nobody back, for a source that has only one life."""
        fence = cls()
        fence._may_send.set()
        return fence

    @property
    def may_send(self) -> bool:
        """Whether batches may go now."""
        return self._may_send.is_set()

    def open(self, sender: Sender) -> None:
        """Let batches go, as the newest life of a runner."""
        self.sender = sender
        self._may_send.set()

    def close(self) -> None:
        """Let nothing go any more: a later life has begun."""
        self._may_send.clear()
        self.replaced.set()

    async def until_open(self) -> None:
        """Return as soon as batches may go."""
        await self._may_send.wait()
