"""How Redis is reached by what must answer quickly, also when Redis is away or hangs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from adapters.redis_together import TogetherRedis

ANSWERS_WITHIN_S = 1.0
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

    After a failure one caller a second tries whether Redis is back; all others are told at once.
    """

    def __init__(
        self,
        unavailable: type[Exception],
        *,
        pause_s: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unavailable = unavailable
        self._pause_s = pause_s
        self._monotonic = monotonic
        self._next_try: float | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Guard a conversation with Redis."""
        if self._next_try is not None:
            if self._monotonic() < self._next_try:
                raise self._unavailable
            self._next_try = self._monotonic() + self._pause_s
        try:
            yield
        except RedisError as error:
            self._next_try = self._monotonic() + self._pause_s
            raise self._unavailable from error
        self._next_try = None
