"""The replicas' counts in Redis: one hash, a field a replica, with the time at which it was written."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from redis.exceptions import RedisError

from adapters.redis_connection import connect
from adapters.redis_together import TogetherRedis
from domain.errors import StoreUnavailable
from domain.replica_counts import ReplicaCounts

KEPT_MS = 30_000
"""A replica that wrote nothing for so long is gone."""

_BOARD = "guildhall:replica_counts"


class _Written(msgspec.Struct):
    at_ms: int
    counts: ReplicaCounts


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


class RedisCounts:
    """Implements :class:`domain.replica_counts.CountsBoard`. Replicas' clocks may differ by some seconds."""

    def __init__(self, redis: str | TogetherRedis, now_ms: Callable[[], int]) -> None:
        self._redis = connect(redis)
        self._now_ms = now_ms

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def exchange(self, replica: str, counts: ReplicaCounts) -> dict[str, ReplicaCounts]:
        """See the port."""
        now_ms = self._now_ms()
        try:
            async with self._redis.pipeline() as pipe:
                pipe.hset(_BOARD, replica, _encode(_Written(now_ms, counts)))
                pipe.pexpire(_BOARD, KEPT_MS)
                pipe.hgetall(_BOARD)
                _, _, found = await pipe.execute()
            written = {name.decode(): _read(value) for name, value in found.items()}
            gone = [name for name, it in written.items() if it is None or it.at_ms <= now_ms - KEPT_MS]
            if gone:
                await self._redis.hdel(_BOARD, *gone)
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error
        return {name: it.counts for name, it in written.items() if it is not None and name not in gone}


def _read(value: bytes) -> _Written | None:
    try:
        return _decode(value)
    except msgspec.MsgspecError:  # written by another release
        return None
