"""A database that is restored to an earlier time under living hosts: what came after it is not believed."""

from __future__ import annotations

import pytest

from actors.guild import Watch
from adapters.memory import MemoryClock, MemoryDatabase
from adapters.memory.samples import NOON_MS
from domain.errors import StoreUnavailable
from domain.events import Accepted, Gap, MessagesCounted, NotMine
from domain.ports import Commit
from tests.actors.hosts import HostUnderTest, until

GUILD = 1


def messages(count: int) -> MessagesCounted:
    return MessagesCounted(GUILD, NOON_MS, count)


async def look(host: HostUnderTest) -> None:
    await host.actor._look_whether_replaced()


async def test_what_came_after_the_restored_time_is_given_up_and_told(
    host: HostUnderTest, database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Streams end, an old position is no position, counts are those of the database, the gap is known."""
    relay = await host.listen()
    await host.send(messages(5))
    await look(host)
    noted_ms = clock()
    dumped = database.dump()
    clock.advance(300_000)
    before = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.send(messages(7), number=2)
    await host.actor.announce(GUILD, [("review", {})])
    clock.advance(10_000)
    await look(host)
    database.restore(dumped)
    await look(host)
    assert await relay.ended()
    assert isinstance(await host.send(messages(1), number=3), NotMine)
    next_life = await HostUnderTest(database, clock).start()
    await next_life.listen("again")
    after = await next_life.actor.watch("again", Watch(1, GUILD, 10, (before.epoch, before.offset)))
    assert not after.recovered
    assert isinstance(await next_life.send(messages(1), number=3), Accepted)
    assert [hour.messages for hour in database.hours_of(GUILD, 0)] == [6]
    assert database.gaps == [("database", Gap(noted_ms, clock(), 0, "restored"))]
    await next_life.stop()


async def test_a_commit_that_is_gone_is_noticed_before_any_token(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """A standby that takes over may lack the last second: what this life committed last is asked for."""
    await look(host)
    dumped = database.dump()
    await host.send(messages(5))
    database.restore(dumped)
    await look(host)
    assert (await host.actor.ping()).fenced


async def test_a_restore_is_told_once_by_however_many_hosts(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Also by one whose whole life is gone from the database."""
    hosts = [await HostUnderTest(database, clock, host_id).start() for host_id in ("h0", "h1")]
    dumped = database.dump()
    hosts.append(await HostUnderTest(database, clock, "h2").start())
    clock.advance(60_000)
    for host in hosts:
        await look(host)
    database.restore(dumped)
    for host in hosts:
        await look(host)
        assert (await host.actor.ping()).fenced
        await host.stop()
    assert len(database.gaps) == 1


@pytest.mark.parametrize("written", [False, True])
async def test_a_lost_answer_is_no_restore(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch, *, written: bool
) -> None:
    """Whether the token was written or not, the next look finds one that this life knows."""
    store = host.actor._store
    renew = store.renew_token

    async def lose(*arguments: object) -> None:
        monkeypatch.setattr(store, "renew_token", renew)
        if written:
            await renew(*arguments)  # type: ignore[arg-type]
        raise StoreUnavailable

    for _ in range(3):
        monkeypatch.setattr(store, "renew_token", lose)
        await look(host)
        await look(host)
    assert not (await host.actor.ping()).fenced
    assert isinstance(await host.send(messages(1)), Accepted)


async def test_a_database_that_comes_back_is_looked_at_soon(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Not after ten ticks: it may have come back as another."""
    host = await HostUnderTest(database, clock, tick_ms=1).start()
    await host.send(messages(5))
    token = database.tokens["h0"]

    async def refuse(_: Commit) -> None:
        raise StoreUnavailable

    database.before_commit = refuse
    await host.send(messages(5), number=2)
    await until(lambda: database.tokens["h0"] != token)
    await host.stop()
