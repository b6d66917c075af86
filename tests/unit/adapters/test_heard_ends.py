"""What was heard of sessions that ended, until somebody asks for it."""

from __future__ import annotations

import asyncio

import pytest

from adapters.heard_ends import MAX_WAITING, HeardEnds


async def test_what_was_heard_waits_for_the_listener_in_order() -> None:
    """However long it is away."""
    heard = HeardEnds()
    for number in range(3):
        heard.hear(str(number))
    assert [await anext(heard) for _ in range(3)] == ["0", "1", "2"]


async def test_to_look_at_all_says_what_waited() -> None:
    """What comes after it is told as ever."""
    heard = HeardEnds()
    heard.hear("before")
    heard.miss()
    heard.miss()
    heard.hear("after")
    assert [await anext(heard) for _ in range(2)] == [None, "after"]


async def test_a_listener_that_is_far_behind_looks_at_all() -> None:
    """What waits is bounded, and none of it is lost."""
    heard = HeardEnds()
    for number in range(MAX_WAITING + 2):
        heard.hear(str(number))
    assert [await anext(heard) for _ in range(2)] == [None, str(MAX_WAITING + 1)]


async def test_after_the_end_nothing_is_heard() -> None:
    """Neither what waited nor what comes."""
    heard = HeardEnds()
    heard.hear("before")
    await heard.close()
    heard.hear("after")
    heard.miss()
    assert [each async for each in heard] == []


async def test_who_waits_is_told_of_the_end() -> None:
    """Every one of them."""
    heard = HeardEnds()
    waiting = [asyncio.create_task(heard.__anext__()) for _ in range(2)]
    await asyncio.sleep(0)
    await heard.close()
    for task in waiting:
        with pytest.raises(StopAsyncIteration):
            await task
