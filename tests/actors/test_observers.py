"""Observers: replicas that remember something of a guild hear of every change, and keep nothing awake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from actors import host as host_module
from actors.guild import Unwatch, Watch
from actors.guild_table import TableSettings
from actors.host import GuildHost, HostSettings
from actors.observers import MESSAGES, UNOBSERVED, Change
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS, described, person, violation
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable
from domain.events import (
    ActionSettled,
    BotPresenceChanged,
    Busy,
    Event,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
)
from domain.placement import place
from domain.ports import Commit
from tests.actors.hosts import Held, HostUnderTest, settled, until

GUILD = 1


class Observer:
    """A replica's end of a host's stream of changes."""

    def __init__(self, host: GuildHost, observer_id: str = "o") -> None:
        self._host, self.observer_id = host, observer_id
        self._stream = host.changes(observer_id)
        self.lists = -1
        """What came after the first, which says only that the stream stands."""

    async def next(self) -> list[Change]:
        changes = await asyncio.wait_for(anext(self._stream), 5)
        self.lists += 1
        return changes

    async def ended(self) -> bool:
        with contextlib.suppress(StopAsyncIteration):
            await self.next()
            return False
        return True

    async def observe(self, *guild_ids: int, turn: int = 1) -> None:
        for guild_id in guild_ids:
            await self._host.observe(self.observer_id, guild_id, turn)

    async def unobserve(self, guild_id: int, turn: int = 1) -> None:
        await self._host.unobserve(self.observer_id, guild_id, turn)

    async def said_since(self) -> list[Change]:
        """Return all that was told up to now."""
        self._host._observers.tick()
        said: list[Change] = []
        while self.lists < (await self._host.ping()).told[self.observer_id]:
            said += await self.next()
        return said

    async def close(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def observing(host: GuildHost, *guild_ids: int, observer_id: str = "o") -> AsyncIterator[Observer]:
    observer = Observer(host, observer_id)
    assert await observer.next() == []
    await observer.observe(*guild_ids)
    try:
        yield observer
    finally:
        await observer.close()


async def test_a_change_is_told_once_it_is_durable(host: HostUnderTest, database: MemoryDatabase) -> None:
    """Not before the commit, when whoever loads anew would load what was before."""
    async with observing(host.actor, GUILD) as observer:
        held = Held(database)
        sending = asyncio.create_task(host.send(violation(GUILD)))
        hearing = asyncio.create_task(observer.next())
        await asyncio.wait_for(held.begun.wait(), 5)
        await settled()
        assert not hearing.done()
        held.let_go.set()
        assert await asyncio.wait_for(hearing, 5) == [Change(GUILD, "violation")]
        await sending


@pytest.mark.parametrize(
    ("event", "what"),
    [
        (violation(GUILD), "violation"),
        (BotPresenceChanged(GUILD, online=True, ts_ms=NOON_MS), "bot_status"),
        (MemberJoined(GUILD, person(), NOON_MS), "members"),
        (MemberLeft(GUILD, 1, NOON_MS), "members"),
        (described(GUILD), "guild"),
        (GuildLeft(GUILD), "guild"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
async def test_every_kind_of_event_is_told(host: HostUnderTest, event: Event, what: str) -> None:
    """Under the name that the guild's stream gives it, if that knows it."""
    async with observing(host.actor, GUILD) as observer:
        await host.send(event)
        assert await observer.next() == [Change(GUILD, what)]


async def test_a_settled_action_is_told_by_the_row_that_it_changed(host: HostUnderTest) -> None:
    """One that changes no row changes nothing that anybody remembers."""
    async with observing(host.actor, GUILD) as observer:
        reported = violation(GUILD)
        await host.send(reported)
        assert await observer.next() == [Change(GUILD, "violation")]
        done = ActionSettled(GUILD, reported.event_id, reported.ts_ms, "done")
        await host.send(done, number=2)
        assert await observer.next() == [Change(GUILD, "violation")]
        await host.send(done, number=3)
        assert await observer.said_since() == []


async def test_counts_of_messages_wait_for_the_tick(host: HostUnderTest) -> None:
    """However many commits there were, the observer hears once."""
    async with observing(host.actor, GUILD) as observer:
        for number in range(1, 4):
            await host.send(MessagesCounted(GUILD, NOON_MS, 1), number=number)
        host.actor._observers.tick()
        assert await observer.next() == [Change(GUILD, MESSAGES)]
        assert await observer.said_since() == []


async def test_one_commit_tells_each_thing_once(host: HostUnderTest) -> None:
    """A storm in a guild is one change to those who only forget."""
    async with observing(host.actor, GUILD, 2) as observer:
        await host.send(*(violation(GUILD, number) for number in range(1, 6)), violation(2), violation(3))
        assert await observer.next() == [Change(GUILD, "violation"), Change(2, "violation")]


async def test_a_quiet_host_tells_nothing_and_its_ping_says_how_much(host: HostUnderTest) -> None:
    """To each observer that listens: what it can have heard."""
    async with observing(host.actor, GUILD, observer_id="a"), observing(host.actor, observer_id="b"):
        for _ in range(5):
            host.actor._observers.tick()
        assert (await host.actor.ping()).told == {"a": 0, "b": 0}
        await host.send(violation(GUILD))
        assert (await host.actor.ping()).told == {"a": 1, "b": 0}
    assert (await host.actor.ping()).told == {}


async def test_a_database_that_hangs_holds_up_no_tick(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look whether the host was replaced has a task of its own."""

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(MemoryGuildStore, "renew_token", hang)
    host = await HostUnderTest(database, clock, tick_ms=1).start()
    await until(lambda: host.actor._looking is not None)
    async with observing(host.actor, GUILD) as observer:
        for _ in range(3 * host_module.LOOK_EVERY_TICKS):
            host.actor._observers.tell_later(Change(GUILD, MESSAGES))
            assert await observer.next() == [Change(GUILD, MESSAGES)]
    await host.stop()


async def test_an_observer_is_no_watcher(host: HostUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nobody's place, and nothing is built for it."""

    def refuse(*_: object) -> None:
        pytest.fail("a record was built that nobody sees")

    monkeypatch.setattr(host_module, "violation_view", refuse)
    async with observing(host.actor, GUILD) as observer:
        await host.send(violation(GUILD))
        assert await observer.next() == [Change(GUILD, "violation")]
        assert (await host.actor.stats()).watched_guilds == 0


async def test_an_observed_guild_goes_to_sleep_and_is_heard_of_all_the_same(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """What wakes it up is told like anything else."""
    table = TableSettings(idle_after_ms=1)
    host = await HostUnderTest(database, clock, tick_ms=3_600_000, table=table).start()
    async with observing(host.actor, GUILD, 2) as observer:  # 2 was never awake
        await host.send(violation(GUILD))
        assert await observer.next() == [Change(GUILD, "violation")]
        clock.advance(1)
        assert host.actor._table.passivate_idle() == 1
        await host.actor.announce(GUILD, [("config_update", {})])
        await host.send(violation(GUILD, 2), violation(2), number=2)
        changes = [Change(GUILD, "config_update"), Change(GUILD, "violation"), Change(2, "violation")]
        assert await observer.next() == changes
    await host.stop()


async def test_a_guild_that_is_given_up_is_told_before_anybody_else_has_it(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Even while its last commit here is in flight; and it cannot be observed here again."""
    async with observing(host.actor, GUILD) as observer:
        held = Held(database)
        sending = asyncio.create_task(host.send(violation(GUILD)))
        await asyncio.wait_for(held.begun.wait(), 5)
        assigning = asyncio.create_task(host.actor.assign(place(2, ["another"])))
        assert await observer.next() == [Change(GUILD, UNOBSERVED)]
        with pytest.raises(NotOwner):
            await observer.observe(GUILD, turn=2)
        assert not assigning.done()
        held.let_go.set()
        await asyncio.gather(sending, assigning)
        assert await observer.said_since() == []


async def test_a_guild_that_stays_is_observed_on(host: HostUnderTest) -> None:
    """A new placement that changes nothing for it tells nothing."""
    async with observing(host.actor, GUILD) as observer:
        await host.actor.assign(place(2, ["h0"]))
        await host.send(violation(GUILD))
        assert await observer.next() == [Change(GUILD, "violation")]


async def test_a_commit_in_doubt_that_was_made_is_told(host: HostUnderTest, database: MemoryDatabase) -> None:
    """Nobody was told when it happened, so whoever remembers something has to ask anew."""
    async with observing(host.actor, GUILD) as observer:

        async def lose_the_answer(_: Commit) -> None:
            database.after_commit = None
            raise StoreUnavailable

        database.after_commit = lose_the_answer
        assert isinstance(await host.send(violation(GUILD)), Busy)
        await host.send(MessagesCounted(2, NOON_MS, 1), source="another")
        assert await observer.next() == [Change(GUILD, UNOBSERVED)]


async def test_a_host_that_is_replaced_ends_the_streams(host: HostUnderTest) -> None:
    """Also of those who observe nothing yet: the guilds are in its next life."""
    async with observing(host.actor, GUILD) as one, observing(host.actor, observer_id="p") as other:
        host.actor.fenced()
        assert await one.ended()
        assert await other.ended()
        with pytest.raises(NotOwner):
            await one.observe(GUILD, turn=2)


async def test_a_host_that_stops_ends_the_streams(host: HostUnderTest) -> None:
    """Whoever remembers something looks for another."""
    async with observing(host.actor, GUILD) as observer:
        await host.actor.stop("the test is over")
        assert await observer.ended()


async def test_with_its_stream_all_that_an_observer_asked_for_ends(host: HostUnderTest) -> None:
    """Nothing of it stays, and nothing can be asked for under its id any more; others stay."""
    async with observing(host.actor, GUILD, observer_id="stays") as stays:
        async with observing(host.actor, GUILD, 2) as leaves:
            pass
        assert host.actor._observers._by_guild == {GUILD: {"stays": 1}}
        with pytest.raises(HostUnreachable):
            await leaves.observe(GUILD, turn=2)
        await host.send(violation(GUILD))
        assert await stays.next() == [Change(GUILD, "violation")]


async def test_who_asked_again_is_not_taken_off_by_a_call_that_comes_late(host: HostUnderTest) -> None:
    """Calls overtake each other: what counts is the turn."""
    async with observing(host.actor) as observer:
        await observer.observe(GUILD, turn=2)
        await observer.observe(GUILD, turn=1)
        await observer.unobserve(GUILD, turn=1)
        await host.send(violation(GUILD))
        assert await observer.next() == [Change(GUILD, "violation")]
        await observer.unobserve(GUILD, turn=2)
        await observer.unobserve(GUILD, turn=2)
        await host.send(violation(GUILD, 2), number=2)
        assert await observer.said_since() == []
        assert len(host.actor._observers) == 0


async def test_only_own_guilds_are_observed_or_announced() -> None:
    """Whose guild it is is said by NotOwner, also before the first placement."""
    database = MemoryDatabase(MemoryClock())

    async def open_store() -> MemoryGuildStore:
        return MemoryGuildStore(database)

    host = GuildHost(HostSettings("h0"), open_store, database.now_ms)
    await host.start()
    with pytest.raises(NotOwner):
        await host.observe("o", GUILD, 1)
    with pytest.raises(NotOwner):
        await host.announce(GUILD, [("config_update", {})])
    await host.stop("the test is over")


# -- announcements ------------------------------------------------------------------------------------


async def test_an_announcement_reaches_who_watches_and_who_observes(host: HostUnderTest) -> None:
    """On the guild's stream it is an event like the host's own, with the next offset."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    async with observing(host.actor, GUILD, 2) as observer:
        await host.send(violation(GUILD))
        await host.actor.announce(GUILD, [("config_update", {"what": "config", "version": 3})])
        assert await observer.next() == [Change(GUILD, "violation"), Change(GUILD, "config_update")]
    first, second = (await relay.frame())["events"][0], (await relay.frame())["events"][0]
    assert (first["type"], second["type"]) == ("violation", "config_update")
    assert (first["offset"], second["offset"]) == (1, 2)
    assert second["data"] == {"what": "config", "version": 3}


async def test_an_announcement_is_replayed_to_who_left_a_moment_ago(host: HostUnderTest) -> None:
    """Whoever comes back has missed it like any event."""
    await host.listen()
    admission = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.actor.register("relay", [Unwatch(1, GUILD)])
    await host.actor.announce(GUILD, [("config_update", {"what": "rules"})])
    back = await host.actor.watch("relay", Watch(1, GUILD, 10, (admission.epoch, admission.offset)))
    assert (back.recovered, back.offset) == (True, 1)
    assert b"config_update" in back.replay


async def test_an_announcement_that_nobody_was_there_for_makes_a_late_comer_reload(
    host: HostUnderTest, clock: MemoryClock
) -> None:
    """Nothing is built for it; but who stood before it has not seen everything."""
    await host.listen()
    admission = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.actor.register("relay", [Unwatch(1, GUILD)])
    clock.advance(HostSettings("h0").resume_ms)
    await host.actor.announce(GUILD, [("config_update", {"what": "rules"})])
    back = await host.actor.watch("relay", Watch(1, GUILD, 10, (admission.epoch, admission.offset)))
    assert not back.recovered
