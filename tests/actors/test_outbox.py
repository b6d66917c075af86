"""The way from a shard to the hosts: in order, once, and never silently short."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog

from actors.delivery import LaneSettings
from actors.outbox import Outbox, OutboxSettings
from actors.routing import GuildDirectory
from actors.spool_writer import WriterSettings
from adapters.memory import MemoryClock, MemorySpool
from adapters.memory.samples import NOON_MS, violation
from domain.errors import HostUnreachable, MalformedBatch
from domain.events import Batch, Busy, Event, Gap, MessagesCounted, NotMine
from domain.ids import SLOTS, slot_of
from domain.placement import Placement, place
from tests.actors.hosts import Director, RecordingHost, settled, until

OUTBOXES = place(1, ["h0", "h1"])
GUILD = next(guild for guild in range(1, 100) if OUTBOXES.owner_of(guild) == "h0")
OTHER = next(guild for guild in range(1, 100) if OUTBOXES.owner_of(guild) == "h1")
"""Two guilds on two hosts."""


class Network:
    """Two recording hosts and a director that places guilds on them."""

    def __init__(self) -> None:
        self.h0, self.h1 = RecordingHost(), RecordingHost()
        self.director = Director({"h0": self.h0, "h1": self.h1})


@pytest.fixture
def network() -> Network:
    return Network()


StartOutbox = Callable[..., Any]


@pytest.fixture
async def start(network: Network, clock: MemoryClock) -> AsyncIterator[StartOutbox]:
    outboxes: list[Outbox] = []

    async def start_one(**settings: Any) -> Outbox:
        directory = GuildDirectory(network.director)
        await directory.start()
        quick = {"batch_wait_s": 0, "count_wait_s": 0, "first_retry_s": 0.001, "longest_retry_s": 0.001}
        lane = LaneSettings(**(quick | {"spool_after_s": 3_600} | settings))
        chosen = OutboxSettings(lane, writer=WriterSettings(alive_every_s=3_600, retry_s=0.001))
        outboxes.append(Outbox("s", directory, MemorySpool(), clock, chosen))
        await outboxes[-1].start()
        return outboxes[-1]

    yield start_one
    for outbox in outboxes:
        await outbox.stop()


def numbered(*numbers: int, guild_id: int = GUILD) -> list[Event]:
    return [violation(guild_id, number) for number in numbers]


async def flush(outbox: Outbox) -> None:
    await asyncio.wait_for(outbox.flush(), 5)


async def test_events_of_a_host_keep_their_order_one_batch_in_flight(
    network: Network, start: StartOutbox
) -> None:
    """Batches of at most ``batch_events``, numbered 1, 2, 3 …, each sent when the one before is answered."""
    outbox = await start(batch_events=3)
    events = numbered(*range(1, 11))
    for event in events:
        outbox.add(event)
    await flush(outbox)
    assert network.h0.events == events
    assert [batch.number for batch in network.h0.batches] == [1, 2, 3, 4]
    assert {batch.source for batch in network.h0.batches} == {"s>h0"}
    assert max(len(batch.events) for batch in network.h0.batches) == 3
    assert network.h0.most_in_flight == 1


async def test_the_default_batch_holds_500_events(network: Network, start: StartOutbox) -> None:
    """However many wait."""
    outbox = await start()
    for event in numbered(*range(1, 1_202)):
        outbox.add(event)
    await flush(outbox)
    assert [len(batch.events) for batch in network.h0.batches] == [500, 500, 201]
    assert (outbox.stats().sent_events, outbox.stats().sent_batches) == (1_201, 3)


async def test_a_host_that_waits_delays_no_other(network: Network, start: StartOutbox) -> None:
    """Each host has a lane of its own."""
    network.h0.open.clear()
    outbox = await start()
    outbox.add(violation(GUILD))
    outbox.add(violation(OTHER))
    await network.h1.got(1)
    assert outbox.stats().sent_events in (0, 1)
    network.h0.open.set()
    await flush(outbox)


async def test_counts_of_a_guild_and_hour_travel_together(network: Network, start: StartOutbox) -> None:
    """While a batch is in flight, messages add up instead of queueing up."""
    network.h0.open.clear()
    outbox = await start()
    outbox.add(violation(GUILD))
    await network.h0.got(1)
    for ts_ms in (NOON_MS, NOON_MS + 5, NOON_MS + 3_599_999, NOON_MS + 3_600_000):
        outbox.count_message(GUILD, ts_ms)
    assert outbox.stats().waiting_events == 2
    network.h0.open.set()
    await flush(outbox)
    assert network.h0.events[1:] == [
        MessagesCounted(GUILD, NOON_MS, 3),
        MessagesCounted(GUILD, NOON_MS + 3_600_000, 1),
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        [Busy(1), Busy(1)],  # no room, or the database is away
        [HostUnreachable(), HostUnreachable()],  # whether it took the call is not known
        [NotMine(1)],  # the host is not told yet what is its own
        [RuntimeError("a bug over there")],
    ],
)
async def test_a_batch_is_sent_again_as_it_was(
    network: Network, start: StartOutbox, trouble: list[Any]
) -> None:
    """The same number and the same events, so that the host can tell it is the same batch."""
    network.h0.script = list(trouble)
    outbox = await start()
    outbox.add(violation(GUILD))
    await flush(outbox)
    assert len(network.h0.batches) == len(trouble) + 1
    assert all(batch == network.h0.batches[0] for batch in network.h0.batches)
    assert outbox.stats().sent_events == 1


async def test_a_director_that_is_away_ends_no_lane(network: Network, start: StartOutbox) -> None:
    """The placement cannot be refreshed; the batch is kept and sent again."""
    outbox = await start()
    network.h0.script = [NotMine(2), NotMine(2)]
    network.director.error = HostUnreachable()
    outbox.add(violation(GUILD))
    await flush(outbox)
    assert network.director.asked >= 3
    assert network.h0.events[-1] == violation(GUILD)


async def test_a_guild_that_moved_takes_its_events_along(network: Network, start: StartOutbox) -> None:
    """Refused by the old owner, batch, queue and counts reach the new one in order."""
    network.h0.open.clear()
    outbox = await start(batch_events=2)
    events = numbered(1, 2, 3, 4, 5)
    for event in events:
        outbox.add(event)
    outbox.count_message(GUILD, NOON_MS)
    await network.h0.got(1)
    network.director.place(2, "h1")
    network.h0.script = [NotMine(2)]
    network.h0.open.set()
    await flush(outbox)
    assert len(network.h0.batches) == 1
    assert [event for event in network.h1.events if event in events] == events
    assert [event for event in network.h1.events if event not in events] == [
        MessagesCounted(GUILD, NOON_MS, 1)
    ]


async def test_counts_have_room_in_every_batch(network: Network, start: StartOutbox) -> None:
    """A storm of events holds no count up, and the batch stays within its bound."""
    network.h0.open.clear()
    outbox = await start(batch_events=3)
    for event in numbered(1, 2, 3, 4, 5, 6):
        outbox.add(event)
    outbox.count_message(GUILD, NOON_MS)
    network.h0.open.set()
    await flush(outbox)
    assert [len(batch.events) for batch in network.h0.batches] == [3, 3, 1]
    assert network.h0.batches[0].events[2] == MessagesCounted(GUILD, NOON_MS, 1)


async def test_what_stays_is_not_lost_when_its_neighbour_moves(network: Network, start: StartOutbox) -> None:
    """A batch of two guilds, of which one moved: each event reaches its guild's host once."""
    stays = next(g for g in range(1, 1_000) if g != GUILD and OUTBOXES.owner_of(g) == "h0")
    network.h0.open.clear()
    outbox = await start()
    outbox.add(violation(GUILD))
    outbox.add(violation(stays))
    await network.h0.got(1)
    owners = tuple("h0" if slot == slot_of(stays) else "h1" for slot in range(SLOTS))
    network.director.now = network.director.now._replace(placement=Placement(2, owners))
    network.h0.script = [NotMine(2)]
    network.h0.open.set()
    await flush(outbox)
    assert network.h1.events == [violation(GUILD)]
    assert network.h0.batches[1].events == (violation(stays),)


async def test_a_batch_that_no_host_can_read_is_given_up_as_a_gap(
    network: Network, start: StartOutbox, clock: MemoryClock
) -> None:
    """It blocks nothing behind it, and the loss travels with what comes next."""
    network.h0.script = [MalformedBatch()]
    outbox = await start()
    for event in numbered(1, 2, 3):
        outbox.add(event)
    await flush(outbox)
    [later] = numbered(4)
    outbox.add(later)
    await flush(outbox)
    assert [batch.events for batch in network.h0.batches] == [tuple(numbered(1, 2, 3)), (), (later,)]
    assert [gap for batch in network.h0.batches for gap in batch.gaps] == [Gap(clock(), clock(), 3)]
    assert outbox.stats().lost_events == 3


async def test_an_event_that_cannot_be_encoded_is_a_refused_one(network: Network, start: StartOutbox) -> None:
    """Half a character breaks no lane: the events beside it arrive."""
    outbox = await start()
    outbox.add(violation(GUILD, 1, excerpt="\ud800"))
    outbox.add(violation(GUILD, 2))
    await flush(outbox)
    assert network.h0.events == [violation(GUILD, 2)]
    assert outbox.stats().lost_events == 1


async def test_flushing_follows_events_to_their_new_host(network: Network, start: StartOutbox) -> None:
    """It returns when they are acknowledged there, not when the old lane is empty."""
    network.h0.open.clear()
    network.h1.open.clear()
    outbox = await start()
    network.director.place(2, "h1")
    network.h0.script = [NotMine(2)]
    outbox.add(violation(GUILD))
    flushing = asyncio.create_task(outbox.flush())
    await settled()
    network.h0.open.set()
    await network.h1.got(1)
    await settled()
    assert not flushing.done()
    network.h1.open.set()
    await asyncio.wait_for(flushing, 5)


async def test_a_lone_event_does_not_wait_for_counts(network: Network, start: StartOutbox) -> None:
    """Counts wait to gather; a violation beside them goes at once and takes them along."""
    outbox = await start(count_wait_s=3_600)
    outbox.add(violation(GUILD, 1))
    await flush(outbox)
    outbox.count_message(GUILD, NOON_MS)
    await settled()
    assert network.h0.events == [violation(GUILD, 1)]
    outbox.add(violation(GUILD, 2))
    await flush(outbox)
    assert network.h0.events[1:] == [violation(GUILD, 2), MessagesCounted(GUILD, NOON_MS, 1)]


# -- what nobody thought of ---------------------------------------------------------------------


class Broken(Exception):
    """A bug."""


def break_once(owner: Any, name: str, *, after: bool = False, good: int = 0) -> list[Broken]:
    """Let one call of a method raise, before or after it has done its work; return what was raised.

    So many calls are ``good`` before.
    """
    method, raised = getattr(owner, name), []
    good_ones = iter(range(good))

    def trouble() -> Broken:
        setattr(owner, name, method)
        raised.append(Broken(name))
        return raised[0]

    def breaks(*arguments: Any) -> Any:
        if next(good_ones, None) is not None:
            return method(*arguments)
        if after:
            method(*arguments)
        raise trouble()

    async def breaks_later(*arguments: Any) -> Any:
        if after:
            await method(*arguments)
        raise trouble()

    setattr(owner, name, breaks_later if inspect.iscoroutinefunction(method) else breaks)
    return raised


def taken(host: RecordingHost) -> list[Event]:
    """Return the events as a host takes them that knows a batch by its number: each once."""
    batches: dict[int, Batch] = {}
    for batch in host.batches:
        assert batches.setdefault(batch.number, batch) == batch
    return [event for batch in batches.values() for event in batch.events]


@pytest.mark.parametrize(
    ("collaborator", "method", "after"),
    [
        ("_delivery", "send", False),
        ("_delivery", "send", True),
        ("_delivery", "wait_for_credit", False),
        ("waiting", "_encoded", False),
    ],
)
async def test_a_lane_survives_what_nobody_thought_of(
    network: Network, start: StartOutbox, collaborator: str, method: str, after: bool
) -> None:
    """It says so and goes on: what was on its way goes again under its number, and nothing is lost."""
    outbox = await start(batch_events=2)
    lane = outbox._lane("h0")
    broken = break_once(getattr(lane, collaborator), method, after=after)
    with structlog.testing.capture_logs() as logs:
        lane.waiting.add_gaps([Gap(1, 2, 3)])
        for event in numbered(1, 2, 3, 4, 5):
            outbox.add(event)
        outbox.count_message(GUILD, NOON_MS)
        await flush(outbox)
    assert broken
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["task_broke"]
    events = taken(network.h0)
    assert [event for event in events if not isinstance(event, MessagesCounted)] == numbered(1, 2, 3, 4, 5)
    assert events.count(MessagesCounted(GUILD, NOON_MS, 1)) == 1
    assert {batch.number for batch in network.h0.batches if batch.gaps} == {network.h0.batches[0].number}


@pytest.mark.parametrize(
    ("collaborator", "method", "after"),
    [
        ("_writer", "read", False),
        ("_writer", "written", True),
        ("_index", "remove", False),
        ("_delivery", "send", False),
        ("_delivery", "send", True),
    ],
)
async def test_so_does_one_that_spools(
    network: Network, start: StartOutbox, collaborator: str, method: str, after: bool
) -> None:
    """The first batch of the spool goes again, with its number."""
    outbox = await start(batch_events=2, waiting_events=3)
    lane = outbox._lane("h0")
    for event in numbered(1, 2, 3, 4, 5):
        outbox.add(event)
    assert lane.spooling
    broken = break_once(getattr(lane, collaborator), method, after=after)
    with structlog.testing.capture_logs() as logs:
        await flush(outbox)
    assert broken
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["task_broke"]
    assert taken(network.h0) == numbered(1, 2, 3, 4, 5)
    assert not lane.spooling


async def test_a_broken_flight_is_spooled_when_its_time_comes(network: Network, start: StartOutbox) -> None:
    """Under its number, and before what came after it."""
    outbox = await start(batch_events=2, longest_retry_s=0.05)
    lane = outbox._lane("h0")
    break_once(lane._delivery, "send", after=True)
    for event in numbered(1, 2, 3):
        outbox.add(event)
    await network.h0.got(1)
    await settled()
    lane.spool()
    assert outbox.stats().spooled_batches == 2
    await flush(outbox)
    assert [batch.number for batch in network.h0.batches] == [1, 1, 2]
    assert taken(network.h0) == numbered(1, 2, 3)


@pytest.mark.parametrize("good", [0, 1])
async def test_what_could_not_be_handed_over_waits(network: Network, start: StartOutbox, good: int) -> None:
    """A guild moved, and its events find no way on at first: all of them arrive later, in order."""
    outbox = await start(batch_events=2)
    network.h0.open.clear()
    for event in numbered(1, 2, 3, 4, 5):
        outbox.add(event)
    await network.h0.got(1)
    network.director.place(2, "h1")
    network.h0.script = [NotMine(2), NotMine(2)]
    broken = break_once(outbox, "_lane", good=good)
    network.h0.open.set()
    await flush(outbox)
    assert broken
    assert network.h1.events == numbered(1, 2, 3, 4, 5)


async def test_what_was_handed_over_does_not_go_again(network: Network, start: StartOutbox) -> None:
    """Not even when something breaks right after it left the spool."""
    outbox = await start(waiting_events=0)
    network.h0.open.clear()
    outbox.add(violation(GUILD))
    await network.h0.got(1)
    network.director.place(2, "h1")
    network.h0.script = [NotMine(2)]
    broken = break_once(outbox, "moved_away")
    network.h0.open.set()
    await flush(outbox)
    await until(lambda: bool(broken))
    await flush(outbox)
    assert len(network.h0.batches) == 1
    assert network.h1.events == [violation(GUILD)]


async def test_a_lane_that_breaks_again_and_again_pauses(network: Network, start: StartOutbox) -> None:
    """It does not keep the runner busy with breaking."""
    outbox = await start(longest_retry_s=0.03)
    lane, times = outbox._lane("h0"), list[float]()
    loop = asyncio.get_running_loop()

    async def breaks(*_: Any) -> Any:
        times.append(loop.time())
        raise Broken

    send, lane._delivery.send = lane._delivery.send, breaks
    outbox.add(violation(GUILD))
    await until(lambda: len(times) == 3)
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.029
    lane._delivery.send = send
    await flush(outbox)
    assert network.h0.events == [violation(GUILD)]


async def test_a_writer_survives_it_too(network: Network, start: StartOutbox) -> None:
    """Lanes wait for what it writes: it says so, and writes it later."""
    outbox = await start(waiting_events=0)
    broken = break_once(outbox._writer._spool, "write")
    with structlog.testing.capture_logs() as logs:
        network.h0.open.clear()
        outbox.add(violation(GUILD))
        await until(lambda: len(outbox._writer._spool.batches) == 1)
        network.h0.open.set()
        await flush(outbox)
    assert broken
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["spool_broke"]
    assert network.h0.events == [violation(GUILD)]
