"""Two lives of one shard runner: only the newest is counted, and what an earlier one lost is told."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock

import pytest

from actors import shard_runner
from actors.delivery import LaneSettings
from actors.outbox import OutboxSettings
from actors.shard_runner import RunnerPlace, RunnerSettings, ShardRunner
from actors.spool_writer import WriterSettings
from adapters.memory import MemoryBot, MemoryClock, MemoryDatabase, MemoryGuildStore, MemorySpool
from adapters.memory.samples import message
from domain.errors import RunnerReplaced, StoreUnavailable
from domain.events import Gap, Sender
from domain.ports import NodeRef, RunnerLife
from tests.actors.hosts import Director, HostUnderTest, until

QUICK = OutboxSettings(
    LaneSettings(batch_wait_s=0, count_wait_s=0, first_retry_s=0.001, longest_retry_s=0.01),
    writer=WriterSettings(alive_every_s=0.002, retry_s=0.001),
)
INVITE = "come to discord.gg/abcdef"


class Authority:
    async def heard(self, notices: Any) -> None:
        del notices


class Way:
    """Leads to a host, or nowhere while it is not open."""

    def __init__(self, host: HostUnderTest) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self._host = host

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        await self.open.wait()
        return await self._host.actor.ingest(payload, sender)


class Network:
    """A real host on the twin of the database, and lives of a runner beside and after each other."""

    def __init__(self, clock: MemoryClock) -> None:
        self.clock = clock
        self.database = MemoryDatabase(clock)
        self.host = HostUnderTest(self.database, clock)
        self.way = Way(self.host)
        self.director = Director({"h0": self.way}, store=MemoryGuildStore(self.database))  # type: ignore[dict-item]
        self.lives: list[Life] = []

    async def begin(self, spool: MemorySpool) -> Life:
        """Begin another life, which knows nothing of the others but through the database and the spool."""
        self.clock.advance(1_000)
        life = Life(self, spool)
        life.bot.heard_ms = self.clock()
        self.lives.append(life)
        await life.actor.start(self.clock())
        return life

    @property
    def messages(self) -> int:
        return sum(hour.messages for hour in self.database.hours.values())

    @property
    def gaps(self) -> list[tuple[str, Gap]]:
        return self.database.gaps


class Life:
    def __init__(self, network: Network, spool: MemorySpool) -> None:
        self.bot, self.spool, self.ended = MemoryBot(), spool, asyncio.Event()
        self.actor = ShardRunner(
            RunnerSettings("r0", outbox=QUICK),
            lambda: self.bot,
            lambda: network.director,
            re.compile,
            network.clock,
            lambda: self.spool,
            Authority,
            RunnerPlace(lambda: NodeRef("node", "10.0.0.1"), self.ended.set),
        )

    async def flush(self) -> None:
        await asyncio.wait_for(self.actor._outbox.flush(), 5)


@pytest.fixture
async def network(clock: MemoryClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Network]:
    monkeypatch.setattr(shard_runner, "NOTE_EVERY_S", 0.005)
    network = Network(clock)
    await network.host.start()
    yield network
    monkeypatch.setattr(shard_runner, "FLUSH_WITHIN_S", 0.01)
    for life in network.lives:
        await life.actor.stop("the test is over")
    await network.host.stop()


async def test_a_life_that_was_replaced_is_not_counted_and_ends(network: Network) -> None:
    """Both hear the same, as across a cut: it counts once. The old one is told so and leaves Discord."""
    old = await network.begin(MemorySpool())
    old.bot.post(message(1, 1))
    await old.flush()
    new = await network.begin(MemorySpool())
    for life in (old, new):
        life.bot.post(message(1, 2))
        life.bot.post(message(1, 3, INVITE))
    await asyncio.wait_for(old.ended.wait(), 5)
    await new.flush()
    assert not old.bot.connected
    assert (network.messages, len(network.database.violations)) == (3, 1)
    assert not new.ended.is_set()


async def test_one_that_has_nothing_to_tell_hears_it_as_well(network: Network) -> None:
    """It listens to Discord beside the other, and asks now and then."""
    old = await network.begin(MemorySpool())
    await network.begin(MemorySpool())
    await asyncio.wait_for(old.ended.wait(), 5)


async def test_a_life_that_begins_too_late_leaves_the_spool_alone(network: Network) -> None:
    """Whoever opens it ends the process that has it."""
    later = await network.begin(MemorySpool())
    spool = MemorySpool()
    opened = spool.open = AsyncMock()  # type: ignore[method-assign]
    hung = Life(network, spool)
    with pytest.raises(RunnerReplaced):
        await hung.actor.start(network.clock() - 1)
    opened.assert_not_awaited()
    later.bot.post(message(1, 1))
    await later.flush()
    assert network.messages == 1


async def test_what_a_spool_held_that_is_gone_is_told(network: Network) -> None:
    """From when everything was in the database until the new life began; from there on it tells itself."""
    old = await network.begin(MemorySpool())
    old.bot.heard_ms = covered_ms = network.clock()
    old.bot.post(message(1, 1))
    await old.flush()
    await until(lambda: network.database.runners["r0"].covered_ms == covered_ms)
    network.way.open.clear()
    old.bot.post(message(1, 2, ts_ms=network.clock()))
    network.clock.advance(60_000)
    old.bot.heard_ms = network.clock()
    await until(lambda: old.spool.batches != {})
    assert {old.actor._outbox.covered_ms() for _ in range(3)} <= {covered_ms, None}
    new = await network.begin(MemorySpool())
    assert network.gaps == [("r0", Gap(covered_ms, network.clock(), 0, "spool_lost"))]
    assert new.bot.earlier.heard_until_ms == network.clock()


async def test_the_spool_of_a_node_that_comes_back_counts_nothing(network: Network) -> None:
    """What it held was told as lost; violations have ids, and are delivered late rather than never."""
    network.way.open.clear()
    left = await network.begin(MemorySpool())
    left.bot.post(message(1, 1))
    left.bot.post(message(1, 2, INVITE))
    await until(lambda: left.actor._outbox.stats().waiting_events == 0 and left.spool.batches != {})
    lost = copy.deepcopy(left.spool)
    other = await network.begin(MemorySpool())
    network.way.open.set()
    other.bot.post(message(1, 3))
    await other.flush()
    back = await network.begin(lost)
    assert back.bot.earlier.shards == ()
    back.bot.post(message(1, 4))
    await back.flush()
    assert (network.messages, len(network.database.violations)) == (2, 1)
    assert [gap.reason for _, gap in network.gaps].count("spool_lost") == 2
    await back.actor.stop("a restart")
    again = await network.begin(lost)
    again.bot.post(message(1, 5))
    await again.flush()
    assert network.messages == 3


async def test_a_runner_begins_while_the_database_is_away(network: Network) -> None:
    """With the spool of the life before: it hears at once, and delivers when it is registered."""
    spool = MemorySpool()
    first = await network.begin(spool)
    await until(lambda: spool.alive_ms is not None)
    await first.actor.stop("a restart")
    network.database.available = False
    second = await network.begin(spool)
    second.bot.post(message(1, 1))
    await until(lambda: spool.batches != {})
    with pytest.raises(StoreUnavailable):
        await network.begin(MemorySpool())
    network.database.available = True
    await second.flush()
    assert network.messages == 1


async def test_a_life_that_registers_late_replaces_no_later_one(network: Network) -> None:
    """It began while the database was away, and hung: another was begun meanwhile."""
    spool = MemorySpool()
    first = await network.begin(spool)
    await until(lambda: spool.alive_ms is not None)
    await first.actor.stop("a restart")
    network.database.available = False
    hung = await network.begin(spool)
    hung.bot.post(message(1, 1))
    row = network.database.runners["r0"]
    later = RunnerLife("r0", network.clock() + 1, row.node)
    network.database.available = True
    await network.director.register_runner(later, "another spool", row.incarnation)
    await asyncio.wait_for(hung.ended.wait(), 5)
    assert network.messages == 0


async def test_deletions_that_nobody_knows_of_are_made(network: Network, clock: MemoryClock) -> None:
    """Their life and its spool are gone: whoever takes its shards over finds them in the database."""
    first = await network.begin(MemorySpool())
    never = asyncio.Event()

    async def forever(_: int, __: int) -> bool:
        return await never.wait()

    first.bot.on_delete = forever
    first.bot.post(message(1, 1, INVITE))
    await first.flush()
    clock.advance(1)
    second = await network.begin(MemorySpool())
    await until(lambda: second.bot.deleted == [(7, 1)])
    await until(lambda: [row.action_status for row in network.database.violations.values()] == ["done"])
