"""A host: what it acknowledges is durable, what it shows is durable, and each thing is counted once."""

from __future__ import annotations

import asyncio
import contextlib
import json

import msgspec
import pytest

from actors import relay_proofs
from actors.fan_out import PROBE
from actors.group_commit import CommitSettings
from actors.guild import Admission, GuildActor, Unwatch, Watch
from actors.guild_table import TableSettings
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS, described, message, person, violation
from domain.errors import Fenced, HostUnreachable, MalformedBatch, NotOwner, StoreUnavailable, TooManySockets
from domain.events import (
    Accepted,
    ActionSettled,
    BotPresenceChanged,
    Busy,
    Gap,
    MemberJoined,
    MessagesCounted,
    NotMine,
)
from domain.guild import HourCounts
from domain.placement import Placement, place
from domain.ports import Commit
from tests.actors.hosts import Held, HostUnderTest, settled, until
from tests.waiting import eventually

GUILD = 1


def messages(count: int, guild_id: int = GUILD) -> MessagesCounted:
    return MessagesCounted(guild_id, NOON_MS, count)


def only(version: int, guild_id: int) -> Placement:
    """Return a placement that gives the host one guild, and all others to somebody else."""
    placement = place(version, ["another"])
    return Placement(version, placement.owners, {guild_id: "h0"})


def live(host: HostUnderTest, guild_id: int = GUILD) -> tuple[HourCounts, ...]:
    """Return the counts that the guild's actor holds."""
    guild = host.actor._table.get(guild_id)
    return guild.state.hours if guild else ()


def stored(database: MemoryDatabase, guild_id: int = GUILD) -> tuple[HourCounts, ...]:
    return database.hours_of(guild_id, 0)


async def test_an_acknowledgement_follows_the_commit(host: HostUnderTest, database: MemoryDatabase) -> None:
    """While the transaction runs there is no answer, and nobody is shown anything."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    held = Held(database)
    sending = asyncio.create_task(host.send(violation(GUILD)))
    showing = asyncio.create_task(relay.next())
    await asyncio.wait_for(held.begun.wait(), 5)
    done, _ = await asyncio.wait({sending, showing}, timeout=0.01)
    assert done == set()
    assert live(host) == ()
    held.let_go.set()
    assert isinstance(await sending, Accepted)
    assert [item.guild_id for item in await showing] == [GUILD]
    assert live(host) == stored(database) == (HourCounts(NOON_MS, medium=1),)


async def test_a_failed_commit_shows_and_adopts_nothing_and_the_retry_counts_once(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Busy; then the same batch again leads to exactly one application."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    held = Held(database)
    held.error = StoreUnavailable()
    held.let_go.set()
    events = (violation(GUILD), messages(5))
    assert isinstance(await host.send(*events), Busy)
    assert not (await host.actor.stats()).commit.store_available
    assert live(host) == stored(database) == ()
    held.error = None
    assert isinstance(await host.send(*events), Accepted)
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=5, medium=1),)
    assert [(event["offset"], event["type"]) for event in await relay.events(3)] == [
        (1, "health_update"),
        (2, "violation"),
        (3, "health_update"),
    ]
    assert (await host.actor.stats()).commit.store_available


async def test_a_commit_whose_answer_was_lost_counts_once(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """The retry finds itself taken already; the guild is loaded anew and its watchers come back to it."""
    relay = await host.listen()
    before = await host.actor.watch("relay", Watch(1, GUILD, 10, None))

    async def lose_the_answer(_: Commit) -> None:
        database.after_commit = None
        raise StoreUnavailable

    database.after_commit = lose_the_answer
    events = (violation(GUILD), messages(5))
    assert isinstance(await host.send(*events), Busy)
    assert isinstance(await host.send(*events), Accepted)
    assert stored(database) == (HourCounts(NOON_MS, messages=5, medium=1),)
    assert await relay.ended()
    await host.listen("again")
    after = await host.actor.watch("again", Watch(1, GUILD, 10, (before.epoch, before.offset)))
    assert not after.recovered
    assert live(host) == stored(database)


async def test_after_a_lost_answer_other_batches_build_on_what_is_stored(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """The doubt is ended before anything else is decided, whoever comes first."""

    async def lose_the_answer(_: Commit) -> None:
        database.after_commit = None
        raise StoreUnavailable

    database.after_commit = lose_the_answer
    assert isinstance(await host.send(messages(5), source="a"), Busy)
    assert isinstance(await host.send(messages(1), source="b"), Accepted)
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=6),)


async def test_a_batch_sent_twice_is_acknowledged_and_not_applied(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Its number is taken, so the second time changes nothing."""
    for _ in range(2):
        assert isinstance(await host.send(messages(5), number=1), Accepted)
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=5),)
    assert database.commits == 1


async def test_a_batch_twice_in_one_group_is_applied_once(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """A shard whose call failed sends again while the first try still waits for its commit."""
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1), source="other"))
    await asyncio.wait_for(held.begun.wait(), 5)
    twice = [asyncio.create_task(host.send(messages(5), number=1)) for _ in range(2)]
    await settled()
    held.let_go.set()
    replies = await asyncio.gather(first, *twice)
    assert all(isinstance(reply, Accepted) for reply in replies)
    assert [len(commit.marks) for commit in held.seen] == [1, 1]
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=6),)


async def test_a_new_life_knows_what_the_last_one_took(
    host: HostUnderTest, database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Marks and violations outlive the host: neither a resent batch nor a resent violation counts again."""
    await host.send(violation(GUILD), messages(5))
    second = await HostUnderTest(database, clock).start()
    assert isinstance(await second.send(violation(GUILD), messages(5)), Accepted)
    assert isinstance(await second.send(violation(GUILD), number=2), Accepted)
    assert live(second) == stored(database) == (HourCounts(NOON_MS, messages=5, medium=1),)
    await second.stop()


@pytest.mark.parametrize("apart", [False, True])
async def test_a_violation_told_twice_is_one(
    host: HostUnderTest, database: MemoryDatabase, apart: bool
) -> None:
    """Within a batch and across batches it is counted once and shown once."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    one, two = violation(GUILD, 1), violation(GUILD, 2)
    if apart:
        await host.send(one)
        await host.send(one, two, number=2)
        frames = [await relay.frame(), await relay.frame()]
    else:
        await host.send(one, one, two)
        frames = [await relay.frame()]
    shown = [event["data"]["id"] for frame in frames for event in frame["events"]]
    assert shown == [str(one.event_id), str(two.event_id)]
    assert live(host) == stored(database) == (HourCounts(NOON_MS, medium=2),)


async def test_not_mine_takes_nothing(host: HostUnderTest, database: MemoryDatabase) -> None:
    """One foreign guild in a batch, and nothing of the batch is taken."""
    mine, other = 1, 2
    await host.actor.assign(only(3, mine))
    assert await host.send(messages(1, mine), messages(1, other)) == NotMine(3)
    assert database.commits == 0
    assert isinstance(await host.send(messages(1, mine)), Accepted)


async def test_an_old_placement_is_ignored(host: HostUnderTest) -> None:
    """Assignments may overtake each other; the newest wins."""
    await host.actor.assign(only(5, GUILD))
    await host.actor.assign(place(4, ["another"]))
    assert isinstance(await host.send(messages(1)), Accepted)


async def test_an_older_directors_placement_is_refused(host: HostUnderTest) -> None:
    """Whatever its version; a newer Director is followed whatever an older one told."""
    mine = msgspec.structs.replace(only(5, GUILD), director=7)
    await host.actor.assign(mine)
    with pytest.raises(Fenced):
        await host.actor.assign(msgspec.structs.replace(place(9, ["another"]), director=6))
    assert isinstance(await host.send(messages(1)), Accepted)
    await host.actor.assign(msgspec.structs.replace(place(4, ["another"]), director=8))
    assert await host.send(messages(1), number=2) == NotMine(4)


async def test_a_tick_that_breaks_is_no_end_of_ticks(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next ones come; where each breaks, the host says that it ails, until one does not."""
    monkeypatch.setattr("tasks.FIRST_BACKOFF_S", 0.001)
    host = await HostUnderTest(database, clock, tick_ms=1).start()

    def fail() -> None:
        raise RuntimeError

    async def ails() -> bool:
        return (await host.actor.ping()).ailing == ("tick",)

    async def is_well() -> bool:
        return not await ails()

    with monkeypatch.context() as patch:
        patch.setattr(host.actor, "_push_metrics", fail)
        assert await eventually(ails)
    assert await eventually(is_well)
    await host.stop()


async def test_commits_go_on_after_one_that_breaks(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever broke, what comes afterwards is made durable."""
    with monkeypatch.context() as patch:

        async def fail(*_: object) -> None:
            raise RuntimeError

        patch.setattr(host.actor._commit, "_take", fail)
        assert isinstance(await host.send(messages(1), source="a"), Busy)
    assert isinstance(await host.send(messages(1), source="a"), Accepted)


async def test_the_intake_is_bounded(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Beyond the bound shards are told to wait; a lone batch is taken whatever its size."""
    host = await HostUnderTest(
        database, clock, commit=CommitSettings(intake_events=3, commit_events=1, retry_after_ms=9)
    ).start()
    held = Held(database)
    in_flight = asyncio.create_task(host.send(*[messages(1)] * 5))
    await asyncio.wait_for(held.begun.wait(), 5)
    waiting = asyncio.create_task(host.send(messages(1), messages(1), number=2))
    await settled()
    assert (await host.actor.stats()).commit.waiting_events == 2
    assert await host.send(messages(1), messages(1), source="other") == Busy(9)
    held.let_go.set()
    assert isinstance(await in_flight, Accepted)
    assert await waiting == Accepted(2, credit=3)
    assert stored(database) == (HourCounts(NOON_MS, messages=7),)
    assert (await host.actor.stats()).refused_batches == 1
    await host.stop()


async def test_what_gathers_during_a_commit_shares_the_next_one(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Three batches that wait are one transaction."""
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1)))
    await asyncio.wait_for(held.begun.wait(), 5)
    rest = [asyncio.create_task(host.send(messages(1), source=f"s{n}")) for n in range(3)]
    await settled()
    held.let_go.set()
    await asyncio.gather(first, *rest)
    assert [len(commit.marks) for commit in held.seen] == [1, 3]


async def test_a_fenced_host_drops_its_guilds(host: HostUnderTest, database: MemoryDatabase) -> None:
    """It writes nothing more, owns nothing more, and sends its watchers away to look for the new owner."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.send(messages(1))
    await MemoryGuildStore(database).register_host("h0")
    assert isinstance(await host.send(messages(1), number=2), NotMine)
    assert stored(database) == (HourCounts(NOON_MS, messages=1),)
    assert (await host.actor.stats()).guilds == 0
    assert await relay.ended()
    with pytest.raises(NotOwner):
        await host.actor.watch("relay", Watch(1, GUILD, 10, None))


async def test_garbage_is_malformed(host: HostUnderTest) -> None:
    """Bytes that are no batch are refused as such, and the host goes on."""
    with pytest.raises(MalformedBatch):
        await host.actor.ingest(b"\xc1 not a batch")
    assert isinstance(await host.send(messages(1)), Accepted)


async def test_an_event_that_the_store_refuses_costs_nobody_else_theirs(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Batches of one group then stand for themselves; the bad event is set aside, and its batch taken."""
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1), source="first"))
    await asyncio.wait_for(held.begun.wait(), 5)
    bad = violation(GUILD, 2, excerpt="a\0b")
    poisoned = asyncio.create_task(host.send(bad, source="poisoned"))
    good = asyncio.create_task(host.send(messages(5), source="good"))
    await settled()
    held.let_go.set()
    assert isinstance(await first, Accepted)
    assert isinstance(await good, Accepted)
    assert isinstance(await poisoned, Accepted)
    assert [(row.event.source, row.event.guild_id) for row in database.poison] == [("poisoned", GUILD)]
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=6),)


async def test_stopping_answers_whoever_waits(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Busy for the group in flight, for what waits behind it, and for what comes later; streams end."""
    host = await HostUnderTest(database, clock).start()
    relay = await host.listen()
    held = Held(database)
    in_flight = asyncio.create_task(host.send(messages(1)))
    await asyncio.wait_for(held.begun.wait(), 5)
    waiting = asyncio.create_task(host.send(messages(1), source="other"))
    await settled()
    await host.stop()
    assert [type(await call) for call in (in_flight, waiting)] == [Busy, Busy]
    assert isinstance(await host.send(messages(1)), Busy)
    assert await relay.ended()


async def test_offsets_have_no_gaps(host: HostUnderTest) -> None:
    """Violations, settled actions and the bot's presence share one sequence from 1 on."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    one = violation(GUILD)
    await host.send(one, BotPresenceChanged(GUILD, online=True, ts_ms=NOON_MS))
    await host.send(ActionSettled(GUILD, one.event_id, one.ts_ms, "done"), violation(GUILD, 2), number=2)
    shown = [event for _ in range(2) for event in (await relay.frame())["events"]]
    assert [event["offset"] for event in shown] == [1, 2, 3, 4]
    assert [event["type"] for event in shown] == ["violation", "bot_status", "violation", "violation"]
    assert shown[3]["data"]["action_status"] == "done"


async def test_a_guild_that_nobody_watches_builds_nothing(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its offset moves, as far as if somebody had watched; nobody is told to have it all."""
    one = violation(GUILD)
    with monkeypatch.context() as patch:
        patch.setattr(GuildActor, "publish", None)
        patch.setattr("actors.host.violation_view", None)
        await host.send(one, BotPresenceChanged(GUILD, online=True, ts_ms=NOON_MS))
        await host.send(ActionSettled(GUILD, one.event_id, one.ts_ms, "done"), number=2)
    relay = await host.listen()
    came = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    assert (came.offset, came.recovered) == (3, True)
    await host.send(violation(GUILD, 2), number=3)
    [event] = (await relay.frame())["events"]
    assert event["offset"] == 4
    for offset, recovered in enumerate((False, False, False, True, True)):
        back = await host.actor.watch("relay", Watch(1, GUILD, 10, (came.epoch, offset)))
        assert back.recovered is recovered
        assert bool(back.replay) is (offset == 3)


@pytest.mark.parametrize("leaves", ["its page", "its relay"])
@pytest.mark.parametrize(("away_ms", "recovered"), [(119_999, True), (120_000, False)])
async def test_who_left_may_come_back_for_a_while(
    host: HostUnderTest, clock: MemoryClock, leaves: str, away_ms: int, recovered: bool
) -> None:
    """Two minutes after the last one left, what happens is not kept any more."""
    relay = await host.listen()
    came = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.actor.watch("relay", Watch(2, GUILD, 10, None))
    clock.advance(500_000)
    await host.actor.register("relay", [Unwatch(1, GUILD)])
    clock.advance(500_000)
    if leaves == "its page":
        await host.actor.register("relay", [Unwatch(2, GUILD)])
    else:
        await relay.close()
    await host.send(violation(GUILD, 1))
    clock.advance(away_ms)
    with contextlib.suppress(HostUnreachable):  # a second time: it does not begin anew
        await host.actor.register("relay", [Unwatch(2, GUILD)])
    await host.send(violation(GUILD, 2), number=2)
    await host.listen("new")
    back = await host.actor.watch("new", Watch(1, GUILD, 10, (came.epoch, came.offset)))
    assert (back.epoch, back.offset, back.recovered) == (came.epoch, 2, recovered)
    assert (len(json.loads(back.replay)["events"]) if back.replay else 0) == (2 if recovered else 0)


async def test_a_frame_goes_once_a_relay(host: HostUnderTest) -> None:
    """However many sockets watch through it, and never to a relay that does not watch."""
    watching, idle = await host.listen("watching"), await host.listen("idle")
    for socket_id in range(3):
        await host.actor.watch("watching", Watch(socket_id, GUILD, socket_id, None))
    await host.actor.watch("idle", Watch(1, GUILD + 1, 10, None))
    await host.send(violation(GUILD))
    await host.send(violation(GUILD + 1, 2), number=2)
    assert (await watching.frame())["guild_id"] == str(GUILD)
    assert (await idle.frame())["guild_id"] == str(GUILD + 1)
    await host.actor.stop("nothing may be left in either stream")
    assert await watching.ended()
    assert await idle.ended()


async def test_a_quiet_guild_keeps_what_its_last_watcher_will_have_missed(
    host: HostUnderTest, clock: MemoryClock
) -> None:
    """Idle for long when it left: it has its two minutes all the same."""
    relay = await host.listen("r1")
    before = await host.actor.watch("r1", Watch(1, GUILD, 10, None))
    await host.send(violation(GUILD, 7))
    clock.advance(601_000)
    await relay.close()
    clock.advance(119_000)
    host.actor._table.passivate_idle()
    await host.listen("r2")
    after = await host.actor.watch("r2", Watch(2, GUILD, 10, (before.epoch, before.offset)))
    assert after.recovered
    assert after.epoch == before.epoch


async def test_what_another_host_took_is_asked_anew(host: HostUnderTest, database: MemoryDatabase) -> None:
    """A source of another host's moves on behind this one's back, when a drained host's id is used again."""
    assert await host.actor.taken("r0@1>h9") == 0
    database.marks["r0@1>h9"] = 1
    assert await host.actor.taken("r0@1>h9") == 1


async def test_a_relay_that_goes_takes_its_watchers_along(host: HostUnderTest) -> None:
    """The end of a stream frees the places of all its sockets."""
    relay = await host.listen("gone")
    for socket_id in range(5):
        await host.actor.watch("gone", Watch(socket_id, GUILD, 10, None))
    await host.listen("new")
    with pytest.raises(TooManySockets):
        await host.actor.watch("new", Watch(1, GUILD, 10, None))
    await relay.close()
    await host.actor.watch("new", Watch(1, GUILD, 10, None))
    guild = host.actor._table.get(GUILD)
    assert guild is not None
    assert set(guild.relays) == {"new"}


async def test_sockets_of_a_relay_that_does_not_answer_make_room(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one that says that it is there stay; it is asked once however many come."""
    monkeypatch.setattr(relay_proofs, "PROVE_WITHIN_S", 0.2)
    alive, dead = await host.listen("alive"), await host.listen("dead")
    await host.actor.watch("alive", Watch(1, GUILD, 10, None))
    for socket_id in range(2, 6):
        await host.actor.watch("dead", Watch(socket_id, GUILD, 10, None))
    evicting = [asyncio.create_task(host.actor.evict_silent(GUILD, 10)) for _ in range(3)]
    assert await alive.next() == [PROBE]
    await host.actor.prove("alive")
    await asyncio.gather(*evicting)
    guild = host.actor._table.get(GUILD)
    assert guild is not None
    assert set(guild.relays) == {"alive"}
    assert await dead.ended()  # if it reads again, it knows that it has to come back
    for socket_id in range(2, 6):
        await host.actor.watch("alive", Watch(socket_id, GUILD, 10, None))
    await host.actor.evict_silent(GUILD, 10)
    assert guild.sockets_of == {10: 5}
    await host.actor.evict_silent(GUILD + 1, 10)


async def test_a_relay_that_goes_while_a_guild_loads_leaves_nothing(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer of the database comes after the stream's end: no socket is registered any more."""
    relay = await host.listen("gone")
    loading, loaded = asyncio.Event(), asyncio.Event()
    load = MemoryGuildStore.load_guilds

    async def slow_load(*args: object) -> object:
        loading.set()
        await loaded.wait()
        return await load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryGuildStore, "load_guilds", slow_load)
    watching = asyncio.create_task(host.actor.watch("gone", Watch(1, GUILD, 10, None)))
    await asyncio.wait_for(loading.wait(), 5)
    await relay.close()
    loaded.set()
    with pytest.raises(HostUnreachable):
        await watching
    assert (await host.actor.stats()).watched_guilds == 0


async def test_slots_that_are_given_up_take_their_guilds_along(host: HostUnderTest) -> None:
    """Their watchers are cut off, so that they find the new owner."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.actor.assign(place(2, ["another"]))
    assert await relay.ended()
    assert isinstance(await host.send(messages(1)), NotMine)


async def test_counters_are_pushed_only_to_who_watches(database: MemoryDatabase, clock: MemoryClock) -> None:
    """A change in a watched guild brings its counters; one that nobody watches costs no offset."""
    host = await HostUnderTest(database, clock, tick_ms=1).start()
    await host.send(messages(3, guild_id=2))
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.send(
        messages(3), described(GUILD, member_count=9), MemberJoined(GUILD, person(), NOON_MS), number=2
    )
    frame = await relay.frame()
    [event] = frame["events"]
    assert (event["type"], event["offset"]) == ("metrics_update", 1)
    assert (event["data"]["messages"], event["data"]["joins"], event["data"]["member_count"]) == (3, 1, 10)
    quiet = host.actor._table.get(2)
    assert quiet is not None
    assert quiet.offset == 0
    await host.stop()


async def test_counters_are_pushed_now_and_then_though_nothing_changed(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are of the last hour, which moves on by itself."""
    monkeypatch.setattr("actors.host.METRICS_EVERY_TICKS", 2)
    host = await HostUnderTest(database, clock, tick_ms=1).start()
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    assert {event["type"] for event in await relay.events(2)} == {"metrics_update"}
    await host.stop()


async def test_people_and_gaps_become_durable_with_the_batch(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Who did it, who joined, and what a shard had to give up."""
    await host.send(
        violation(GUILD, user=person(4)), MemberJoined(GUILD, person(5), NOON_MS), gaps=(Gap(1, 2, 3),)
    )
    assert set(database.users) == {4, 5}
    assert database.gaps == [("s", Gap(1, 2, 3))]


async def test_an_epoch_is_never_used_twice(
    host: HostUnderTest, database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Neither by another guild, nor by a later activation, nor by a later life; all stay below 2^53."""
    await host.listen()
    epochs = [(await host.actor.watch("relay", Watch(1, guild_id, 10, None))).epoch for guild_id in (1, 2)]
    second = await HostUnderTest(database, clock).start()
    await second.listen()
    epochs.append((await second.actor.watch("relay", Watch(1, 1, 10, None))).epoch)
    assert len(set(epochs)) == 3
    assert max(epochs) < 2**53
    await second.stop()


async def test_a_message_is_not_an_event(host: HostUnderTest) -> None:
    """What a shard hears is not what it reports: a bare message is no batch."""
    with pytest.raises(MalformedBatch):
        await host.actor.ingest(repr(message()).encode())


# -- what is owned ------------------------------------------------------------------------------------


async def test_giving_up_waits_for_the_commit_in_flight(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Told to let go, a host refuses at once, and says that it has let go when nothing is under way."""
    held = Held(database)
    sending = asyncio.create_task(host.send(messages(5)))
    await asyncio.wait_for(held.begun.wait(), 5)
    behind = asyncio.create_task(host.send(messages(7), source="behind"))
    await settled()
    assigning = asyncio.create_task(host.actor.assign(place(2, ["another"])))
    await settled()
    late = asyncio.create_task(host.send(messages(9), source="late"))
    with pytest.raises(NotOwner):
        await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await settled()
    assert not assigning.done()
    assert (await host.actor.stats()).placement_version == 2
    held.let_go.set()
    await asyncio.wait_for(assigning, 5)
    assert stored(database) == (HourCounts(NOON_MS, messages=5),)
    assert live(host) == ()
    assert isinstance(await sending, Accepted)
    assert [await behind, await late] == [NotMine(2), NotMine(2)]
    assert stored(database) == (HourCounts(NOON_MS, messages=5),)


async def test_what_stays_is_not_disturbed(host: HostUnderTest) -> None:
    """A new placement that leaves a guild where it is ends neither its stream nor its life."""
    relay = await host.listen()
    before = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.send(messages(1, 2))
    await host.actor.assign(only(2, GUILD))
    await host.actor.assign(place(3, ["h0"]))
    await host.send(violation(GUILD), number=2)
    assert (await relay.frame())["epoch"] == before.epoch
    assert (await host.actor.stats()).deactivations == 1


async def test_a_guild_loaded_while_it_was_anothers_is_loaded_anew(
    host: HostUnderTest, database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows came when it was given up already; when it returns, the other owner's work is not missed."""
    loading, loaded = asyncio.Event(), asyncio.Event()
    load = MemoryGuildStore.load_guilds

    async def slow_load(*args: object) -> object:
        loading.set()
        found = await load(*args)  # type: ignore[arg-type]
        await loaded.wait()
        return found

    monkeypatch.setattr(MemoryGuildStore, "load_guilds", slow_load)
    await host.listen()
    watching = asyncio.create_task(host.actor.watch("relay", Watch(1, GUILD, 10, None)))
    await asyncio.wait_for(loading.wait(), 5)
    await host.actor.assign(place(2, ["another"]))
    loaded.set()
    with pytest.raises(NotOwner):
        await watching
    database.add_hour(GUILD, HourCounts(NOON_MS, messages=5))
    await host.actor.assign(place(3, ["h0"]))
    await host.send(messages(1))
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=6),)


async def test_a_fenced_host_takes_no_placement_any_more(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """It says that it is fenced, and owns nothing whatever it is told."""
    alive = await host.actor.ping()
    assert (alive.placement_version, alive.fenced) == (1, False)
    await MemoryGuildStore(database).register_host("h0")
    assert not (await host.actor.ping()).fenced
    await host.send(messages(1))
    await host.actor.assign(place(2, ["h0"]))
    ping = await host.actor.ping()
    assert (ping.incarnation, ping.fenced) == (alive.incarnation, True)
    with pytest.raises(NotOwner):
        await host.actor.watch("relay", Watch(1, GUILD, 10, None))


# -- a store that goes and comes ----------------------------------------------------------------------


async def test_who_watches_is_told_of_the_store_once(host: HostUnderTest, database: MemoryDatabase) -> None:
    """When it goes and when it comes back; in between who begins to watch is told too, nobody else."""
    relay = await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    await host.send(messages(1, 2))
    database.available = False
    for _ in range(3):
        assert isinstance(await host.send(messages(1), number=2), Busy)
    frame = await relay.frame()
    [event] = frame["events"]
    assert (frame["guild_id"], event["type"]) == (str(GUILD), "health_update")
    assert event["data"] == {"store_available": False}
    other = await host.listen("other")
    await host.actor.watch("other", Watch(1, 2, 10, None))
    [late] = (await other.frame())["events"]
    assert (late["type"], late["data"]) == ("health_update", {"store_available": False})
    database.available = True
    assert isinstance(await host.send(messages(1), number=2), Accepted)
    for listener in (relay, other):
        [event] = (await listener.frame())["events"]
        assert (event["type"], event["data"]) == ("health_update", {"store_available": True})
    await host.actor.stop("nothing more may be in either stream")
    assert await relay.ended()
    assert await other.ended()


async def test_a_guild_that_sleeps_cannot_be_watched_without_a_store(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Nobody knows its state; nothing of the attempt is left."""
    await host.listen()
    database.available = False
    with pytest.raises(StoreUnavailable):
        await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    database.available = True
    assert (await host.actor.stats()).watched_guilds == 0
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))


async def test_the_idle_are_put_to_sleep_by_the_clock(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Without anybody asking."""
    table = TableSettings(idle_after_ms=1)
    host = await HostUnderTest(database, clock, tick_ms=1, table=table).start()
    await host.send(messages(1))
    clock.advance(1)
    await until(lambda: len(host.actor._table) == 0)
    await host.stop()


async def test_a_placement_may_come_before_its_predecessor_is_done(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Given up and given back while a commit is in flight: the guild is loaded anew, with that commit."""
    held = Held(database)
    sending = asyncio.create_task(host.send(messages(5)))
    await asyncio.wait_for(held.begun.wait(), 5)
    assigning = [
        asyncio.create_task(host.actor.assign(placement))
        for placement in (place(2, ["another"]), place(3, ["h0"]))
    ]
    await settled()
    held.let_go.set()
    await asyncio.gather(*assigning)
    await sending
    assert live(host) == ()
    await host.send(messages(1), number=2)
    assert live(host) == stored(database) == (HourCounts(NOON_MS, messages=6),)


async def test_many_sockets_are_answered_at_once_each_for_itself(host: HostUnderTest) -> None:
    """Who is over the limit is told so; what would have to be loaded is to be asked for alone."""
    relay = await host.listen()
    first = await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    answers = await host.actor.register(
        "relay",
        [
            *(Watch(number, GUILD, 10, (first.epoch, 0)) for number in range(2, 7)),
            Unwatch(1, GUILD),
            Watch(7, GUILD, 10, None),
            Unwatch(1, GUILD + 1),
            Watch(8, GUILD + 1, 11, None),
        ],
    )
    admitted = Admission(first.epoch, 0, recovered=True, replay=b"")
    assert answers == [*[admitted] * 4, "too_many_sockets", "done", admitted, "done", "ask_alone"]
    await host.send(violation(GUILD))
    assert len((await relay.frame())["events"]) == 1


async def test_nothing_is_registered_on_a_stream_that_is_over_or_in_anothers_guild(
    host: HostUnderTest,
) -> None:
    """The first would never be dismissed; the second hears nothing here, and is told where to ask."""
    with pytest.raises(HostUnreachable):
        await host.actor.register("nobody", [Watch(1, GUILD, 10, None)])
    await host.listen()
    await host.actor.watch("relay", Watch(1, GUILD, 10, None))
    host.actor._placement = place(1, ["another"])
    assert await host.actor.register("relay", [Watch(2, GUILD, 10, None)]) == ["ask_alone"]
    with pytest.raises(NotOwner):
        await host.actor.watch("relay", Watch(2, GUILD, 10, None))
