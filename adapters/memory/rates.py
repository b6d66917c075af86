"""The twin of the rate limiter: exact, in one process, by a clock that a test may move."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from limits import parse

from adapters.clock import now_ms as wall_clock_ms
from domain.rates import RateName, Rates


class MemoryRateLimiter:
    """Implements :class:`domain.rates.RateLimiter`."""

    def __init__(self, rates: Rates | None = None, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self._rates = rates or Rates()
        self._now_ms = now_ms
        self._hits: dict[tuple[RateName, str], deque[int]] = {}

    async def hit(self, rate: RateName, who: str) -> float | None:
        """See the port."""
        item = parse(getattr(self._rates, rate))
        hits, now_ms = self._hits.setdefault((rate, who), deque()), self._now_ms()
        while hits and hits[0] + item.get_expiry() * 1000 <= now_ms:
            hits.popleft()
        if len(hits) >= item.amount:
            return (hits[0] + item.get_expiry() * 1000 - now_ms) / 1000
        hits.append(now_ms)
        return None
