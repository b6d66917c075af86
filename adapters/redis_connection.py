"""How Redis is reached by what must answer quickly, also when Redis is away or hangs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from adapters.circuit_breaker import CircuitBreaker
from adapters.redis_together import ANSWERS_WITHIN_S, TogetherRedis

MAX_CONNECTIONS = 64


def connect(redis: str | TogetherRedis) -> TogetherRedis:
    """Return a client that says within about a second whether Redis answers; whoever takes it closes it.

    Given a client, return that: several adapters can share one, so that their commands travel together.
    A connection that broke while it was idle is replaced at once: that alone is tried again. (By default
    redis-py tries ten times, and everybody waits.)
    """
    if isinstance(redis, TogetherRedis):
        return redis
    pool = BlockingConnectionPool.from_url(
        redis,
        max_connections=MAX_CONNECTIONS,
        timeout=ANSWERS_WITHIN_S,
        socket_timeout=ANSWERS_WITHIN_S,
        socket_connect_timeout=ANSWERS_WITHIN_S,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    client = TogetherRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class Fuse:
    """Turns failures of Redis into an error of ours, and spares everybody the wait for the next one.

    All who share a client share its circuit breaker: whoever meets a Redis that hangs waits once, and what a
    request asks after that, and every other request, is told at once until a probe gets an answer.
    """

    def __init__(self, unavailable: type[Exception], breaker: CircuitBreaker) -> None:
        self._unavailable = unavailable
        self._breaker = breaker

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Guard a conversation with Redis."""
        if self._breaker.is_open:
            raise self._unavailable
        try:
            yield
        except ResponseError as error:  # it answers, and at once, though not as it should
            raise self._unavailable from error
        except RedisError as error:
            self._breaker.trip()
            raise self._unavailable from error
