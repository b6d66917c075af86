"""The twin of Redis as far as sessions go."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from adapters.clock import now_ms as wall_clock_ms
from adapters.redis_sessions import LOGIN_TTL_S, SESSION_TTL_S
from domain.errors import SessionsUnavailable
from domain.sessions import PendingLogin, Session


class MemorySessions:
    """Implements :class:`domain.ports.SessionStore`. ``available = False`` makes every call raise."""

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.available = True
        self._now_ms = now_ms
        self._sessions: dict[str, tuple[int, Session]] = {}
        self._logins: dict[str, tuple[int, PendingLogin]] = {}

    async def create(self, session: Session) -> str:
        """See the port."""
        self._require()
        token = secrets.token_urlsafe(32)
        self._sessions[token] = (self._now_ms() + SESSION_TTL_S * 1000, session)
        return token

    async def get(self, token: str) -> Session | None:
        """See the port."""
        self._require()
        ends_ms, session = self._sessions.get(token, (0, None))
        return session if self._now_ms() < ends_ms else None

    async def end(self, token: str) -> None:
        """See the port."""
        self._require()
        self._sessions.pop(token, None)

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """See the port."""
        self._require()
        self._logins[state] = (self._now_ms() + LOGIN_TTL_S * 1000, pending)

    async def take_login(self, state: str) -> PendingLogin | None:
        """See the port."""
        self._require()
        ends_ms, pending = self._logins.pop(state, (0, None))
        return pending if self._now_ms() < ends_ms else None

    async def ping(self) -> None:
        """See the port."""
        self._require()

    def _require(self) -> None:
        if not self.available:
            raise SessionsUnavailable
