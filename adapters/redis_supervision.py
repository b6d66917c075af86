"""How the supervised are, in Redis: one value with the time at which it was written."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from pydantic import ValidationError
from redis.exceptions import RedisError

from adapters.redis_connection import connect
from adapters.redis_together import TogetherRedis
from domain.errors import StoreUnavailable
from domain.supervision import LASTS_MS, ChildView

_KEY = "guildhall:supervision"


class RedisSupervision:
    """Implements :class:`domain.supervision.SupervisionBoard`. Clocks may differ by some seconds."""

    def __init__(self, redis: str | TogetherRedis, now_ms: Callable[[], int]) -> None:
        self._redis = connect(redis)
        self._now_ms = now_ms

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def publish(self, children: list[ChildView]) -> None:
        """See the port."""
        written = {"at_ms": self._now_ms(), "children": [child.plain() for child in children]}
        try:
            await self._redis.set(_KEY, msgspec.json.encode(written), px=LASTS_MS)
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error

    async def read(self) -> list[ChildView] | None:
        """See the port."""
        try:
            found = await self._redis.get(_KEY)
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error
        if found is None:
            return None
        try:
            written = msgspec.json.decode(found)
            children = [ChildView.model_validate(child) for child in written["children"]]
            fresh = written["at_ms"] > self._now_ms() - LASTS_MS
        except (msgspec.MsgspecError, ValidationError, KeyError, TypeError):  # written by another release
            return None
        return children if fresh else None
