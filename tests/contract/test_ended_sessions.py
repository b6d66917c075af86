"""One suite for what Redis tells of sessions that end, and for its twin."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest
import structlog
from redis.asyncio import Redis

from adapters import redis_ended
from adapters.embedded_redis import EmbeddedRedis
from adapters.memory import MemoryEndedSessions, MemorySessions
from adapters.memory.samples import NOON_MS, person
from adapters.redis_ended import RedisEndedSessions
from adapters.redis_sessions import RedisSessions
from adapters.sealing import Sealer, new_key
from domain.sessions import ENDED_CHANNEL, EndedSessions, Session, SessionStore, session_id_of
from tests.waiting import eventually

USER_ID = 2**62


class Ending(NamedTuple):
    """A store whose sessions end, and somebody who listens."""

    store: SessionStore
    ended: EndedSessions
    interrupt: Callable[[], Awaitable[object]]
    """Let the listener's connection break."""

    async def log_in(self) -> str:
        return await self.store.create(Session(person(USER_ID), (), "csrf", NOON_MS))

    async def next(self) -> str | None:
        async with asyncio.timeout(10):
            return await anext(self.ended)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_ended, "SILENCE_S", 0.05)
    monkeypatch.setattr(redis_ended, "PAUSE_S", 0.01)


@pytest.fixture(params=["memory", "redis"])
async def ending(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Ending]:
    if request.param == "memory":
        memory = MemorySessions(lambda: NOON_MS)
        twin = MemoryEndedSessions(memory)

        async def interrupt() -> None:
            twin.miss()

        yield Ending(memory, twin, interrupt)
        await twin.close()
        return
    store = RedisSessions(redis_url, Sealer([new_key()]), lambda: NOON_MS)
    ended = RedisEndedSessions(redis_url)
    async with Redis.from_url(redis_url) as redis:
        yield Ending(store, ended, lambda: redis.client_kill_filter(_type="pubsub"))
    await ended.close()
    await store.close()


async def test_every_session_that_is_ended_is_told(ending: Ending) -> None:
    """In order, whether one or all of a person's are ended; and at first, to look at what there is."""
    assert await ending.next() is None
    first, *others = [await ending.log_in() for _ in range(3)]
    await ending.store.end(first)
    await ending.store.end_all(USER_ID)
    assert await ending.next() == session_id_of(first)
    assert {await ending.next(), await ending.next()} == {session_id_of(token) for token in others}


async def test_after_a_break_one_looks_at_all(ending: Ending) -> None:
    """Then every end is told again."""
    assert await ending.next() is None
    for _ in range(3):
        await ending.interrupt()
        assert await ending.next() is None
        token = await ending.log_in()
        await ending.store.end(token)
        assert await ending.next() == session_id_of(token)


async def test_who_gives_up_waiting_misses_nothing(ending: Ending) -> None:
    """One may wait for something else as well."""
    assert await ending.next() is None
    for _ in range(3):
        waiting = asyncio.create_task(ending.next())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    token = await ending.log_in()
    await ending.store.end(token)
    assert await ending.next() == session_id_of(token)


async def test_closing_ends_the_listening(ending: Ending) -> None:
    """Also of who waits at that moment; closed twice is closed."""
    assert await ending.next() is None
    waiting = asyncio.create_task(ending.next())
    await asyncio.sleep(0)
    await ending.ended.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    await ending.store.end(await ending.log_in())
    await ending.ended.close()
    assert [each async for each in ending.ended] == []


async def test_what_nobody_listens_to_can_be_closed(ending: Ending) -> None:
    """It has nothing to free."""
    await ending.ended.close()
    assert [each async for each in ending.ended] == []


async def test_whatever_is_said_on_the_channel_raises_nothing(redis_url: str) -> None:
    """An id that is none is nobody's."""
    ended = RedisEndedSessions(redis_url)
    async with asyncio.timeout(10), Redis.from_url(redis_url) as redis:
        assert await anext(ended) is None
        await redis.publish(ENDED_CHANNEL, b"\xff")
        await redis.publish(ENDED_CHANNEL, "next")
        assert [await anext(ended), await anext(ended)] == ["\ufffd", "next"]
    await ended.close()


async def test_silence_is_not_death(redis_url: str) -> None:
    """While nobody logs out, Redis is asked now and then for a sign of life, over the same connection."""
    ended = RedisEndedSessions(redis_url)
    async with asyncio.timeout(10), Redis.from_url(redis_url) as redis:
        assert await anext(ended) is None
        before = await pings(redis)

        async def asked() -> bool:
            return await pings(redis) > before + 3

        await eventually(asked)
        await redis.publish(ENDED_CHANNEL, "id")
        assert await anext(ended) == "id"
    await ended.close()


async def test_redis_may_go_and_come(redis: EmbeddedRedis) -> None:
    """However often, also before the first connection; once it is back, one looks at all."""
    ended = RedisEndedSessions(redis.url)
    for _ in range(2):
        with structlog.testing.capture_logs() as logs:
            await redis.stop()
            waiting = asyncio.create_task(ended.__anext__())
            await until_told(logs, "ended_sessions_not_heard")
        await redis.start()
        assert await asyncio.wait_for(waiting, 10) is None
    await ended.close()


async def test_a_connection_over_which_nothing_comes_is_dropped(redis: EmbeddedRedis) -> None:
    """As when its other end was switched off, which no packet tells."""
    ended = RedisEndedSessions(redis.url)
    assert await asyncio.wait_for(anext(ended), 10) is None
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        with structlog.testing.capture_logs() as logs:
            await until_told(logs, "ended_sessions_not_heard")
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    assert await asyncio.wait_for(anext(ended), 10) is None
    await ended.close()


async def test_it_can_be_closed_while_redis_hangs(redis: EmbeddedRedis) -> None:
    """At once."""
    ended = RedisEndedSessions(redis.url)
    assert await asyncio.wait_for(anext(ended), 10) is None
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            await ended.close()
    finally:
        os.kill(redis.pid, signal.SIGCONT)


async def test_a_bug_stops_nobody_from_listening(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """It is told to the log, and listening begins anew."""
    ended = RedisEndedSessions(redis_url)
    listen = ended._listen

    async def broken_once(connection: object) -> None:
        del connection
        monkeypatch.setattr(ended, "_listen", listen)
        raise ValueError

    monkeypatch.setattr(ended, "_listen", broken_once)
    with structlog.testing.capture_logs() as logs:
        assert await asyncio.wait_for(anext(ended), 10) is None
    assert [entry["event"] for entry in logs] == ["task_broke"]
    await ended.close()


async def pings(redis: Redis) -> int:
    """Return how often this Redis was pinged."""
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_ping", {"calls": 0})["calls"])


async def until_told(logs: list[structlog.typing.EventDict], event: str) -> None:
    """Wait until the log has it."""

    async def told() -> bool:
        return any(entry["event"] == event for entry in logs)

    await eventually(told)
