"""Looking at the whole network: who answers is shown, who does not is named."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from actors.group_commit import CommitStats
from actors.host import HostStats
from actors.network import LiveNetwork
from actors.outbox import OutboxStats
from actors.routing import Routing
from actors.shard_runner import RunnerStats
from adapters.memory import MemoryClock, MemoryDatabase, MemoryNetworkStore, MemorySupervision
from domain.errors import HostUnreachable, StoreUnavailable
from domain.network import BlindShardView, GapView, ShardsView
from domain.placement import place
from domain.ports import BlindShard, BotProgress
from domain.supervision import ChildView

STATS = HostStats(
    host_id="h0",
    incarnation=7,
    placement_version=4,
    guilds=30,
    watched_guilds=2,
    activations=31,
    deactivations=1,
    refused_batches=5,
    commit=CommitStats(
        waiting_events=3,
        committed_events=900,
        committed_batches=80,
        commits=70,
        poison_events=1,
        store_available=True,
    ),
)
RUNNER = RunnerStats(
    messages=100,
    violations=9,
    deletions_waiting=0,
    outbox=OutboxStats(waiting_events=1, sent_events=99, sent_batches=12, lost_events=0, spooled_bytes=50),
)


class Director:
    """A Director with three hosts, of which one does not answer and one has a guild for itself."""

    def __init__(self) -> None:
        self.away = False

    async def routing(self) -> Routing:
        if self.away:
            raise HostUnreachable
        hosts: dict[str, Any] = dict.fromkeys(("h0", "h1", "h2"))
        return Routing(place(4, ("h0", "h1", "h2"), {2**62: "h2"}), hosts)

    async def list_hosts(self) -> list[HostStats | str]:
        if self.away:
            raise HostUnreachable
        return [STATS, "h1"]


class Runner:
    def __init__(self, stats: RunnerStats | Exception | None) -> None:
        self.answer = stats

    async def stats(self) -> RunnerStats:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


class World:
    def __init__(self) -> None:
        self.director = Director()
        self.runners: Mapping[str, Runner] = {"r0": Runner(RUNNER)}
        self.database = MemoryDatabase()
        self.store = MemoryNetworkStore(self.database)
        self.board = MemorySupervision(MemoryClock())
        self.network = LiveNetwork(self.director, self._find, self.store, self.board)

    async def _find(self) -> Mapping[str, Runner]:
        return self.runners


@pytest.fixture
def world() -> World:
    return World()


async def test_every_host_of_the_placement_is_shown(world: World) -> None:
    """With its figures if it answers; with what it was given in any case."""
    seen = await world.network.look()
    assert (seen.director_answers, seen.placement_version) == (True, 4)
    assert [(host.id, host.answers, host.guilds) for host in seen.hosts] == [
        ("h0", True, 30),
        ("h1", False, None),
        ("h2", False, None),
    ]
    assert sum(host.slots for host in seen.hosts) == 4096
    assert seen.hosts[2].dedicated_guilds == [str(2**62)]
    assert (seen.hosts[0].committed_events, seen.hosts[0].store_available) == (900, True)


async def test_runners_are_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that died, and those that hang."""
    monkeypatch.setattr("actors.network.ANSWER_WITHIN_S", 0.05)
    world.runners = {"r1": Runner(HostUnreachable()), "r0": Runner(RUNNER), "r2": Runner(None)}
    seen = await world.network.look()
    assert [(one.id, one.answers, one.messages, one.spooled_bytes) for one in seen.runners] == [
        ("r0", True, 100, 50),
        ("r1", False, None, None),
        ("r2", False, None, None),
    ]


async def test_shards_that_are_not_connected_yet_are_counted(world: World) -> None:
    """Over all runners, with how long it takes until Discord's limits have let in the last one."""
    waits = BotProgress(32, 4, max_concurrency=2, waits_for="its turn")
    asked = BotProgress(32, 30, budget_wait_ms=60_000)
    world.runners = {
        name: Runner(msgspec.structs.replace(RUNNER, progress=progress))
        for name, progress in (("r0", waits), ("r1", asked), ("r2", BotProgress(16, 16)))
    }
    seen = await world.network.look()
    wait_s = 60 + 14 * 5.5
    assert seen.shards == ShardsView(total=80, connected=50, expected_s=wait_s, waits_for="its turn")
    assert [(one.shards, one.shards_connected) for one in seen.runners] == [(32, 4), (32, 30), (16, 16)]


async def test_blind_shards_are_named(world: World) -> None:
    """With the time until which they heard something, where they ever did."""
    progress = BotProgress(3, 1, blind=(BlindShard(0, 1_000), BlindShard(2, None)))
    world.runners = {"r0": Runner(msgspec.structs.replace(RUNNER, progress=progress))}
    [seen] = (await world.network.look()).runners
    assert seen.blind_shards == [BlindShardView(shard=0, since=1_000), BlindShardView(shard=2)]


async def test_the_supervised_are_shown(world: World) -> None:
    """Unless nobody can say how they are."""
    assert (await world.network.look()).supervised is None
    child = ChildView(name="rbac", state="starting", since=1, restarts=2, error="It does not answer.")
    await world.board.publish([child])
    assert (await world.network.look()).supervised == [child]
    world.board.available = False
    assert (await world.network.look()).supervised is None


async def test_without_the_director_the_rest_is_shown(world: World) -> None:
    world.director.away = True
    gap = GapView(source="r0", reason="blind", since=1, until=2, lost_events=0, recorded_at=3)
    world.store.recorded = [gap]
    seen = await world.network.look()
    assert (seen.director_answers, seen.placement_version, seen.hosts) == (False, None, [])
    assert seen.gaps == [gap]
    assert len(seen.runners) == 1


async def test_without_the_database_there_is_no_answer(world: World) -> None:
    """503, and not a network in which nothing happens."""
    world.database.available = False
    with pytest.raises(StoreUnavailable):
        await world.network.look()
