"""One suite for rates in Redis, for what counts while Redis is away, and for their twin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import get_args

import pytest
from limits import RateLimitItem
from redis.asyncio import Redis

from adapters import rate_limiter
from adapters.memory import MemoryRateLimiter
from adapters.rate_limiter import RedisRateLimiter, require_rate
from domain.rates import RateLimiter, RateName, Rates

RATES = Rates(reads="5 per second", changes="3 per day", logins="1 per day", strangers="5 per second")
NOWHERE = "redis://127.0.0.1:1"

_people = count(1)


@pytest.fixture
def somebody() -> str:
    """Give somebody who has asked for nothing yet."""
    return f"somebody-{next(_people)}"


@pytest.fixture(params=["memory", "redis", "redis away"])
async def limiter(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[RateLimiter]:
    if request.param == "memory":
        yield MemoryRateLimiter(RATES)
        return
    real = RedisRateLimiter(redis_url if request.param == "redis" else NOWHERE, RATES)
    yield real
    await real.close()


async def hits(limiter: RateLimiter, times: int, who: str, rate: RateName = "changes") -> list[bool]:
    """Ask so often; return which requests could go on."""
    return [await limiter.hit(rate, who) is None for _ in range(times)]


async def test_so_many_go_on_and_no_more(limiter: RateLimiter, somebody: str) -> None:
    """Whoever is refused is told for how long; others are not concerned, nor what they do otherwise."""
    assert await hits(limiter, 5, somebody) == [True] * 3 + [False] * 2
    wait_s = await limiter.hit("changes", somebody)
    assert wait_s is not None
    assert 0 <= wait_s <= 24 * 3600
    assert await hits(limiter, 3, f"{somebody}-else") == [True] * 3
    assert await hits(limiter, 1, somebody, "logins") == [True]


async def test_many_at_once_are_counted_one_by_one(limiter: RateLimiter, somebody: str) -> None:
    """No race lets one more through."""
    at_once = await asyncio.gather(*(hits(limiter, 1, somebody) for _ in range(20)))
    assert sum(gone_on for [gone_on] in at_once) == 3


async def test_what_one_asks_at_once_is_counted_at_once(
    redis_url: str, somebody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By two commands, not twenty; others count for themselves, and who gives up takes it from nobody."""
    limiter = RedisRateLimiter(
        redis_url, Rates(reads="100 per day", changes="1 per day", logins="1 per day", strangers="1 per day")
    )
    costs: list[tuple[str, int]] = []
    hit = limiter._shared.hit

    async def counted(item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        costs.append((identifiers[-1], cost))
        return await hit(item, *identifiers, cost=cost)

    monkeypatch.setattr(limiter._shared, "hit", counted)
    asking = [asyncio.create_task(limiter.hit("reads", somebody)) for _ in range(20)]
    another = asyncio.create_task(limiter.hit("reads", f"{somebody}-else"))
    await asyncio.sleep(0)
    asking[0].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [None] * 19
    assert await another is None
    assert [cost for who, cost in costs if who == f"{somebody}-else"] == [1]
    own = [cost for who, cost in costs if who == somebody]
    assert sum(own) == 20
    assert len(own) <= 2
    await limiter.close()


async def test_time_gives_it_back(redis_url: str, somebody: str) -> None:
    """Whoever comes back after the time that was told is let through, in Redis and in the twin."""
    real = RedisRateLimiter(redis_url, RATES)
    limiters: list[RateLimiter] = [real, MemoryRateLimiter(RATES)]
    for limiter in limiters:
        for _ in range(3):
            while (wait_s := await limiter.hit("reads", somebody)) is None:
                pass
            assert wait_s <= 1
            # What is waited for is a clock, and it is waited for exactly as long as it was said.
            deadline = time.time() + wait_s + 0.001
            while time.time() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(deadline - time.time())
            assert await limiter.hit("reads", somebody) is None
    await real.close()


async def test_all_replicas_count_together(redis_url: str, somebody: str) -> None:
    """It does not help to be sent to another one."""
    replicas = [RedisRateLimiter(redis_url, RATES) for _ in range(3)]
    assert [await hits(replica, 1, somebody) for replica in replicas] == [[True]] * 3
    assert [await hits(replica, 1, somebody) for replica in replicas] == [[False]] * 3
    for replica in replicas:
        await replica.close()


async def test_counters_end_by_themselves(redis_url: str, somebody: str) -> None:
    """Every key in Redis has the lifetime of its rate, and stays small."""
    limiter = RedisRateLimiter(redis_url, RATES)
    await hits(limiter, 50, somebody)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        [key] = [key async for key in redis.scan_iter(f"guildhall:rate:*{somebody}*")]
        assert 0 < await redis.ttl(key) <= 24 * 3600
        assert await redis.llen(key) == 3
    await limiter.close()


async def test_memory_is_bounded_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of addresses does not fill it."""
    monkeypatch.setattr(rate_limiter, "MAX_KEYS", 50)
    limiter = RedisRateLimiter(NOWHERE, RATES)
    for number in range(500):
        await limiter.hit("strangers", str(number))
        assert len(limiter._own_storage.storage) <= 51
    await limiter.close()


async def test_a_redis_that_hangs_holds_nobody_up(somebody: str) -> None:
    """It is given a second, by one request; all others are counted here meanwhile."""
    stop = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        limiter = RedisRateLimiter(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", RATES)
        started = time.monotonic()
        assert await hits(limiter, 20, somebody) == [True] * 3 + [False] * 17
        assert time.monotonic() - started < 5
        stop.set()
        await limiter.close()


@pytest.mark.parametrize("text", ["120 per 10 seconds", "20/minute", "1 per 2 hours"])
def test_a_rate_is_what_people_write(text: str) -> None:
    """And is kept as they wrote it."""
    assert require_rate(text) == text


async def test_every_limiter_has_a_rate_for_everything() -> None:
    """No name of the port is without one."""
    limiter = RedisRateLimiter(NOWHERE, Rates())
    assert set(limiter._items) == set(get_args(RateName))
    await limiter.close()
