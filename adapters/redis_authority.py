"""What the gateway said of people who are logged in, in one hash of Redis."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from adapters.redis_connection import Fuse, connect
from domain.authority import FACTS_KEPT_MS, AuthorityNotice, MemberAuthority, change_of
from domain.errors import SessionsUnavailable

KEY = "guildhall:authority"
READ_AT_ONCE = 1_000

_decoder: msgspec.json.Decoder[AuthorityNotice] = msgspec.json.Decoder(AuthorityNotice)
_encode = msgspec.json.Encoder().encode


class RedisAuthorityStore:
    """Implements :class:`domain.authority.AuthorityStore`. Written by the one Rbac actor only."""

    def __init__(self, redis_url: str) -> None:
        self._redis = connect(redis_url)
        self._unavailable_when_away = Fuse(SessionsUnavailable, self._redis.breaker)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def keep(self, notices: Collection[AuthorityNotice]) -> set[int]:
        """See the port."""
        people = sorted({notice.user_id for notice in notices if isinstance(notice, MemberAuthority)})
        with self._unavailable_when_away():
            async with self._redis.pipeline(transaction=False) as pipe:
                for user_id in people:
                    pipe.exists(f"guildhall:sessions-of:{user_id}")
                found = await pipe.execute() if people else []
            logged_in = {user_id for user_id, exists in zip(people, found, strict=True) if exists}
            kept: dict[Any, Any] = {
                _field(notice): _encode(notice)
                for notice in notices
                if not isinstance(notice, MemberAuthority) or notice.user_id in logged_in
            }
            if kept:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.hset(KEY, mapping=kept)
                    pipe.pexpire(KEY, FACTS_KEPT_MS)
                    await pipe.execute()
        return logged_in

    async def load(self, now_ms: int) -> list[AuthorityNotice]:
        """See the port."""
        loaded: list[AuthorityNotice] = []
        with self._unavailable_when_away():
            old: list[bytes | str] = []
            async for field, raw in self._redis.hscan_iter(KEY, count=READ_AT_ONCE):
                try:
                    notice = _decoder.decode(raw)
                except msgspec.MsgspecError:  # written by another release: as good as nothing
                    old.append(field)
                    continue
                if now_ms - notice.at_ms < FACTS_KEPT_MS:
                    loaded.append(notice)
                else:
                    old.append(field)
            for start in range(0, len(old), READ_AT_ONCE):
                await self._redis.hdel(KEY, *old[start : start + READ_AT_ONCE])
        return loaded


def _field(notice: AuthorityNotice) -> str:
    guild_id, user_id, _ = change_of(notice)
    return f"{guild_id}:{'' if user_id is None else user_id}"
