"""The twin of the board on which replicas write up their counts."""

from __future__ import annotations

from collections.abc import Callable

from adapters.clock import now_ms as wall_clock_ms
from adapters.redis_counts import KEPT_MS
from domain.errors import StoreUnavailable
from domain.replica_counts import ReplicaCounts


class MemoryCounts:
    """Implements :class:`domain.replica_counts.CountsBoard`. ``available = False`` makes every call raise."""

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.available = True
        self._now_ms = now_ms
        self._written: dict[str, tuple[int, ReplicaCounts]] = {}

    async def exchange(self, replica: str, counts: ReplicaCounts) -> dict[str, ReplicaCounts]:
        """See the port."""
        if not self.available:
            raise StoreUnavailable
        now_ms = self._now_ms()
        self._written[replica] = now_ms, counts
        return {name: counts for name, (at_ms, counts) in self._written.items() if now_ms - at_ms < KEPT_MS}
