"""People in Redis: what one UserResolver learned, every later one finds."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import StoreUnavailable
from domain.people import Person

KEPT_S = 7 * 24 * 3600
"""Longer than somebody is fresh, so that there is a name to show while Discord is away."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Person).decode


class RedisPeople:
    """Implements :class:`domain.people.PersonMemory`."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=2, socket_connect_timeout=2)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def recall(self, user_ids: Collection[int]) -> dict[int, Person]:
        """See the port."""
        if not user_ids:
            return {}
        try:
            found = await self._redis.mget([_key(user_id) for user_id in user_ids])
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error
        people = [_read(value) for value in found if value is not None]
        return {person.user_id: person for person in people if person is not None}

    async def remember(self, people: Collection[Person]) -> None:
        """See the port."""
        try:
            known = await self.recall([person.user_id for person in people])
            async with self._redis.pipeline(transaction=False) as pipe:
                for person in people:
                    if (kept := known.get(person.user_id)) is None or kept.seen_ms <= person.seen_ms:
                        pipe.set(_key(person.user_id), _encode(person), ex=KEPT_S)
                await pipe.execute()
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error


def _key(user_id: int) -> str:
    return f"guildhall:person:{user_id}"


def _read(value: bytes | str) -> Person | None:
    try:
        return _decode(value if isinstance(value, bytes) else value.encode())
    except msgspec.MsgspecError:  # written by another release: asked about again
        return None
