"""Rates counted in Redis for all replicas together, by the limits library; while Redis is away, in each."""

from __future__ import annotations

import time
from typing import Any, Protocol, cast

from limits import RateLimitItem, WindowStats, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from adapters.redis_connection import Fuse, connect
from adapters.redis_together import TogetherRedis
from domain.rates import RateName, Rates

MAX_KEYS = 50_000
"""How many counters a replica keeps while Redis is away; with more, all begin anew."""


class _Away(Exception):
    """Redis does not answer."""


class _Strategy(Protocol):
    async def hit(self, item: RateLimitItem, *identifiers: str) -> bool: ...

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats: ...


class RedisRateLimiter:
    """Implements :class:`domain.rates.RateLimiter`."""

    def __init__(self, redis: str | TogetherRedis, rates: Rates) -> None:
        self._items: dict[RateName, RateLimitItem] = {
            "reads": parse(rates.reads),
            "changes": parse(rates.changes),
            "logins": parse(rates.logins),
            "strangers": parse(rates.strangers),
        }
        self._redis = connect(redis)
        self._fuse = Fuse(_Away)
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="guildhall:rate",
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]
        )
        # The library makes a client of its own; with ours the commands of many requests travel together.
        bridge = cast("RedispyBridge", storage.bridge)
        bridge.connection_getter = lambda _: cast("Any", self._redis)
        bridge.register_scripts()
        # Exact: whoever comes back after the time that was told is let through.
        self._shared = MovingWindowRateLimiter(storage)
        # Not a moving window here: the library would ask a thread for every key of it.
        self._own_storage = MemoryStorage()
        self._own = SlidingWindowCounterRateLimiter(self._own_storage)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def hit(self, rate: RateName, who: str) -> float | None:
        """See the port."""
        try:
            with self._fuse():
                return await _hit(self._shared, self._items[rate], rate, who)
        except _Away:
            if len(self._own_storage.storage) > MAX_KEYS:
                await self._own_storage.reset()
            return await _hit(self._own, self._items[rate], rate, who)


def require_rate(text: str) -> str:
    """Return a rate that can be used; raise ``ValueError`` with a sentence about another."""
    try:
        usable = parse(text).amount > 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError('must be a rate, like "120 per 10 seconds" or "20 per minute"')
    return text


async def _hit(strategy: _Strategy, item: RateLimitItem, rate: str, who: str) -> float | None:
    if await strategy.hit(item, rate, who):
        return None
    stats = await strategy.get_window_stats(item, rate, who)
    return max(0.0, stats.reset_time - time.time())
