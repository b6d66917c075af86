"""An outbox and its disk: when events go there and come back, and what becomes of them when it fails."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.delivery import LaneSettings
from actors.outbox import Outbox, OutboxSettings
from actors.routing import GuildDirectory
from actors.spool_index import UNLOADED, SpoolBounds, SpoolIndex
from actors.spool_writer import WriterSettings
from adapters.memory import MemoryClock, MemorySpool
from adapters.memory.samples import NOON_MS
from domain.errors import HostUnreachable
from domain.events import Accepted, Batch, Event, Gap, MemberLeft, NotMine, decode_batch, encode_batch
from domain.placement import place
from domain.ports import SpoolChanges, SpooledBatch
from tests.actors.hosts import Director, RecordingHost, settled, until

OWNERS = place(1, ["h0", "h1"])
GUILD = next(guild for guild in range(1, 100) if OWNERS.owner_of(guild) == "h0")
OTHER = next(guild for guild in range(1, 100) if OWNERS.owner_of(guild) == "h1")
"""Two guilds on two hosts."""


class Disk(MemorySpool):
    """Counts the batches that were ever put on it."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.open_for_writes = asyncio.Event()
        self.open_for_writes.set()

    async def write(self, changes: SpoolChanges) -> None:
        await self.open_for_writes.wait()
        await super().write(changes)
        self.puts += len(changes.put)

    def holds(self) -> list[Event]:
        batches = [self.batches[position][1] for position in sorted(self.batches)]
        return [event for payload in batches for event in decode_batch(payload).events]


class TimedHost(RecordingHost):
    """Notes when each batch came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    async def ingest(self, payload: bytes, sender: Any = None) -> bytes:
        self.times.append(asyncio.get_running_loop().time())
        return await super().ingest(payload, sender)

    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]


class Site:
    """Two hosts, one disk, and one life of an outbox after another."""

    def __init__(self, clock: MemoryClock) -> None:
        self.clock, self.disk = clock, Disk()
        self.h0, self.h1 = TimedHost(), TimedHost()
        self.director = Director({"h0": self.h0, "h1": self.h1})
        self.lives: list[Outbox] = []

    async def live(self, bounds: SpoolBounds | None = None, **lane: Any) -> Outbox:
        directory = GuildDirectory(self.director)
        await directory.start()
        quick = {
            "batch_wait_s": 0,
            "count_wait_s": 0,
            "first_retry_s": 0.001,
            "longest_retry_s": 0.001,
            "spool_after_s": 3_600,
            "spool_wait_s": 0.001,
        }
        chosen = OutboxSettings(
            LaneSettings(**(quick | lane)),
            bounds or SpoolBounds(),
            WriterSettings(alive_every_s=0.002, retry_s=0.001),
        )
        outbox = Outbox(f"life{len(self.lives) + 1}", directory, self.disk, self.clock, chosen)
        self.lives.append(outbox)
        await outbox.start()
        return outbox

    async def kill(self) -> None:
        """Leave of the last life only what is on disk or was taken."""
        outbox = self.lives[-1]
        tasks = [lane.task for lane in outbox._lanes.values()]
        tasks += [outbox._writer.task] if outbox._writer.task else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        outbox._writer._spool = MemorySpool()

    async def written(self) -> None:
        """Return when nothing waits for the disk."""
        index = self.lives[-1]._index
        await until(lambda: not (index.unwritten_bytes or index.changes().removed))


@pytest.fixture
async def site(clock: MemoryClock) -> AsyncIterator[Site]:
    site = Site(clock)
    yield site
    for let_go in (site.h0.open, site.h1.open, site.disk.open_for_writes):
        let_go.set()
    for outbox in site.lives:
        await outbox.stop()


def numbered(*numbers: int) -> list[Event]:
    return [MemberLeft(GUILD, number, NOON_MS + number) for number in numbers]


def add(outbox: Outbox, *numbers: int) -> None:
    for event in numbered(*numbers):
        outbox.add(event)


async def flush(outbox: Outbox) -> None:
    await asyncio.wait_for(outbox.flush(), 5)


def gaps(host: RecordingHost) -> list[Gap]:
    return [gap for batch in host.batches for gap in batch.gaps]


# -- credit -------------------------------------------------------------------------------------


async def test_a_host_without_room_is_left_alone_for_a_while(site: Site) -> None:
    """What it said is old then: the next batch goes, as large as ever."""
    site.h0.script = [Accepted(1, 0)]
    outbox = await site.live(batch_events=3, first_retry_s=0.05)
    add(outbox, *range(1, 6))
    await flush(outbox)
    assert [len(batch.events) for batch in site.h0.batches] == [3, 2]
    assert site.h0.pauses()[0] >= 0.04  # a fifth less, where luck has it
    assert site.h0.events == numbered(*range(1, 6))


async def test_a_batch_is_no_larger_than_the_room_there_is(site: Site) -> None:
    """And nothing waits: there is room for it."""
    site.h0.script = [Accepted(1, 2), Accepted(2, 1)]
    outbox = await site.live(batch_events=3, first_retry_s=3_600)
    add(outbox, *range(1, 8))
    await flush(outbox)
    assert [len(batch.events) for batch in site.h0.batches] == [3, 2, 1, 1]
    assert site.h0.events == numbered(*range(1, 8))


@pytest.mark.parametrize("room", [0, 2])
async def test_a_spooled_batch_waits_for_room_as_it_is(site: Site, room: int) -> None:
    """It cannot be made smaller, so it goes after a while whatever was said."""
    site.h0.script = [Accepted(1, room)]
    outbox = await site.live(batch_events=3, waiting_events=5, first_retry_s=0.05)
    add(outbox, *range(1, 7))
    assert outbox.stats().spooled_batches == 2
    await flush(outbox)
    assert [len(batch.events) for batch in site.h0.batches] == [3, 3]
    assert site.h0.pauses()[0] >= 0.04
    assert site.h0.events == numbered(*range(1, 7))


async def test_a_spooled_batch_for_which_there_is_room_does_not_wait(site: Site) -> None:
    """It goes at once."""
    site.h0.script = [Accepted(1, 3)]
    outbox = await site.live(batch_events=3, waiting_events=5, first_retry_s=3_600)
    add(outbox, *range(1, 7))
    await flush(outbox)
    assert [len(batch.events) for batch in site.h0.batches] == [3, 3]


# -- to the disk and back -----------------------------------------------------------------------


async def test_a_lane_goes_to_disk_and_comes_back(site: Site) -> None:
    """A host that hangs has its batch and all that follows spooled; drained, the lane is direct again."""
    outbox = await site.live(batch_events=3, spool_after_s=0.02)
    add(outbox, 1, 2)
    await flush(outbox)
    assert outbox.stats().spooled_batches == 0
    site.h0.open.clear()
    add(outbox, 3, 4, 5, 6)
    await site.h0.got(2)
    await until(lambda: site.disk.holds() == numbered(3, 4, 5, 6))
    add(outbox, 7, 8)
    await until(lambda: site.disk.holds() == numbered(*range(3, 9)))
    site.h0.open.set()
    add(outbox, 9)
    await flush(outbox)
    await site.written()
    assert site.disk.batches == {}
    add(outbox, 10, 11)
    await flush(outbox)
    assert outbox.stats().spooled_batches == 0
    assert [batch.number for batch in site.h0.batches] == list(range(1, len(site.h0.batches) + 1))
    assert site.h0.events == numbered(*range(1, 12))
    assert gaps(site.h0) == []


async def test_too_much_in_memory_goes_to_disk(site: Site) -> None:
    """However well the host is; behind the batch that is on its way, and is not late yet."""
    site.h0.open.clear()
    outbox = await site.live(batch_events=2, waiting_events=3)
    add(outbox, 1, 2)
    await site.h0.got(1)
    add(outbox, 3, 4, 5)
    await settled()
    assert outbox.stats().spooled_batches == 0
    add(outbox, 6)
    assert outbox.stats().spooled_batches == 2
    assert outbox.stats().waiting_events == 0
    site.h0.open.set()
    await flush(outbox)
    assert [batch.number for batch in site.h0.batches] == [1, 2, 3]
    assert site.h0.events == numbered(*range(1, 7))


async def test_a_batch_that_was_taken_in_time_sends_nothing_to_disk(site: Site) -> None:
    """What comes after it has a time of its own."""
    outbox = await site.live(batch_events=2, batch_wait_s=3_600, spool_after_s=0.02)
    add(outbox, 1, 2)
    await site.h0.got(1)
    await until(lambda: outbox.stats().sent_batches == 1)
    add(outbox, 3)
    site.h1.open.clear()
    outbox.add(MemberLeft(OTHER, 1, NOON_MS))
    outbox.add(MemberLeft(OTHER, 2, NOON_MS))
    await until(lambda: len(site.disk.batches) == 1)  # its time began later, and is over
    await settled()
    assert {batch.lane for batch, _ in site.disk.batches.values()} == {"h1"}
    add(outbox, 4)
    site.h1.open.set()
    await flush(outbox)


async def test_what_left_a_lane_is_sent_when_the_disk_knows(site: Site) -> None:
    """A life that finds it still where it was would send it too."""
    outbox = await site.live(waiting_events=0)
    site.h0.open.clear()
    add(outbox, 1)
    await site.h0.got(1)
    await site.written()
    site.director.place(2, "h1")
    site.h0.script = [NotMine(2)]
    site.disk.open_for_writes.clear()
    site.h0.open.set()
    await until(lambda: outbox._index.holds("h1"))
    await settled()
    assert site.h1.batches == []
    assert {batch.lane for batch, _ in site.disk.batches.values()} == {"h0"}
    site.disk.open_for_writes.set()
    await flush(outbox)
    assert site.h1.events == numbered(1)


# -- a disk that takes nothing ------------------------------------------------------------------


async def test_a_disk_that_fills_up_costs_what_the_bound_says_and_heals(site: Site) -> None:
    """Memory stays bounded, each event that had to go is told, and once there is room all is on disk."""
    bounds = SpoolBounds(bytes_unwritten=2_000)
    site.h0.script = [HostUnreachable()] * 1_000_000
    outbox = await site.live(bounds, batch_events=5, spool_after_s=0)
    add(outbox, *range(1, 6))
    await until(lambda: len(site.disk.batches) == 1)
    site.disk.available = False
    for first in range(6, 1_006, 5):
        add(outbox, *range(first, first + 5))
        assert outbox._index.unwritten_bytes <= 2_000
    lost = outbox.stats().lost_events
    assert 0 < lost < 1_000
    assert len(site.disk.batches) == 1
    site.disk.available = True
    await site.written()
    assert len(site.disk.batches) == outbox.stats().spooled_batches
    add(outbox, *range(1_006, 1_011))
    await until(lambda: numbered(1_010)[0] in site.disk.holds())
    assert outbox.stats().lost_events == lost
    site.h0.script.clear()
    await flush(outbox)
    batches = {batch.number: batch for batch in site.h0.batches}
    events = [event for _, batch in sorted(batches.items()) for event in batch.events]
    missing = {event.ts_ms for event in numbered(*range(1, 1_011))} - {event.ts_ms for event in events}  # type: ignore[union-attr]
    assert sorted(events, key=lambda event: event.ts_ms) == events  # type: ignore[union-attr]
    [gap] = [gap for batch in batches.values() for gap in batch.gaps]
    assert gap == Gap(min(missing), max(missing), lost, "overflow")
    assert len(missing) == lost


def test_what_is_given_up_includes_what_a_batch_had_lost_before(clock: MemoryClock) -> None:
    """The batch's place and number stay, with a gap for all of it; the first one is never given up."""
    index = SpoolIndex(SpoolBounds(bytes_in_all=250), clock)
    first, second = Batch("s", 1, tuple(numbered(1))), Batch("s", 2, tuple(numbered(5, 6)), (Gap(1, 2, 3),))
    index.append("h0", first, encode_batch(first))
    position = index.append("h0", second, encode_batch(second))
    big = Batch("s", 3, tuple(numbered(*range(10, 40))))
    index.append("h1", big, encode_batch(big))
    by_position = sorted(index.changes().put, key=lambda item: item[0].position)
    kept, gap, other = [decode_batch(payload) for _, payload in by_position]
    assert (kept, other) == (first, big)
    assert gap == Batch("s", 2, (), (Gap(1, NOON_MS + 6, 5, "overflow"),))
    assert index.next("h0", 1) == index.get(position)
    assert index.lost_events == 2


def test_gaps_in_a_row_become_one_but_not_with_the_first(clock: MemoryClock) -> None:
    """The first one may be on its way as it is."""
    index = SpoolIndex(SpoolBounds(bytes_in_all=1), clock)
    told = Batch("s", 1, (), (Gap(1, 2, 1),))
    for batch in (told, *(Batch("s", number, tuple(numbered(number))) for number in (2, 3, 4))):
        index.append("h0", batch, encode_batch(batch))
    by_position = sorted(index.changes().put, key=lambda item: item[0].position)
    gap = Gap(NOON_MS + 2, NOON_MS + 4, 3)
    assert [decode_batch(payload) for _, payload in by_position] == [told, Batch("s", 2, (), (gap,))]


# -- a disk that is not there at the start ------------------------------------------------------


async def test_a_disk_that_comes_later_takes_what_is_in_memory(site: Site) -> None:
    """In order, and for good: a kill after that costs nothing."""
    site.disk.available = False
    site.h0.open.clear()
    outbox = await site.live(batch_events=2, waiting_events=1)
    add(outbox, *range(1, 6))
    await settled()
    site.disk.available = True
    await site.written()
    add(outbox, 6, 7)
    await until(lambda: site.disk.holds() == numbered(*range(1, 8)))
    await site.kill()
    site.h0.batches.clear()
    site.h0.open.set()
    await flush(await site.live())
    assert site.h0.events == numbered(*range(1, 8))


async def test_what_an_earlier_life_left_there_waits_for_the_next(site: Site) -> None:
    """It is older than what this one has told already; nothing of it is overwritten."""
    site.h0.open.clear()
    add(await site.live(batch_events=1, waiting_events=0), 1, 2)
    await site.written()
    await site.kill()
    site.disk.available = False
    outbox = await site.live(batch_events=1, waiting_events=0)
    add(outbox, 3, 4, 5)
    site.disk.available = True
    await site.written()
    assert site.disk.holds() == numbered(1, 2, 3, 4, 5)
    site.h0.open.set()
    await flush(outbox)
    await site.written()
    assert site.disk.holds() == numbered(1, 2)
    add(outbox, 6)
    await flush(outbox)
    await site.kill()
    site.h0.batches.clear()
    outbox = await site.live(batch_events=1)
    add(outbox, 7)
    await flush(outbox)
    assert site.h0.events == numbered(1, 2, 7)


async def test_two_lives_without_a_disk_at_the_start_do_not_meet_there(site: Site) -> None:
    """The later one's batches are behind those of the earlier one."""
    site.h0.open.clear()
    for first in (1, 4):
        site.disk.available = False
        outbox = await site.live(batch_events=1, waiting_events=0)
        add(outbox, first, first + 1, first + 2)
        site.disk.available = True
        await site.written()
        await site.kill()
        site.clock.advance(1)
    assert site.disk.holds() == numbered(*range(1, 7))
    site.h0.batches.clear()
    site.h0.open.set()
    await flush(await site.live())
    assert site.h0.events == numbered(*range(1, 7))


@pytest.mark.parametrize("listens_first", [True, False])
async def test_the_blind_time_is_told_when_the_disk_says_when_it_began(
    site: Site, listens_first: bool
) -> None:
    """Once; it ends where this life began to listen, not where the disk came."""
    site.disk.alive_ms = NOON_MS - 60_000
    site.disk.available = False
    outbox = await site.live()

    async def disk_comes() -> None:
        site.disk.available = True
        await until(lambda: outbox._writer._opened)
        site.clock.advance(5_000)

    if not listens_first:
        await disk_comes()
        began_ms = site.clock()
    else:
        began_ms = site.clock()
    outbox.listening()
    if listens_first:
        site.clock.advance(5_000)
        await settled()
        assert site.disk.alive_ms == NOON_MS - 60_000
        await disk_comes()
    await until(lambda: site.disk.alive_ms == site.clock())
    await flush(outbox)
    assert gaps(site.h0) + gaps(site.h1) == [Gap(NOON_MS - 60_000, began_ms, 0, "blind")]


async def test_a_first_life_without_a_disk_at_the_start_missed_nothing(site: Site) -> None:
    """There was nobody before it."""
    site.disk.available = False
    outbox = await site.live()
    outbox.listening()
    site.disk.available = True
    await until(lambda: site.disk.alive_ms == NOON_MS)
    await flush(outbox)
    assert site.h0.batches == site.h1.batches == []


async def test_what_another_life_may_have_sent_is_not_moved_unasked(site: Site) -> None:
    """The first one of a life that began without the disk stands behind others: its host is asked first."""
    late = UNLOADED + 1
    for number, (position, source) in enumerate([(1, "a"), (2, "b"), (late, "c"), (late + 1, "c")], 1):
        batch = Batch(source, number, tuple(numbered(number)))
        payload = encode_batch(batch)
        known = SpooledBatch(position, "h0", source, number, 1, 0, NOON_MS, NOON_MS, len(payload))
        site.disk.batches[position] = known, payload
    site.director.place(2, "h1")
    site.h0.script = [NotMine(2), Accepted(3, 1_000), NotMine(2)]  # it has c's first one
    await flush(await site.live())
    assert [batch.number for batch in site.h0.batches] == [1, 3, 4]
    assert site.h1.events == numbered(1, 2, 4)
