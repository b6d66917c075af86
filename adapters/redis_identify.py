"""The book of IDENTIFY grants in Redis: what all runners of all networks of one bot ask."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from adapters.redis_connection import connect
from adapters.redis_together import TogetherRedis
from domain.errors import StoreUnavailable
from domain.identify import (
    IdentifyGrant,
    IdentifyRules,
    Later,
    LimitsUnknown,
    SessionStarts,
)

_SCRIPT = (Path(__file__).parent / "lua" / "identify_grants.lua").read_text(encoding="utf-8")


class RedisIdentifyGrants:
    """Implements :class:`domain.identify.IdentifyGrants`.

    The book has no lifetime, so Redis does not throw it out when memory runs short; it is small. One that is
    lost all the same is begun by asking Discord and leaving every bucket alone for an interval.
    """

    def __init__(self, redis: str | TogetherRedis, token: str, rules: IdentifyRules | None = None) -> None:
        self._redis = connect(redis)
        self._rules = rules or IdentifyRules()
        # Named by the bot without telling its token.
        self._book = f"guildhall:identify:{hashlib.sha256(token.encode()).hexdigest()[:24]}"
        self._script = self._redis.register_script(_SCRIPT)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def ask(self, shard_id: int, holder: str) -> IdentifyGrant | Later | LimitsUnknown:
        """See the port."""
        rules = self._rules
        answer = await self._run(
            "ask", shard_id, holder, rules.interval_ms, rules.hold_ms, rules.refresh_ms, rules.ask_ms
        )
        match answer:
            case [b"granted", bucket]:
                return IdentifyGrant(int(bucket), holder)
            case [b"later", wait_ms, why]:
                return Later(int(wait_ms), why.decode())
            case _:
                return LimitsUnknown()

    async def note(self, starts: SessionStarts) -> None:
        """See the port."""
        await self._run(
            "note",
            starts.total,
            starts.remaining,
            starts.reset_after_ms,
            starts.max_concurrency,
            self._rules.interval_ms,
        )

    async def spent(self, grant: IdentifyGrant) -> None:
        """See the port."""
        await self._run("spent", grant.bucket, grant.holder, self._rules.interval_ms)

    async def give_back(self, grant: IdentifyGrant) -> None:
        """See the port."""
        await self._run("give_back", grant.bucket, grant.holder)

    async def _run(self, *arguments: str | int) -> list[Any]:
        try:
            answer: list[Any] = await self._script(keys=[self._book], args=list(arguments))
        except RedisError as error:
            raise StoreUnavailable(f"Redis cannot be reached: {type(error).__name__}") from error
        return answer
