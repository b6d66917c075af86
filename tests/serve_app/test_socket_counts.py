"""What a relay counts for people and addresses, and when it forgets them."""

from __future__ import annotations

import asyncio

import pytest

from adapters.memory import MemoryOpenSockets, SharedSockets
from domain.socket_limits import Allowance, SocketLimits
from serve_app import socket_counts as module
from serve_app.socket_counts import SocketCounts
from tests.serve_app.scripted_host import until


class Counting:
    """A relay's counts, and what all relays told."""

    def __init__(self, limits: SocketLimits) -> None:
        self.shared = SharedSockets()
        self.now_s = 1_000.0
        self.counts = SocketCounts(limits, MemoryOpenSockets(self.shared, "relay"), lambda: self.now_s)


async def test_replays_have_a_budget_that_comes_back() -> None:
    """What was reserved and not used is given back at once, the rest with time."""
    counting = Counting(SocketLimits(replay_bytes=Allowance(1_000, 10.0)))
    counts = counting.counts
    assert counts.reserve_replay(7, 600)
    assert not counts.reserve_replay(7, 600)
    assert counts.reserve_replay(8, 600)
    counts.return_replay(7, 500)
    assert counts.reserve_replay(7, 900)
    assert not counts.reserve_replay(7, 100)
    counting.now_s += 1.0
    assert counts.reserve_replay(7, 100)


async def test_one_relay_alone_keeps_to_the_limit() -> None:
    """While nobody can be asked how many there are elsewhere, each relay still counts its own."""
    counting = Counting(SocketLimits(sockets=2))
    counting.shared.available = False
    assert [await counting.counts.enter(7) for _ in range(3)] == [True, True, False]


async def test_a_relay_whose_sockets_were_forgotten_tells_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart of Redis, or when it was taken for dead; and people who are gone are forgotten."""
    monkeypatch.setattr(module, "LIVE_EVERY_S", 0.001)
    counting = Counting(SocketLimits(subscribes=Allowance(10, 5.0)))
    await counting.counts.start()
    assert await counting.counts.enter(7)
    assert counting.counts.may_subscribe(8)
    counting.shared.by_user.clear()
    counting.shared.forget("relay")
    await asyncio.wait_for(until_told(counting), 5)
    assert set(counting.counts._people) == {7, 8}
    counting.now_s += 1.0
    counting.counts.leave(7)
    await asyncio.wait_for(until_forgotten(counting), 5)
    await counting.counts.stop()
    assert counting.shared.living == set()


async def until_told(counting: Counting) -> None:
    while counting.shared.by_user[7] != {"relay": 1}:  # noqa: ASYNC110 - passes turns
        await asyncio.sleep(0.001)


async def until_forgotten(counting: Counting) -> None:
    while counting.counts._people:  # noqa: ASYNC110 - passes turns
        await asyncio.sleep(0.001)


async def test_who_gives_up_entering_is_not_counted() -> None:
    """A browser that leaves during its handshake holds no place."""
    counting = Counting(SocketLimits(sockets=1))
    held = asyncio.Event()

    async def never(*_: int) -> bool:
        await held.wait()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting.counts._everywhere, "enter", never)
        entering = asyncio.create_task(counting.counts.enter(7))
        await until(lambda: counting.counts._people[7].sockets if 7 in counting.counts._people else 0)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)
    assert await counting.counts.enter(7)
