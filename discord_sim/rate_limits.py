"""REST rate limits as Discord counts them: fixed windows per bucket, and one global window per token."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

_SWEEP_AT = 4_096


class Limit(NamedTuple):
    """So many requests in so many seconds."""

    requests: int
    per_s: float


GLOBAL_LIMIT = Limit(50, 1.0)


@dataclass(slots=True)
class _Window:
    resets_at: float
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one request."""

    allowed: bool
    limit: int
    remaining: int
    reset_after_s: float
    bucket: str
    scope: str = "user"

    def headers(self, now_wall_s: float) -> dict[str, str]:
        """Return the X-RateLimit headers of an answer."""
        headers = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": f"{now_wall_s + self.reset_after_s:.3f}",
            "X-RateLimit-Reset-After": f"{self.reset_after_s:.3f}",
            "X-RateLimit-Bucket": self.bucket,
        }
        if not self.allowed:
            headers["X-RateLimit-Scope"] = self.scope
            if self.scope == "global":
                headers = {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}
        return headers


class RateLimiter:
    """All windows of all tokens; the clock is an argument."""

    def __init__(self, global_limit: Limit = GLOBAL_LIMIT) -> None:
        self._global = global_limit
        self._windows: dict[tuple[str, str], _Window] = {}

    def take(self, *, token: str, route: str, major: str, limit: Limit, now: float) -> Verdict:
        """Count one request of a token on a route; refused ones do not count."""
        self._sweep(now)
        bucket = blake2b(route.encode(), digest_size=16).hexdigest()
        everything = self._window(("global", token), self._global, now)
        if everything.used >= self._global.requests:
            return Verdict(
                allowed=False,
                limit=self._global.requests,
                remaining=0,
                reset_after_s=everything.resets_at - now,
                bucket=bucket,
                scope="global",
            )
        window = self._window((f"{bucket}:{major}", token), limit, now)
        allowed = window.used < limit.requests
        if allowed:
            window.used += 1
            everything.used += 1
        return Verdict(
            allowed=allowed,
            limit=limit.requests,
            remaining=limit.requests - window.used,
            reset_after_s=window.resets_at - now,
            bucket=bucket,
        )

    def _window(self, key: tuple[str, str], limit: Limit, now: float) -> _Window:
        window = self._windows.get(key)
        if window is None or window.resets_at <= now:
            window = self._windows[key] = _Window(now + limit.per_s)
        return window

    def _sweep(self, now: float) -> None:
        if len(self._windows) > _SWEEP_AT:
            self._windows = {key: window for key, window in self._windows.items() if window.resets_at > now}
