"""Sessions that end, as Redis tells them to all who are connected at that moment."""

from __future__ import annotations

import asyncio

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from adapters.heard_ends import HeardEnds
from adapters.redis_together import ANSWERS_WITHIN_S
from domain.sessions import ENDED_CHANNEL
from tasks import SupervisedTasks

log = structlog.get_logger()

SILENCE_S = 2.0
"""After so long without a word Redis is asked for one; after twice as long the connection is dead."""

PAUSE_S = 1.0
"""Between two attempts to connect."""


class RedisEndedSessions(HeardEnds):
    """Implements :class:`domain.sessions.EndedSessions`; it connects when it is first listened to."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._redis = Redis.from_url(
            redis_url,
            max_connections=1,
            socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=ANSWERS_WITHIN_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._tasks = SupervisedTasks("ended sessions")
        self._away = False

    async def __anext__(self) -> str | None:
        """See the port."""
        if not self._tasks and not self._closed:
            self._tasks.keep("listen", self._listen_forever)
        return await super().__anext__()

    async def close(self) -> None:
        """See the port; the connection goes too."""
        await super().close()
        await self._tasks.stop()
        await self._redis.aclose()

    async def _listen_forever(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as connection:
                    await self._listen(connection)
            except (RedisError, OSError) as problem:
                if not self._away:  # once, not at every attempt
                    log.warning("ended_sessions_not_heard", error=type(problem).__name__)
                self._away = True
            await asyncio.sleep(PAUSE_S)

    async def _listen(self, connection: PubSub) -> None:
        """Hear until the connection breaks, by itself or because nothing comes over it any more."""
        await connection.subscribe(ENDED_CHANNEL)
        asked = False
        while True:
            said = await connection.get_message(timeout=SILENCE_S)
            if said is None and asked:
                raise RedisTimeoutError("Redis answers no ping.")
            if said is None:
                await connection.ping()
            elif said["type"] == "subscribe":  # once for each time that it was connected
                self._away = False
                self.miss()
            elif said["type"] == "message":
                self.hear(said["data"].decode(errors="replace"))
            asked = said is None
