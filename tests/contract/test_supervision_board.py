"""One suite for the supervisor's board in Redis and for its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from redis.asyncio import Redis

from adapters.memory import MemoryClock, MemorySupervision
from adapters.redis_supervision import RedisSupervision
from domain.errors import StoreUnavailable
from domain.supervision import LASTS_MS, ChildView, SupervisionBoard

KEY = "guildhall:supervision"
WELL = ChildView(name="director", state="healthy", since=5, restarts=0, error=None)
LOST = ChildView(name="runner r0", state="backing_off", since=2**40, restarts=3, error="It does not answer.")


OTHERS = [
    b"",
    b"{}",
    b"[1]",
    b'{"at_ms": 1, "children": [{"name": 1}]}',
    b'{"at_ms": "x", "children": []}',
]


class Kept(NamedTuple):
    board: SupervisionBoard
    clock: MemoryClock


@pytest.fixture(params=["memory", "redis"])
async def kept(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Kept]:
    clock = MemoryClock()
    if request.param == "memory":
        yield Kept(MemorySupervision(clock), clock)
        return
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(KEY)
    board = RedisSupervision(redis_url, clock)
    yield Kept(board, clock)
    await board.close()


async def test_what_was_written_last_is_read(kept: Kept) -> None:
    """At first nothing is, which is not the same as no children."""
    assert await kept.board.read() is None
    await kept.board.publish([])
    assert await kept.board.read() == []
    await kept.board.publish([WELL, LOST])
    assert await kept.board.read() == [WELL, LOST]


async def test_what_is_old_says_nothing(kept: Kept) -> None:
    """To the millisecond; written up again, it is there again."""
    await kept.board.publish([WELL])
    kept.clock.advance(LASTS_MS - 1)
    assert await kept.board.read() == [WELL]
    kept.clock.advance(1)
    assert await kept.board.read() is None
    await kept.board.publish([LOST])
    assert await kept.board.read() == [LOST]


@pytest.mark.parametrize("value", OTHERS)
async def test_what_another_release_wrote_says_nothing(redis_url: str, value: bytes) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.set(KEY, value)
        board = RedisSupervision(redis_url, MemoryClock())
        assert await board.read() is None
        await board.close()
        await redis.delete(KEY)


async def test_without_redis_nobody_can_say() -> None:
    """Reading and writing say so."""
    board = RedisSupervision("unix:///nonexistent/redis.sock", MemoryClock())
    with pytest.raises(StoreUnavailable):
        await board.publish([WELL])
    with pytest.raises(StoreUnavailable):
        await board.read()
    await board.close()
