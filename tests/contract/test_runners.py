"""Lives of shard runners: what the newest sends is taken, and what an earlier one lost is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from actors.host import GuildHost, HostSettings
from adapters.memory.samples import violation
from domain.errors import RunnerReplaced
from domain.events import (
    Accepted,
    ActionSettled,
    Batch,
    MessagesCounted,
    Replaced,
    Reply,
    Sender,
    decode_reply,
    encode_batch,
)
from domain.ids import HOUR_MS, hour_start
from domain.placement import place
from domain.ports import GuildStore, NodeRef, PendingDeletion, RunnerLife, RunnerRow
from tests.contract.stores import Stores, fresh_id, mark, memory_stores, postgres_stores

HERE, THERE = NodeRef("n1", "10.0.0.1"), NodeRef("n2", "10.0.0.2")


@pytest.fixture(params=["memory", "postgres"])
async def stores(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield memory_stores()
        return
    found, opened = await postgres_stores(postgres_dsn)
    await found.guilds.ensure_partitions(now_ms())
    yield found
    for store in opened:
        await store.close()


@pytest.fixture
def runner_id() -> str:
    return f"r{fresh_id()}"


def life(runner_id: str, incarnation: int, node: NodeRef = HERE) -> RunnerLife:
    return RunnerLife(runner_id, incarnation, node)


def now_ms() -> int:
    return int(time.time() * 1000)


async def test_a_life_knows_the_one_before(stores: Stores, runner_id: str) -> None:
    """Where it was and what it had delivered. It registers once, also when it is not sure that it did."""
    runners = stores.guilds
    assert await runners.find_runner(runner_id) is None
    first = await runners.register_runner(life(runner_id, 5), "a")
    assert await runners.find_runner(runner_id) == first
    assert (first.incarnation, first.spool_id, first.node) == (5, "a", HERE)
    second = await runners.register_runner(life(runner_id, 7, THERE), "a", 5)
    assert (second.incarnation, second.node, second.covered_ms) == (7, THERE, first.covered_ms)
    assert await runners.register_runner(life(runner_id, 7, THERE), "a", 5) == second
    assert await stores.books.gaps(runner_id) == []


async def test_a_life_registers_after_the_one_that_it_knows(stores: Stores, runner_id: str) -> None:
    """Else it is told which there is: an earlier one that came late, which it may follow, or a later one."""
    runners = stores.guilds
    found = await runners.register_runner(life(runner_id, 5), "a")
    assert await runners.register_runner(life(runner_id, 7), "b") == found
    assert await runners.register_runner(life(runner_id, 4), "b", 5) == found
    assert await runners.find_runner(runner_id) == found
    assert (await runners.register_runner(life(runner_id, 7), "a", 5)).incarnation == 7


async def test_only_the_newest_says_what_is_delivered(stores: Stores, runner_id: str) -> None:
    """That never goes back; nobody has to know, and an earlier life is told that it is over."""
    runners = stores.guilds
    first = await runners.register_runner(life(runner_id, 5), "a")
    later_ms = first.covered_ms + 5_000
    await runners.note_covered(runner_id, 5, later_ms, "a")
    await runners.note_covered(runner_id, 5, later_ms - 1, "b")
    await runners.note_covered(runner_id, 5, None, "b")
    found = await runners.find_runner(runner_id)
    assert found is not None
    assert (found.covered_ms, found.spool_id) == (later_ms, "b")
    second = await runners.register_runner(life(runner_id, 7), "b", 5)
    with pytest.raises(RunnerReplaced):
        await runners.note_covered(runner_id, 5, later_ms + 1, "c")
    assert await runners.find_runner(runner_id) == second
    await runners.note_covered(f"{runner_id} of a database before", 1, later_ms, "a")


async def test_after_a_restore_the_newest_says_so_again(stores: Stores, runner_id: str) -> None:
    """The database knows only of a life before; an earlier one must not come back by that."""
    first = await stores.guilds.register_runner(life(runner_id, 5), "a")
    await stores.guilds.note_covered(runner_id, 7, first.covered_ms + 1, "b")
    found = await stores.guilds.find_runner(runner_id)
    assert found == RunnerRow(7, "b", HERE, first.covered_ms + 1)


async def test_a_spool_that_is_another_one_is_told_as_lost(stores: Stores, runner_id: str) -> None:
    """Once: from what was delivered until the new life began, which is answerable from there on."""
    first = await stores.guilds.register_runner(life(runner_id, 5), "a")
    second = await stores.guilds.register_runner(life(runner_id, 6, THERE), "b", 5)
    assert second.covered_ms >= first.covered_ms
    assert await stores.books.gaps(runner_id) == [(0, "spool_lost")]
    await stores.guilds.register_runner(life(runner_id, 7, THERE), "b", 6)
    assert await stores.books.gaps(runner_id) == [(0, "spool_lost")]


async def test_nothing_of_an_earlier_life_is_written(stores: Stores, runner_id: str) -> None:
    """Not even together with the newest one's; which of the senders it was is said."""
    guild_id = fresh_id()
    host = await stores.begin(f"host{fresh_id()}")
    await stores.guilds.register_runner(life(runner_id, 5), "a")
    old = Sender(runner_id, 5)
    one = violation(guild_id, 1, ts_ms=now_ms())
    await host.tell(guild_id, one, marks=(mark(1, runner_id),), senders=(old,))
    await stores.guilds.register_runner(life(runner_id, 7), "a", 5)
    new, unknown = Sender(runner_id, 7), Sender(f"{runner_id} unknown", 1)
    two = violation(guild_id, 2, ts_ms=now_ms())
    with pytest.raises(RunnerReplaced) as refused:
        await host.tell(guild_id, two, marks=(mark(2, runner_id),), senders=(new, old, unknown))
    assert refused.value.lives == {(runner_id, 5)}
    assert len(await stores.books.violations(guild_id)) == 1
    await host.tell(guild_id, two, marks=(mark(2, runner_id),), senders=(new, unknown))
    assert len(await stores.books.violations(guild_id)) == 2


class Host:
    """A guild host on a store."""

    def __init__(self, store: GuildStore) -> None:
        self._store = store
        self.host_id = f"host{fresh_id()}"
        self.actor = GuildHost(HostSettings(self.host_id), self._open, now_ms)

    async def _open(self) -> GuildStore:
        return self._store

    async def start(self) -> None:
        await self.actor.start()
        await self.actor.assign(place(1, [self.host_id]))

    async def send(self, guild_id: int, source: str, number: int, sender: Sender | None) -> Reply:
        batch = Batch(source, number, (MessagesCounted(guild_id, hour_start(now_ms()), 1),))
        return decode_reply(await self.actor.ingest(encode_batch(batch), sender))


async def test_every_host_knows_who_is_the_newest(stores: Stores, runner_id: str) -> None:
    """Also one that begins now; lives that send at once are told apart, and other sources are let be."""
    guild_id = fresh_id()
    await stores.guilds.register_runner(life(runner_id, 5), "a")
    await stores.guilds.register_runner(life(runner_id, 7), "b", 5)
    old, new = Sender(runner_id, 5), Sender(runner_id, 7)
    for host in (Host(stores.guilds), Host(stores.guilds)):
        await host.start()
        answers = await asyncio.gather(
            host.send(guild_id, f"{host.host_id} old", 1, old),
            host.send(guild_id, f"{host.host_id} new", 1, new),
            host.send(guild_id, f"{host.host_id} poison", 1, None),
        )
        assert [type(answer) for answer in answers] == [Replaced, Accepted, Accepted]
        await host.actor.stop("the test is over")
    [hour] = await stores.dashboard.hours(guild_id, now_ms() - HOUR_MS)
    assert hour.messages == 4


async def test_pending_deletions_are_found(stores: Stores) -> None:
    """Those of the shards that are asked for, of that time, oldest first, while nobody has told their end."""
    host = await stores.begin(f"host{fresh_id()}")
    shard_count = 1_000_003
    guild_id = (fresh_id() << 22) | 1
    shard = (guild_id >> 22) % shard_count
    until_ms = now_ms()
    old, done, late, new, other = (
        violation(guild_id, number, ts_ms=ts_ms, action="delete", action_status="pending")
        for number, ts_ms in enumerate(
            (until_ms - 10, until_ms - 9, until_ms - 1, until_ms, until_ms - HOUR_MS), start=fresh_id() << 10
        )
    )
    for one in (late, old, done, new, other):
        await host.tell(guild_id, one)
    await host.tell(guild_id, ActionSettled(guild_id, done.event_id, done.ts_ms, "failed", until_ms))
    kept = violation(guild_id, fresh_id(), ts_ms=until_ms - 5, action="none", action_status="none")
    await host.tell(guild_id, kept)
    span = (until_ms - 10, until_ms)
    found = await stores.guilds.pending_deletions((shard,), shard_count, span, 10)
    assert found == [
        PendingDeletion(guild_id, one.event_id, one.ts_ms, one.channel_id, one.message_id)
        for one in (old, late)
    ]
    assert await stores.guilds.pending_deletions((shard,), shard_count, span, 1) == found[:1]
    assert await stores.guilds.pending_deletions((shard + 1,), shard_count, span, 10) == []
