"""Rates counted in Redis for all replicas together, by the limits library; while Redis is away, in each."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol, cast

from limits import RateLimitItem, WindowStats, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from adapters.redis_connection import Fuse, connect
from adapters.redis_together import TogetherRedis
from domain.rates import RateName, Rates
from domain.socket_limits import Allowance

MAX_KEYS = 50_000
"""How many counters a replica keeps while Redis is away; with more, all begin anew."""


class _Away(Exception):
    """Redis does not answer."""


class _Strategy(Protocol):
    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool: ...

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats: ...


class _Together:
    """Counts at once what one person asks at once, as a page does when it loads: still exactly.

    While a count is under way, those that come wait, and the next one takes all of them.
    """

    def __init__(self, strategy: _Strategy) -> None:
        self._strategy = strategy
        self._waiting: dict[tuple[str, str], list[asyncio.Future[float | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def hit(self, item: RateLimitItem, rate: str, who: str) -> float | None:
        answer: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get((rate, who))
        if waiting is not None:
            waiting.append(answer)
        else:
            self._waiting[rate, who] = [answer]
            task = asyncio.create_task(self._count(item, rate, who))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def _count(self, item: RateLimitItem, rate: str, who: str) -> None:
        while hits := self._waiting[rate, who]:
            self._waiting[rate, who] = []
            answers: list[float | None]
            try:
                if await self._strategy.hit(item, rate, who, cost=len(hits)):
                    answers = [None] * len(hits)
                else:
                    answers = await self._as_far_as_it_goes(len(hits), item, rate, who)
            except Exception as error:  # noqa: BLE001 - whatever it is, each of them hears it
                for hit in hits:
                    if not hit.done():
                        hit.set_exception(error)
                continue
            for hit, answer in zip(hits, answers, strict=True):
                if not hit.done():
                    hit.set_result(answer)
        del self._waiting[rate, who]

    async def _as_far_as_it_goes(
        self, hits: int, item: RateLimitItem, rate: str, who: str
    ) -> list[float | None]:
        """Count one by one; what one is refused, those behind it are refused too, unasked."""
        answers: list[float | None] = []
        wait_s: float | None = None
        for _ in range(hits):
            if wait_s is None:
                wait_s = await _hit(self._strategy, item, rate, who)
            answers.append(wait_s)
        return answers


class RedisRateLimiter:
    """Implements :class:`domain.rates.RateLimiter`."""

    def __init__(self, redis: str | TogetherRedis, rates: Rates) -> None:
        self._items: dict[RateName, RateLimitItem] = {
            "reads": parse(rates.reads),
            "changes": parse(rates.changes),
            "logins": parse(rates.logins),
            "strangers": parse(rates.strangers),
            "handshakes": parse(rates.handshakes),
        }
        self._redis = connect(redis)
        self._fuse = Fuse(_Away, self._redis.breaker)
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
        self._together = _Together(self._shared)
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
                return await self._together.hit(self._items[rate], rate, who)
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


def allowance(rate: str) -> Allowance:
    """Return a rate that can be used as what one has at once, and how fast it comes back."""
    item = parse(rate)
    return Allowance(item.amount, float(item.get_expiry()))


async def _hit(strategy: _Strategy, item: RateLimitItem, rate: str, who: str) -> float | None:
    if await strategy.hit(item, rate, who):
        return None
    stats = await strategy.get_window_stats(item, rate, who)
    return max(0.0, stats.reset_time - time.time())
