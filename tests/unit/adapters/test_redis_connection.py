from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.circuit_breaker import CircuitBreaker
from adapters.redis_connection import Fuse
from domain.errors import SessionsUnavailable


class Away(Exception):
    """What another adapter makes of it."""


class Talk:
    """Conversations with a Redis that a test lets fail; counts those that reached it."""

    def __init__(self) -> None:
        self.problem: RedisError | None = None
        self.reached = self.probes = 0
        self.probed = asyncio.Event()
        self.breaker = CircuitBreaker(self._probe, pause_s=0.001)
        self.fuse = Fuse(SessionsUnavailable, self.breaker)

    async def _probe(self) -> None:
        self.probes += 1
        self.probed.set()
        if self.problem:
            raise self.problem

    def __call__(self) -> bool:
        """Return whether the conversation went well."""
        try:
            with self.fuse():
                self.reached += 1
                if self.problem:
                    raise self.problem
        except SessionsUnavailable:
            return False
        return True

    async def next_probe(self) -> None:
        self.probed.clear()
        async with asyncio.timeout(5):
            await self.probed.wait()
            await asyncio.sleep(0)


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    talk = Talk()
    yield talk
    await talk.breaker.close()


async def test_nothing_stands_between_while_all_is_well(talk: Talk) -> None:
    """Every conversation reaches Redis, and nobody probes."""
    assert all(talk() for _ in range(10))
    assert (talk.reached, talk.probes) == (10, 0)


@pytest.mark.parametrize("problem", [RedisConnectionError(), RedisTimeoutError()])
async def test_after_a_failure_nobody_waits_for_the_next(talk: Talk, problem: RedisError) -> None:
    """All are told at once, whatever they ask and whoever they are; only the probe asks, again and again."""
    talk.problem = problem
    assert not any(talk() for _ in range(10))
    for _ in range(3):
        await talk.next_probe()
        assert not talk()
    with pytest.raises(Away), Fuse(Away, talk.breaker)():
        pytest.fail("it is not asked")
    assert talk.reached == 1


async def test_when_it_is_back_all_is_as_before(talk: Talk) -> None:
    """The probe finds it."""
    talk.problem = RedisConnectionError()
    talk()
    talk.problem = None
    await talk.next_probe()
    assert all(talk() for _ in range(10))
    assert not talk.breaker.is_open


async def test_a_redis_that_refuses_answers(talk: Talk) -> None:
    """Nobody waited for that: it is asked again the next time."""
    talk.problem = ResponseError("OOM")
    assert not any(talk() for _ in range(10))
    assert (talk.reached, talk.probes) == (10, 0)


async def test_a_bug_of_ours_is_no_failure_of_redis(talk: Talk) -> None:
    """It goes on as what it is."""
    with pytest.raises(ZeroDivisionError), talk.fuse():
        raise ZeroDivisionError
    assert talk()
