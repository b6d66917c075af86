"""The book of IDENTIFY grants in Redis: what all runners of all networks of one bot ask."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
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
    lost all the same is begun by asking Discord and leaving every bucket alone for an interval. So is one
    that may be older than it was (of another run of Redis, or with fewer grants than are known here), and one
    whose clock was set forward.
    """

    def __init__(
        self,
        redis: str | TogetherRedis,
        token: str,
        rules: IdentifyRules | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = connect(redis)
        self._monotonic_s = monotonic_s
        self._known_grants = 0
        self._clock_ahead_ms = 0
        """By how much the clock of Redis was last ahead of the one here; 0 before it is known."""
        self._rules = rules or IdentifyRules()
        # Named by the bot without telling its token.
        self._book = f"guildhall:identify:{hashlib.sha256(token.encode()).hexdigest()[:24]}"
        self._script = self._redis.register_script(_SCRIPT)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def ask(self, shard_id: int, holder: str) -> IdentifyGrant | Later | LimitsUnknown:
        """See the port."""
        rules, asked_ms = self._rules, int(self._monotonic_s() * 1000)
        grants, clock_ms, answer = await self._run(
            "ask",
            shard_id,
            holder,
            rules.interval_ms,
            rules.hold_ms,
            rules.refresh_ms,
            rules.ask_ms,
            rules.jump_ms,
            self._known_grants,
            self._clock_ahead_ms and asked_ms + self._clock_ahead_ms,
        )
        self._known_grants = max(self._known_grants, grants)
        self._clock_ahead_ms = clock_ms - asked_ms
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
