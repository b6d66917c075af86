"""Waiting for leave to send an IDENTIFY, however long that takes."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from domain.errors import StoreUnavailable
from domain.identify import IdentifyGrant, IdentifyGrants, IdentifyRules, Later, LimitsUnknown, SessionStarts

log = structlog.get_logger()

LONGEST_WAIT_S = 30.0
"""Nobody sleeps longer before asking again: others may give back what they had."""
AWAY_WAIT_S = 1.0
USABLE_SHARE = 0.75
"""Of a grant's time: what is left is for clocks that run differently, and for the way to Redis."""
SETTLE_WITHIN_S = 2.0
_LIMITS = "Discord's limits"


class Turn(NamedTuple):
    """A grant, and until when it may be used, on this process' monotonic clock."""

    grant: IdentifyGrant
    usable_until_s: float


class IdentifyTurns:
    """Takes turns in the one book for the shards of one runner. Without the book, everybody waits."""

    def __init__(
        self,
        grants: IdentifyGrants,
        ask_discord: Callable[[], Awaitable[SessionStarts]],
        rules: IdentifyRules | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._grants = grants
        self._ask_discord = ask_discord
        self._rules = rules or IdentifyRules()
        self._sleep = sleep
        self.starts: SessionStarts | None = None
        """What Discord last said, if this runner was the one to ask."""
        self.waiting: dict[int, str] = {}
        """By shard that has no turn yet: what it waits for."""
        self.budget_wait_ms = 0
        """How long Discord lets nobody begin a session any more; 0 while it does."""

    async def take(self, shard_id: int) -> Turn:
        """Return when a shard may identify; hours later, if that is what Discord's limits come to."""
        try:
            while True:
                asked_s = time.monotonic()
                turn = await self._ask(shard_id)
                if isinstance(turn, IdentifyGrant):
                    return Turn(turn, asked_s + self._rules.hold_ms / 1000 * USABLE_SHARE)
                if turn > 0:
                    # Late by a little and not all at once: a bucket has many who wait.
                    wait_s = min(turn, LONGEST_WAIT_S) + random.uniform(0, 0.05)  # noqa: S311 - spreads, hides nothing
                    await self._sleep(wait_s)
        finally:
            self.waiting.pop(shard_id, None)

    async def spent(self, turn: Turn) -> None:
        """Note that the IDENTIFY was sent. Not noted, the bucket stays closed for the grant's time."""
        await self._settle(self._grants.spent(turn.grant))

    async def give_back(self, turn: Turn) -> None:
        """Note that the IDENTIFY was certainly not sent."""
        await self._settle(self._grants.give_back(turn.grant))

    async def _ask(self, shard_id: int) -> IdentifyGrant | float:
        """Return a grant, or for how many seconds to wait."""
        try:
            answer = await self._grants.ask(shard_id, secrets.token_hex(8))
            if isinstance(answer, LimitsUnknown):
                self.starts = await self._ask_discord()
                await self._grants.note(self.starts)
                return 0.0
        except StoreUnavailable:
            return self._later(shard_id, "Redis", AWAY_WAIT_S)
        except Exception as error:  # noqa: BLE001 - whatever Discord's answer was, nobody identifies without its limits
            log.warning("session_starts_unknown", error=repr(error))
            return self._later(shard_id, _LIMITS, AWAY_WAIT_S)
        self.budget_wait_ms = 0
        if isinstance(answer, Later):
            if answer.why == "budget":
                self.budget_wait_ms = answer.wait_ms
                return self._later(shard_id, "new session starts", answer.wait_ms / 1000)
            what = "its turn" if answer.why == "bucket" else _LIMITS
            return self._later(shard_id, what, answer.wait_ms / 1000)
        return answer

    def _later(self, shard_id: int, what: str, wait_s: float) -> float:
        if self.waiting.get(shard_id) != what and what not in ("its turn", _LIMITS):
            log.warning("identify_waits", shard=shard_id, waits_for=what)
        self.waiting[shard_id] = what
        return max(wait_s, 0.001)

    @staticmethod
    async def _settle(call: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(SETTLE_WITHIN_S):
                await call
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("grant_not_settled", error=repr(error))
