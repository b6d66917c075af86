"""Sessions and pending logins in Redis. A token is a secret: Redis sees only its hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from domain.errors import SessionsUnavailable
from domain.sessions import PendingLogin, Session

SESSION_TTL_S = 7 * 24 * 3600
LOGIN_TTL_S = 600

_encode = msgspec.json.encode


class RedisSessions:
    """Implements :class:`domain.ports.SessionStore`."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def create(self, session: Session) -> str:
        """See the port."""
        token = secrets.token_urlsafe(32)
        with _unavailable_when_away():
            await self._redis.set(_session_key(token), _encode(session), ex=SESSION_TTL_S)
        return token

    async def get(self, token: str) -> Session | None:
        """See the port."""
        with _unavailable_when_away():
            found = await self._redis.get(_session_key(token))
        return None if found is None else msgspec.json.decode(found, type=Session)

    async def end(self, token: str) -> None:
        """See the port."""
        with _unavailable_when_away():
            await self._redis.delete(_session_key(token))

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """See the port."""
        with _unavailable_when_away():
            await self._redis.set(_login_key(state), _encode(pending), ex=LOGIN_TTL_S)

    async def take_login(self, state: str) -> PendingLogin | None:
        """See the port."""
        with _unavailable_when_away():
            found = await self._redis.getdel(_login_key(state))
        return None if found is None else msgspec.json.decode(found, type=PendingLogin)

    async def ping(self) -> None:
        """See the port."""
        with _unavailable_when_away():
            await self._redis.execute_command("PING")  # type: ignore[no-untyped-call]


@contextmanager
def _unavailable_when_away() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise SessionsUnavailable from error


def _session_key(token: str) -> str:
    return f"guildhall:session:{_hash(token)}"


def _login_key(state: str) -> str:
    return f"guildhall:login:{_hash(state)}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
