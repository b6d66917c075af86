"""Queues from a host to its relays."""

from __future__ import annotations

import asyncio

import pytest

from actors import fan_out
from actors.fan_out import FanOut, Item

ONE: list[Item] = [Item(1, 1, 1, [b"event"])]


async def test_a_stream_says_first_that_it_stands() -> None:
    """The first list is empty; then comes what was sent since the last one, in order, as one list."""
    relays: FanOut[Item] = FanOut()
    stream = relays.stream("r")
    assert await anext(stream) == []
    relays.send("r", ONE)
    assert await anext(stream) == ONE
    other = [Item(2, 1, 1, [b"other"])]
    relays.send("r", ONE)
    relays.send("r", other)
    assert await anext(stream) == ONE + other
    relays.send("r", [])
    assert await anext(stream) == []
    assert relays.sent() == {"r": 3}


async def test_nobody_listening_is_no_error() -> None:
    """What is sent to a relay that left goes nowhere."""
    relays: FanOut[Item] = FanOut()
    stream = relays.stream("r")
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert not relays.listens("r")
    relays.send("r", ONE)


async def test_a_relay_too_far_behind_is_cut_off_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue is bounded and dropped whole; the relay beside it misses nothing."""
    monkeypatch.setattr(fan_out, "MAX_WAITING_ITEMS", 3)
    relays: FanOut[Item] = FanOut()
    slow, quick = relays.stream("slow"), relays.stream("quick")
    await anext(slow)
    await anext(quick)
    for _ in range(4):
        relays.send("slow", ONE)
        relays.send("quick", ONE)
        assert await anext(quick) == ONE
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    assert not relays.listens("slow")
    assert relays.listens("quick")


async def test_closing_ends_streams_that_wait() -> None:
    """A relay in the middle of waiting is woken by the end."""
    relays: FanOut[Item] = FanOut()
    stream = relays.stream("r")
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    relays.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, 5)


async def test_after_the_end_no_stream_begins() -> None:
    """Not even with its first list: who listens looks elsewhere."""
    relays: FanOut[Item] = FanOut()
    relays.close()
    assert [items async for items in relays.stream("late")] == []
    assert not relays.listens("late")


async def test_a_relay_too_many_bytes_behind_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has taken counts no more; what waits is bounded whatever the number of items."""
    monkeypatch.setattr(fan_out, "MAX_WAITING_BYTES", 10)
    relays: FanOut[Item] = FanOut()
    stream = relays.stream("r")
    await anext(stream)
    for _ in range(3):
        relays.send("r", ONE, 10)
        assert await anext(stream) == ONE
    relays.send("r", ONE, 10)
    relays.send("r", ONE, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
