"""Waiting for leave to identify: as long as it takes, and never without leave."""

from __future__ import annotations

import asyncio

import pytest

from adapters.identify_turns import AWAY_WAIT_S, IdentifyTurns
from adapters.memory import MemoryClock, MemoryIdentifyGrants
from domain.identify import IdentifyRules, SessionStarts

RULES = IdentifyRules(interval_ms=5_500, hold_ms=20_000)


class World:
    """A book, a Discord that says its limits, and a clock that sleep moves."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.grants = MemoryIdentifyGrants(RULES, self.clock)
        self.starts = SessionStarts(1_000, 1_000, 86_400_000, 1)
        self.asked = 0
        self.problem: Exception | None = None
        self.slept: list[float] = []
        self.on_sleep = lambda: None

    def turns(self) -> IdentifyTurns:
        return IdentifyTurns(self.grants, self._ask, RULES, sleep=self._sleep)

    async def _ask(self) -> SessionStarts:
        self.asked += 1
        if self.problem is not None:
            raise self.problem
        return self.starts

    async def _sleep(self, wait_s: float) -> None:
        self.slept.append(wait_s)
        self.clock.advance(int(wait_s * 1000) + 1)
        self.on_sleep()
        await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


async def test_shards_of_a_bucket_come_one_after_another(world: World) -> None:
    """Whichever runners they are in; Discord is asked once for all of them."""
    one, two = world.turns(), world.turns()
    began_ms = world.clock()
    for turns, shard_id in ((one, 0), (two, 1), (one, 2)):
        await turns.spent(await turns.take(shard_id))
    assert world.clock() - began_ms >= 2 * RULES.interval_ms
    assert world.asked == 1
    assert one.waiting == two.waiting == {}


async def test_without_the_book_everybody_waits(world: World) -> None:
    """And says for what; nobody identifies because nobody can be asked."""
    world.grants.available = False
    turns = world.turns()

    def back_after_three() -> None:
        assert turns.waiting == {0: "Redis"}
        world.grants.available = len(world.slept) == 3

    world.on_sleep = back_after_three
    await turns.take(0)
    assert len(world.slept) == 3
    assert min(world.slept) >= AWAY_WAIT_S


async def test_without_discords_limits_everybody_waits(world: World) -> None:
    """Whatever went wrong in asking for them."""
    world.problem = OSError("no route")
    turns = world.turns()

    def back_after_some() -> None:
        assert turns.waiting == {0: "Discord's limits"}
        if len(world.slept) == 8:
            world.problem = None

    world.on_sleep = back_after_some
    await turns.take(0)
    assert len(world.slept) >= 8


async def test_used_up_starts_are_waited_for(world: World) -> None:
    """A day, if need be; meanwhile it can be seen."""
    world.starts = SessionStarts(1_000, 50, 86_400_000, 1)
    turns = world.turns()
    seen: list[int] = []

    def note() -> None:
        seen.append(turns.budget_wait_ms)
        if world.clock() >= began_ms + 86_400_000:
            world.starts = SessionStarts(1_000, 1_000, 86_400_000, 1)

    world.on_sleep = note
    began_ms = world.clock()
    await turns.take(0)
    assert world.clock() - began_ms >= 86_400_000
    assert seen[0] > 86_000_000
    assert turns.budget_wait_ms == 0
