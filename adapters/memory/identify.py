"""The twin of the book of IDENTIFY grants."""

from __future__ import annotations

from collections.abc import Callable

from adapters.clock import now_ms as wall_clock_ms
from domain.errors import StoreUnavailable
from domain.identify import IdentifyGrant, IdentifyRules, Later, LimitsUnknown, SessionStarts, reserve


class MemoryIdentifyGrants:
    """Implements :class:`domain.identify.IdentifyGrants`. ``available = False`` makes every call raise."""

    def __init__(self, rules: IdentifyRules | None = None, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.available = True
        self._rules = rules or IdentifyRules()
        self._now_ms = now_ms
        self._starts: SessionStarts | None = None
        self._noted_ms = self._remaining = 0
        self._asking_until_ms = 0
        self._free_ms: dict[int, int] = {}
        self._held: dict[int, str] = {}

    async def ask(self, shard_id: int, holder: str) -> IdentifyGrant | Later | LimitsUnknown:
        """See the port."""
        now_ms, starts, rules = self._now(), self._starts, self._rules
        resets_ms = self._noted_ms + (starts.reset_after_ms if starts else 0)
        if starts is None or now_ms >= self._noted_ms + rules.refresh_ms or now_ms >= resets_ms:
            if now_ms < self._asking_until_ms:
                return Later(min(self._asking_until_ms - now_ms, 100), "limits")
            self._asking_until_ms = now_ms + rules.ask_ms
            return LimitsUnknown()
        if self._remaining <= reserve(starts.total):
            return Later(resets_ms - now_ms, "budget")
        bucket = shard_id % starts.max_concurrency
        free_ms = self._free_ms.get(bucket, 0)
        if now_ms < free_ms:
            wait_ms = free_ms - now_ms
            # Once it is spent, it is an interval from then.
            return Later(min(wait_ms, rules.interval_ms) if bucket in self._held else wait_ms, "bucket")
        self._free_ms[bucket] = now_ms + rules.hold_ms + rules.interval_ms
        self._held[bucket] = holder
        self._remaining -= 1
        return IdentifyGrant(bucket, holder)

    async def note(self, starts: SessionStarts) -> None:
        """See the port."""
        now_ms = self._now()
        other = self._starts is None or self._starts.max_concurrency != starts.max_concurrency
        blind = other and starts.remaining < starts.total
        self._remaining = starts.remaining
        for bucket in range(starts.max_concurrency):
            free_ms = self._free_ms.get(bucket, 0)
            if free_ms <= now_ms:
                self._held.pop(bucket, None)
            elif bucket in self._held:
                self._remaining -= 1
            if blind:
                self._free_ms[bucket] = max(free_ms, now_ms + self._rules.interval_ms)
        self._starts, self._noted_ms, self._asking_until_ms = starts, now_ms, 0

    async def spent(self, grant: IdentifyGrant) -> None:
        """See the port."""
        self._settle(grant, self._rules.interval_ms)

    async def give_back(self, grant: IdentifyGrant) -> None:
        """See the port."""
        if self._settle(grant, 0):
            self._remaining += 1

    def _settle(self, grant: IdentifyGrant, wait_ms: int) -> bool:
        now_ms = self._now()
        if self._held.get(grant.bucket) != grant.holder:
            return False
        del self._held[grant.bucket]
        self._free_ms[grant.bucket] = now_ms + wait_ms
        return True

    def _now(self) -> int:
        if not self.available:
            raise StoreUnavailable
        return self._now_ms()
