"""How many sockets each person holds, counted in Redis over all relays.

| key | what | until |
|---|---|---|
| ``guildhall:sockets-of:<user>`` | their sockets by relay | eight days later: no session lasts so long |
| ``guildhall:relay:<name>`` | the relay lives | ten seconds after it last said so |

A relay that died takes nobody's place: what it had told counts only as long as its own key is there.
"""

from __future__ import annotations

import contextlib

from adapters.redis_connection import Fuse, connect
from adapters.redis_together import TogetherRedis

LIVES_MS = 10_000
_KEPT_MS = 8 * 24 * 3_600_000

_ENTER = """
local others = 0
local found = redis.call('HGETALL', KEYS[1])
for at = 1, #found, 2 do
    if found[at] ~= ARGV[1] then
        if redis.call('EXISTS', 'guildhall:relay:' .. found[at]) == 1 then
            others = others + found[at + 1]
        else
            redis.call('HDEL', KEYS[1], found[at])
        end
    end
end
if others + ARGV[2] > tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


class _Away(Exception):
    """Redis does not answer."""


class RedisOpenSockets:
    """Implements :class:`domain.socket_limits.OpenSockets`."""

    def __init__(self, redis: str | TogetherRedis, relay: str) -> None:
        self._redis = connect(redis)
        self._relay = relay
        self._fuse = Fuse(_Away, self._redis.breaker)

    async def enter(self, user_id: int, here: int, most: int) -> bool:
        """See the port."""
        try:
            with self._fuse():
                return bool(
                    await self._redis.execute_command(
                        "EVAL", _ENTER, 1, _key(user_id), self._relay, here, most, _KEPT_MS
                    )
                )
        except _Away:
            return True

    async def tell(self, user_id: int, here: int) -> None:
        """See the port."""
        with contextlib.suppress(_Away), self._fuse():
            if here:
                await self._redis.execute_command("HSET", _key(user_id), self._relay, here)
            else:
                await self._redis.execute_command("HDEL", _key(user_id), self._relay)

    async def live(self) -> bool:
        """See the port."""
        try:
            with self._fuse():
                last = await self._redis.execute_command(
                    *("SET", self._life(), 1, "PX", LIVES_MS, "GET"), get=True
                )
                return last is not None
        except _Away:
            return False

    async def close(self) -> None:
        """See the port."""
        with contextlib.suppress(_Away), self._fuse():
            await self._redis.execute_command("DEL", self._life())

    def _life(self) -> str:
        return f"guildhall:relay:{self._relay}"


def _key(user_id: int) -> str:
    return f"guildhall:sockets-of:{user_id}"
