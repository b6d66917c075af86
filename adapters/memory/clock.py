"""A clock that stands until it is moved."""

from __future__ import annotations

from adapters.memory.samples import NOON_MS


class MemoryClock:
    """Called, it gives the time in Unix milliseconds."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """Return the time that was set."""
        return self.now_ms

    def advance(self, by_ms: int) -> None:
        """Move on."""
        self.now_ms += by_ms
