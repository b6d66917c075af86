"""The group commit: whatever the database does, each good event counts once and each bad one is set aside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.group_commit import CommitSettings
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS, described, violation
from domain.errors import EventRefused, MalformedBatch, StoreUnavailable
from domain.events import (
    Accepted,
    Batch,
    Busy,
    Event,
    Gap,
    MessagesCounted,
    NotMine,
    decode_event,
    encode_batch,
    encode_event,
)
from domain.placement import Placement, place
from domain.ports import Commit, Incarnation
from tests.actors.hosts import Held, HostUnderTest, settled

GUILD = 1
BAD = "a\0b"


def messages(count: int, guild_id: int = GUILD) -> MessagesCounted:
    return MessagesCounted(guild_id, NOON_MS, count)


def counted(database: MemoryDatabase, guild_id: int = GUILD) -> int:
    return sum(hour.messages for hour in database.hours_of(guild_id, 0))


def live(host: HostUnderTest, guild_id: int = GUILD) -> int:
    guild = host.actor._table.get(guild_id)
    return sum(hour.messages for hour in guild.state.hours) if guild else 0


def aside(database: MemoryDatabase) -> list[tuple[str, int, Event]]:
    """Return what is set aside: source, number and event."""
    rows = [row.event for row in database.poison]
    return [(event.source, event.number, decode_event(event.payload)) for event in rows]


async def gathered(host: HostUnderTest, database: MemoryDatabase, *sends: Any) -> list[Any]:
    """Send so that all share one group; return the answers."""
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1, 99), source="first"))
    await asyncio.wait_for(held.begun.wait(), 5)
    sending = [asyncio.create_task(send) for send in sends]
    await settled()
    database.before_commit = None
    held.let_go.set()
    await first
    return await asyncio.gather(*sending)


async def test_whose_a_guild_is_is_asked_once_a_commit(
    host: HostUnderTest, database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many events and batches name it; a batch with a foreign guild is refused, the others taken."""
    placement = place(2, ["another"])
    mine = {1: "h0", 2: "h0", 99: "h0"}
    await host.actor.assign(Placement(2, placement.owners, mine))
    asked: list[int] = []
    owns = host.actor.owns

    def note(guild_id: int) -> bool:
        asked.append(guild_id)
        return owns(guild_id)

    monkeypatch.setattr(host.actor, "owns", note)
    replies = await gathered(
        host,
        database,
        host.send(messages(1, 1), messages(2, 1), messages(4, 2), source="a"),
        host.send(messages(8, 3), messages(16, 1), source="b"),
        host.send(messages(32, 1), source="c"),
    )
    assert [type(reply) for reply in replies] == [Accepted, NotMine, Accepted]
    assert sorted(asked) == [1, 2, 3, 99]
    assert [counted(database, guild_id) for guild_id in (1, 2, 3)] == [35, 4, 0]


# -- events that the database refuses -----------------------------------------------------------------


@pytest.mark.parametrize("bad_at", [{0}, {6}, {3}, {0, 6}, {2, 3}, set(range(7))])
async def test_bad_events_are_set_aside_and_the_others_taken(
    host: HostUnderTest, database: MemoryDatabase, bad_at: set[int]
) -> None:
    """One, several or all of a batch: the good count once, the bad are kept as they came, and say why."""
    events = [violation(GUILD, n + 1, excerpt=BAD if n in bad_at else "fine") for n in range(7)]
    for _ in range(2):  # a resend is acknowledged, and sets nothing aside again
        assert isinstance(await host.send(*events, number=4), Accepted)
    assert aside(database) == [("s", 4, events[n]) for n in sorted(bad_at)]
    assert {row.event.reason for row in database.poison} == {"a text contains NUL"}
    assert {row.event.guild_id for row in database.poison} == {GUILD}
    good = {event.event_id for n, event in enumerate(events) if n not in bad_at}
    assert {event_id for event_id, _ in database.violations} == good
    assert sum(hour.medium for hour in database.hours_of(GUILD, 0)) == len(good)
    assert database.marks["s"] == 4
    stats = (await host.actor.stats()).commit
    assert (stats.poison_events, stats.committed_events) == (len(bad_at), len(good))


async def test_each_batch_of_a_group_stands_for_itself(host: HostUnderTest, database: MemoryDatabase) -> None:
    """Good events of all are taken; bad ones are kept under the batch they came in."""
    bad = [violation(GUILD, n, excerpt=BAD) for n in (1, 2)]
    answers = await gathered(
        host,
        database,
        host.send(messages(1), bad[0], source="a", number=7),
        host.send(messages(10), source="b"),
        host.send(bad[1], messages(100), messages(1_000, 2), source="c"),
    )
    assert [answer.number for answer in answers if isinstance(answer, Accepted)] == [7, 1, 1]
    assert aside(database) == [("a", 7, bad[0]), ("c", 1, bad[1])]
    assert (counted(database), counted(database, 2)) == (live(host), live(host, 2)) == (111, 1_000)
    assert database.marks == {"first": 1, "a": 7, "b": 1, "c": 1}


async def test_numbers_too_large_are_set_aside(host: HostUnderTest, database: MemoryDatabase) -> None:
    """What no column holds is no reason to hold up what follows."""
    bad: list[Event] = [
        described(GUILD, member_count=2**31),
        MessagesCounted(GUILD, 10**18, 1),
        MessagesCounted(GUILD, NOON_MS, 2**63),
    ]
    assert isinstance(await host.send(messages(1), *bad, messages(2)), Accepted)
    assert [event for _, _, event in aside(database)] == bad
    assert counted(database) == live(host) == 3


def _damaged(payload: bytes, kind: str) -> bytes:
    """Return a batch whose second event is of a kind that nobody knows."""
    frame = msgspec.msgpack.decode(payload)
    frame[2][1][0] = kind
    return msgspec.msgpack.encode(frame)


@pytest.mark.parametrize("kind", ["Unheard", "NUL\0inside"])
async def test_unreadable_events_are_set_aside(
    host: HostUnderTest, database: MemoryDatabase, kind: str
) -> None:
    """What cannot be decoded costs its batch nothing else; not even when the reason quotes it."""
    events = (messages(1), messages(2), violation(GUILD, 1, excerpt=BAD), messages(4))
    payload = _damaged(encode_batch(Batch("s", 1, events)), kind)
    for _ in range(2):
        assert isinstance(await host.send_bytes(payload), Accepted)
    assert counted(database) == live(host) == 5
    assert sorted(row.event.guild_id or 0 for row in database.poison) == [0, GUILD]
    [unreadable] = [row.event for row in database.poison if row.event.guild_id is None]
    assert msgspec.msgpack.decode(unreadable.payload)[0] == kind
    assert unreadable.reason.startswith("Invalid value (not shown)")
    assert isinstance(await host.send(messages(1), number=2), Accepted)


async def test_a_gap_that_is_refused_costs_no_event(host: HostUnderTest, database: MemoryDatabase) -> None:
    """The gap is set aside in its batch's place; good gaps beside events that are refused are kept."""
    strange = Gap(NOON_MS, 10**18, 1)
    assert isinstance(await host.send(messages(1), gaps=(strange,)), Accepted)
    assert counted(database) == 1
    assert database.gaps == []
    [row] = database.poison
    assert row.event.payload == encode_batch(Batch("s", 1, (), (strange,)))
    good = Gap(1, 2, 3)
    assert isinstance(await host.send(violation(GUILD, 1, excerpt=BAD), gaps=(good,), number=2), Accepted)
    assert database.gaps == [("s", good)]
    assert len(database.poison) == 2


async def test_a_batch_that_nothing_makes_right_is_malformed(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Where not even its mark can be written, its sender hears so, and nobody else is held up."""
    with pytest.raises(MalformedBatch):
        await host.send(messages(1), source="no\0name")
    assert isinstance(await host.send(messages(2)), Accepted)
    assert counted(database) == live(host) == 2


async def test_events_refused_only_together_are_set_aside_together(
    host: HostUnderTest, database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no single event is to blame, none is lost without a record."""

    def refusing_two(call: Callable[..., Any]) -> Callable[..., Any]:
        async def refuse_two(store: MemoryGuildStore, incarnation: Incarnation, given: Commit) -> Any:
            if len(given.effects) > 1:
                raise EventRefused("too much at once")
            return await call(store, incarnation, given)

        return refuse_two

    monkeypatch.setattr(MemoryGuildStore, "commit", refusing_two(MemoryGuildStore.commit))
    monkeypatch.setattr(MemoryGuildStore, "probe", refusing_two(MemoryGuildStore.probe))
    assert isinstance(await host.send(messages(1), messages(2)), Accepted)
    assert [event for _, _, event in aside(database)] == [messages(1), messages(2)]
    assert {row.event.reason for row in database.poison} == {"too much at once"}
    assert counted(database) == live(host) == 0


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_refusal_of_the_moment_sets_nothing_aside(
    host: HostUnderTest, database: MemoryDatabase, refusals: int
) -> None:
    """What would be taken a moment later is tried again, here or by its shard, and counts once."""
    left = refusals

    async def refuse_for_a_moment(_: Commit) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise EventRefused("no partition for this row yet")

    database.before_commit = refuse_for_a_moment
    events = (violation(GUILD, 1), violation(GUILD, 2), messages(300))
    if refusals > 1:
        assert isinstance(await host.send(*events), Busy)
        assert (database.violations, database.poison, live(host)) == ({}, [], 0)
    assert isinstance(await host.send(*events), Accepted)
    assert len(database.violations) == 2
    assert counted(database) == live(host) == 300
    assert database.poison == []


Probe = Callable[..., Any]


@pytest.fixture
async def probing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Exception | asyncio.Event]]:
    """Give what the next probes meet: an error, or something to wait for."""
    script: list[Exception | asyncio.Event] = []
    probe: Probe = MemoryGuildStore.probe

    async def scripted(store: MemoryGuildStore, incarnation: Incarnation, commit: Commit) -> None:
        if script:
            step = script.pop(0)
            if isinstance(step, Exception):
                raise step
            await step.wait()
        await probe(store, incarnation, commit)

    monkeypatch.setattr(MemoryGuildStore, "probe", scripted)
    yield script
    assert not script


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("a bug")])
async def test_a_search_that_breaks_off_is_made_again(
    host: HostUnderTest, database: MemoryDatabase, probing: list[Any], error: Exception
) -> None:
    """Busy, nothing taken, nothing set aside; sent again, the batch finds its way."""
    events = (messages(1), violation(GUILD, 1, excerpt=BAD))
    probing.append(error)
    assert isinstance(await host.send(*events), Busy)
    assert (counted(database), database.poison, database.marks) == (0, [], {})
    available = not isinstance(error, StoreUnavailable)
    assert (await host.actor.stats()).commit.store_available is available
    assert isinstance(await host.send(*events), Accepted)
    assert counted(database) == live(host) == 1
    assert len(database.poison) == 1
    assert (await host.actor.stats()).commit.store_available


async def test_a_database_that_hangs_counts_as_away(clock: MemoryClock, database: MemoryDatabase) -> None:
    """While the transaction takes its time; not any more when it is made after all."""
    commit = CommitSettings(late_after_s=0.01)
    host = await HostUnderTest(database, clock, commit=commit).start()
    held = Held(database)
    sending = asyncio.create_task(host.send(messages(1)))
    async with asyncio.timeout(10):
        while (await host.actor.stats()).commit.store_available:  # noqa: ASYNC110 - a timer makes it so
            await asyncio.sleep(0.001)
    held.let_go.set()
    assert isinstance(await sending, Accepted)
    assert (await host.actor.stats()).commit.store_available
    await host.stop()


async def test_a_fenced_host_acknowledges_what_is_durable(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Though it is in one group with what the fence refuses: else its shard would count it once more."""

    async def lose_the_answer(_: Commit) -> None:
        database.after_commit = None
        raise StoreUnavailable

    database.after_commit = lose_the_answer
    assert isinstance(await host.send(messages(3)), Busy)
    await MemoryGuildStore(database).register_host("h0")  # another life begins, and this one does not know

    again, fresh = await asyncio.gather(host.send(messages(3)), host.send(messages(1), source="other"))
    assert isinstance(again, Accepted)
    assert isinstance(fresh, NotMine)
    assert counted(database) == 3


async def test_a_host_fenced_while_it_searches_gives_up(
    host: HostUnderTest, database: MemoryDatabase, probing: list[Any]
) -> None:
    """Another life may set aside what is to be."""
    step = asyncio.Event()
    probing.append(step)
    sending = asyncio.create_task(host.send(violation(GUILD, 1, excerpt=BAD)))
    await settled()
    await MemoryGuildStore(database).register_host("h0")
    step.set()
    assert isinstance(await sending, NotMine)
    assert (await host.actor.ping()).fenced
    assert database.poison == []


async def test_stopping_in_the_middle_of_a_search_answers_all(
    host: HostUnderTest, database: MemoryDatabase, probing: list[Any]
) -> None:
    """The batch that is searched, and those of its group that would have followed."""
    probing.append(asyncio.Event())
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1), source="first"))
    await asyncio.wait_for(held.begun.wait(), 5)
    bad = violation(GUILD, 1, excerpt=BAD)
    rest = [asyncio.create_task(host.send(bad, source=source)) for source in ("a", "b")]
    await settled()
    held.let_go.set()
    await first
    await settled()
    await host.stop()
    assert [type(answer) for answer in await asyncio.gather(*rest)] == [Busy, Busy]
    assert database.poison == []


KINDS = st.sampled_from(["good", "refused", "unreadable"])


@settings(max_examples=60, deadline=None)
@given(
    told=st.lists(st.lists(KINDS, min_size=1, max_size=6), min_size=1, max_size=5),
    away_at=st.sets(st.integers(0, 30), max_size=8),
    lost_at=st.sets(st.integers(1, 12), max_size=4),
)
async def test_each_good_event_counts_once_and_each_bad_one_is_one_row(
    told: list[list[str]], away_at: set[int], lost_at: set[int]
) -> None:
    """Over every mix of good and bad, answers that are lost, and a database that comes and goes."""
    clock = MemoryClock()
    database = MemoryDatabase(clock)
    host = await HostUnderTest(database, clock, tick_ms=3_600_000).start()
    calls = commits = 0

    async def before(_: Commit) -> None:
        nonlocal calls
        calls += 1
        if calls in away_at:
            raise StoreUnavailable

    async def after(_: Commit) -> None:
        nonlocal commits
        commits += 1
        if commits in lost_at:
            raise StoreUnavailable

    database.before_commit, database.after_commit = before, after
    kinds = [kind for batch in told for kind in batch]
    try:
        number = 0
        for turn, batch in enumerate(told):
            events: list[Any] = []
            for kind in batch:
                number += 1
                event = violation(GUILD, number, excerpt=BAD if kind == "refused" else "fine")
                plain = msgspec.msgpack.decode(encode_event(event))
                events.append(["Unheard", *plain[1:]] if kind == "unreadable" else plain)
            payload = msgspec.msgpack.encode([f"s{turn % 2}", turn + 1, events, []])
            async with asyncio.timeout(10):
                while not isinstance(await host.send_bytes(payload), Accepted):
                    assert calls < 500
            assert isinstance(await host.send_bytes(payload), Accepted)
    finally:
        await host.stop()
    assert len(database.violations) == kinds.count("good")
    assert sum(hour.medium for hour in database.hours_of(GUILD, 0)) == kinds.count("good")
    reasons = [row.event.guild_id for row in database.poison]
    assert (reasons.count(GUILD), reasons.count(None)) == (kinds.count("refused"), kinds.count("unreadable"))
    guild = host.actor._table.get(GUILD)
    if guild is not None:
        assert guild.state.hours == database.hours_of(GUILD, 0)


# -- what is in doubt ---------------------------------------------------------------------------------


async def test_a_commit_that_lands_after_it_was_asked_about_counts_once(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Its answer was lost, its mark not there yet, then it was: it is acknowledged, not doubled."""
    late: list[Commit] = []

    async def lose(commit: Commit) -> None:
        late.append(commit)
        database.before_commit = land
        raise StoreUnavailable

    async def land(_: Commit) -> None:
        # In flight all the time: it is written now, before the next one.
        database.before_commit = None
        await MemoryGuildStore(database).commit(host.actor._incarnation, late[0])

    database.before_commit = lose
    assert isinstance(await host.send(messages(5)), Busy)
    assert await host.send(messages(5)) == Busy(0)
    assert isinstance(await host.send(messages(5)), Accepted)
    assert counted(database) == 5
    assert isinstance(await host.send(messages(1), number=2), Accepted)
    assert counted(database) == live(host) == 6


async def test_an_unknown_error_is_tried_again(host: HostUnderTest, database: MemoryDatabase) -> None:
    """A bug of ours gives up nothing, and the store does not count as away."""
    held = Held(database)
    held.error = RuntimeError("a bug")
    held.let_go.set()
    assert isinstance(await host.send(messages(5)), Busy)
    assert (await host.actor.stats()).commit.store_available
    held.error = None
    assert isinstance(await host.send(messages(5)), Accepted)
    assert counted(database) == live(host) == 5
    assert database.poison == []


async def test_what_is_taken_is_known_after_a_doubt(host: HostUnderTest, database: MemoryDatabase) -> None:
    """Asked for a source's number, the host asks the database first whether the last commit was made."""

    async def lose_the_answer(_: Commit) -> None:
        database.after_commit = None
        raise StoreUnavailable

    await host.send(messages(1), number=3)
    assert await host.actor.taken("s") == 3
    database.after_commit = lose_the_answer
    assert isinstance(await host.send(messages(5), number=4), Busy)
    assert await host.actor.taken("s") == 4
    assert await host.actor.taken("nobody") == 0
    assert isinstance(await host.send(messages(1), number=5), Accepted)
    assert counted(database) == live(host) == 7
    database.available = False
    with pytest.raises(StoreUnavailable):
        await host.actor.taken("somebody")


# -- order and bounds ---------------------------------------------------------------------------------


async def test_settling_waits_for_the_transaction_in_flight(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """And for that alone: what waits behind it may come later."""
    commit = host.actor._commit
    await commit.settle()
    held = Held(database)
    sending = asyncio.create_task(host.send(messages(1)))
    await asyncio.wait_for(held.begun.wait(), 5)
    settling = asyncio.create_task(commit.settle())
    await settled()
    assert not settling.done()
    held.let_go.set()
    await asyncio.wait_for(settling, 5)
    assert counted(database) == 1
    await sending


async def test_stopping_answers_a_group_that_waits_for_its_turn(
    host: HostUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody asks the database for a number just then; the batch is refused, not forgotten."""

    async def slow(*_: object) -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(MemoryGuildStore, "taken_number", slow)
    asking = asyncio.create_task(host.actor.taken("s"))
    await settled()
    sending = asyncio.create_task(host.send(messages(1)))
    await settled()
    await host.stop()
    assert isinstance(await sending, Busy)
    asking.cancel()


async def test_a_group_is_no_larger_than_a_transaction(database: MemoryDatabase, clock: MemoryClock) -> None:
    """What does not fit any more waits for the next one, in order."""
    host = await HostUnderTest(database, clock, commit=CommitSettings(commit_events=3)).start()
    held = Held(database)
    first = asyncio.create_task(host.send(messages(1)))
    await asyncio.wait_for(held.begun.wait(), 5)
    rest = [asyncio.create_task(host.send(messages(1), messages(1), source=f"s{n}")) for n in range(4)]
    await settled()
    held.let_go.set()
    await asyncio.gather(first, *rest)
    assert [[mark.source for mark in commit.marks] for commit in held.seen] == [
        ["s"],
        ["s0", "s1"],
        ["s2", "s3"],
    ]
    await host.stop()


async def test_an_acknowledged_batch_stays_so_when_its_guilds_have_moved(
    host: HostUnderTest, database: MemoryDatabase
) -> None:
    """Taken is taken; a new batch for the same guild is refused."""
    await host.send(messages(5))
    await host.actor.assign(place(2, ["another"]))
    assert isinstance(await host.send(messages(5)), Accepted)
    assert await host.send(messages(5), number=2) == NotMine(2)
    assert counted(database) == 5
