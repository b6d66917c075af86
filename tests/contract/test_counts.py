"""One suite for the board of counts in Redis and for its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from redis.asyncio import Redis

from adapters.memory import MemoryClock, MemoryCounts
from adapters.redis_counts import KEPT_MS, RedisCounts
from domain.errors import StoreUnavailable
from domain.replica_counts import CacheCounts, CountsBoard, RelayCounts, ReplicaCounts


class Board(NamedTuple):
    board: CountsBoard
    clock: MemoryClock


@pytest.fixture(params=["memory", "redis"])
async def kept(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Board]:
    clock = MemoryClock()
    if request.param == "memory":
        yield Board(MemoryCounts(clock), clock)
        return
    async with Redis.from_url(redis_url) as redis:
        await redis.delete("guildhall:replica_counts")
    board = RedisCounts(redis_url, clock)
    yield Board(board, clock)
    await board.close()


async def test_each_replica_sees_what_all_wrote(kept: Board) -> None:
    """The newest of each, with its own among them."""
    first = ReplicaCounts({"metrics": CacheCounts(1, 2, 3, 4, 5, 6), "config": CacheCounts(entries=7)})
    assert await kept.board.exchange("a", first) == {"a": first}
    second = ReplicaCounts(relay=RelayCounts({"transport": 1, "asgi": 2}, 3, 4, 2**40, {"4008": 5}, 6))
    assert await kept.board.exchange("b", second) == {"a": first, "b": second}
    assert await kept.board.exchange("a", second) == {"a": second, "b": second}


async def test_a_replica_that_says_nothing_any_more_is_gone(kept: Board) -> None:
    """After its time, to the millisecond; one that comes back is there again."""
    await kept.board.exchange("a", ReplicaCounts())
    kept.clock.advance(KEPT_MS - 1)
    assert (await kept.board.exchange("b", ReplicaCounts())).keys() == {"a", "b"}
    kept.clock.advance(1)
    assert (await kept.board.exchange("b", ReplicaCounts())).keys() == {"b"}
    assert (await kept.board.exchange("a", ReplicaCounts())).keys() == {"a", "b"}


async def test_a_board_that_is_away_is_said_to_be(kept: Board, tmp_path: object) -> None:
    """With an error of ours."""
    if isinstance(kept.board, MemoryCounts):
        kept.board.available = False
        board: CountsBoard = kept.board
    else:
        board = RedisCounts(f"unix://{tmp_path}/nobody.sock", kept.clock)
    with pytest.raises(StoreUnavailable):
        await board.exchange("a", ReplicaCounts())
    if isinstance(board, RedisCounts):
        await board.close()


async def test_what_another_release_wrote_is_passed_over(redis_url: str) -> None:
    """And taken away, so that nobody stumbles over it for ever."""
    board = RedisCounts(redis_url, MemoryClock())
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("guildhall:replica_counts", "old", b"\xc1nonsense")  # type: ignore[misc,arg-type]
        assert "old" not in await board.exchange("a", ReplicaCounts())
        assert not await redis.hexists("guildhall:replica_counts", "old")  # type: ignore[misc]
        assert 0 < await redis.pttl("guildhall:replica_counts") <= KEPT_MS
    await board.close()
