"""One suite for sessions in Redis and for their twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from adapters.memory import MemoryClock, MemorySessions
from adapters.memory.samples import NOON_MS, person
from adapters.redis_sessions import LOGIN_TTL_S, SESSION_TTL_S, RedisSessions
from domain.errors import SessionsUnavailable
from domain.sessions import PendingLogin, Session, SessionGuild, SessionStore

SESSION = Session(
    user=person(2**63 - 1, display_name="Ünïcode ✨"),
    guilds=(SessionGuild(2**62, "Guild", None, owns=True, permissions=8),),
    csrf_token="csrf",
    created_at_ms=NOON_MS,
)


@pytest.fixture(params=["memory", "redis"])
async def sessions(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[SessionStore]:
    if request.param == "memory":
        yield MemorySessions()
        return
    store = RedisSessions(redis_url)
    yield store
    await store.close()


async def test_a_session_is_found_by_its_token_alone(sessions: SessionStore) -> None:
    """Whole, ids up to 2^63 included; any other token finds nothing."""
    token = await sessions.create(SESSION)
    assert await sessions.get(token) == SESSION
    assert await sessions.get(f"{token}x") is None
    assert await sessions.get("") is None
    await sessions.ping()


async def test_every_session_has_a_token_of_its_own(sessions: SessionStore) -> None:
    """Long enough that nobody guesses one."""
    tokens = {await sessions.create(SESSION) for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 43


async def test_an_ended_session_is_gone(sessions: SessionStore) -> None:
    """It alone; ending it twice is no error."""
    ended, other = await sessions.create(SESSION), await sessions.create(SESSION)
    await sessions.end(ended)
    await sessions.end(ended)
    assert await sessions.get(ended) is None
    assert await sessions.get(other) == SESSION


async def test_a_login_is_taken_once(sessions: SessionStore) -> None:
    """A state that comes back a second time is nobody's."""
    pending = PendingLogin("verifier", "/servers/1")
    await sessions.remember_login("state", pending)
    assert await sessions.take_login("state") == pending
    assert await sessions.take_login("state") is None


async def test_redis_keeps_only_hashes_and_forgets_in_time(redis_url: str) -> None:
    """No token and no state can be read out of Redis, and every key has its lifetime."""
    store = RedisSessions(redis_url)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushall()
        token = await store.create(SESSION)
        await store.remember_login("state-of-a-login", PendingLogin("v", "/"))
        keys: list[Any] = await redis.keys("*")
        assert len(keys) == 2
        assert not any(token in key or "state-of-a-login" in key for key in keys)
        lives = sorted([await redis.ttl(key) for key in keys])
        assert LOGIN_TTL_S - 5 <= lives[0] <= LOGIN_TTL_S
        assert SESSION_TTL_S - 5 <= lives[1] <= SESSION_TTL_S
    await store.close()


async def test_the_twin_forgets_in_time_too() -> None:
    """At the same age."""
    clock = MemoryClock()
    store = MemorySessions(clock)
    token = await store.create(SESSION)
    await store.remember_login("state", PendingLogin("v", "/"))
    clock.advance(LOGIN_TTL_S * 1000)
    assert await store.take_login("state") is None
    clock.advance((SESSION_TTL_S - LOGIN_TTL_S) * 1000 - 1)
    assert await store.get(token) == SESSION
    clock.advance(1)
    assert await store.get(token) is None


async def test_a_store_that_is_away_says_so() -> None:
    """Whoever asks can then say "try again" instead of "log in"."""
    twin = MemorySessions()
    twin.available = False
    redis = RedisSessions("redis://127.0.0.1:1")
    stores: list[SessionStore] = [twin, redis]
    for store in stores:
        for call in (
            store.create(SESSION),
            store.get("t"),
            store.end("t"),
            store.take_login("s"),
            store.ping(),
        ):
            with pytest.raises(SessionsUnavailable):
                await call
    await redis.close()
