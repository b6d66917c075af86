"""A shard runner's way to the hosts: one lane a host, one batch in flight in each, in order."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable

import msgspec
import structlog

from actors.routing import GuildDirectory
from domain.errors import MalformedBatch
from domain.events import (
    Accepted,
    Batch,
    Busy,
    Event,
    Gap,
    MessagesCounted,
    NotMine,
    decode_reply,
    encode_batch,
)
from domain.ids import hour_start

log = structlog.get_logger()


class OutboxSettings(msgspec.Struct, frozen=True):
    """When a batch goes, and how much may wait."""

    batch_events: int = 500
    batch_wait_s: float = 0.02
    count_wait_s: float = 0.25
    waiting_events: int = 50_000
    """Bound of one lane. Beyond it the oldest go, and the loss is recorded as a gap."""
    first_retry_s: float = 0.1
    longest_retry_s: float = 5.0


class OutboxStats(msgspec.Struct, frozen=True):
    """What went through an outbox."""

    waiting_events: int
    sent_events: int
    sent_batches: int
    lost_events: int


class Outbox:
    """Takes events at any time, delivers them in order per host, and gives up none while there is room."""

    def __init__(
        self,
        source: str,
        directory: GuildDirectory,
        now_ms: Callable[[], int],
        settings: OutboxSettings | None = None,
    ) -> None:
        self._source = source
        self._directory = directory
        self._now_ms = now_ms
        self._settings = settings or OutboxSettings()
        self._lanes: dict[str, _Lane] = {}

    def add(self, event: Event) -> None:
        """Queue an event for the host that owns its guild. Never waits."""
        self._lane(event.guild_id).add(event)

    def count_message(self, guild_id: int, ts_ms: int) -> None:
        """Count a message; counts of one guild and hour travel together."""
        self._lane(guild_id).count(guild_id, hour_start(ts_ms))

    def stats(self) -> OutboxStats:
        """Return what went through."""
        lanes = list(self._lanes.values())
        return OutboxStats(
            waiting_events=sum(lane.waiting_events for lane in lanes),
            sent_events=sum(lane.sent_events for lane in lanes),
            sent_batches=sum(lane.sent_batches for lane in lanes),
            lost_events=sum(lane.lost_events for lane in lanes),
        )

    async def flush(self) -> None:
        """Return when everything that was added is acknowledged."""
        # Once more, while there is something: a lane that drained may have moved its events to another.
        while waiting := [lane for lane in self._lanes.values() if not lane.drained.is_set()]:
            await asyncio.gather(*(lane.drained.wait() for lane in waiting))

    async def stop(self) -> None:
        """Stop delivering."""
        for lane in self._lanes.values():
            lane.task.cancel()
        await asyncio.gather(*(lane.task for lane in self._lanes.values()), return_exceptions=True)

    def _lane(self, guild_id: int) -> _Lane:
        host_id, _ = self._directory.host_of(guild_id)
        lane = self._lanes.get(host_id)
        if lane is None:
            lane = _Lane(f"{self._source}>{host_id}", host_id, self, self._settings)
            self._lanes[host_id] = lane
        return lane

    async def _deliver(self, lane: _Lane, batch: Batch) -> bool:
        """Send a batch until it is taken; return False when its guilds have moved to another host."""
        payload = encode_batch(batch)
        retry_s = self._settings.first_retry_s
        while True:
            routing = self._directory.routing
            host = routing.hosts.get(lane.host_id)
            if host is None:
                return False
            try:
                reply = decode_reply(await host.ingest(payload))
                if isinstance(reply, NotMine):
                    await self._directory.refresh(routing.placement.version)
            except MalformedBatch:
                raise
            except Exception as error:  # noqa: BLE001 - a lane that ends takes all its events along
                log.warning("host_unreachable", host=lane.host_id, error=repr(error))
                reply = Busy(int(retry_s * 1000))
                retry_s = min(retry_s * 2, self._settings.longest_retry_s)
            match reply:
                case Accepted():
                    return True
                case NotMine():
                    if any(self._directory.host_of(e.guild_id)[0] != lane.host_id for e in batch.events):
                        return False
                    await asyncio.sleep(_jitter(self._settings.first_retry_s))
                case Busy(retry_after_ms=wait_ms):
                    await asyncio.sleep(_jitter(wait_ms / 1000))


class _Lane:
    """The events on their way to one host."""

    def __init__(self, source: str, host_id: str, outbox: Outbox, settings: OutboxSettings) -> None:
        self.host_id = host_id
        self.sent_events = self.sent_batches = self.lost_events = 0
        self.drained = asyncio.Event()
        self.drained.set()
        self._source = source
        self._outbox = outbox
        self._settings = settings
        self._number = 0
        self._events: deque[Event] = deque()
        self._counts: dict[tuple[int, int], int] = {}
        self._gaps: list[Gap] = []
        self._singly = 0
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()
        self._full = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"outbox-{host_id}")

    @property
    def waiting_events(self) -> int:
        return len(self._events) + len(self._counts)

    def add(self, event: Event) -> None:
        if len(self._events) >= self._settings.waiting_events:
            self._events.popleft()
            self._lose(1)
        self._events.append(event)
        self._urgent.set()
        if len(self._events) >= self._settings.batch_events:
            self._full.set()
        self._wake()

    def count(self, guild_id: int, hour_ms: int) -> None:
        key = (guild_id, hour_ms)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._wake()

    def _wake(self) -> None:
        self.drained.clear()
        self._something.set()

    async def _run(self) -> None:
        while True:
            if not (self._events or self._counts or self._gaps):
                self.drained.set()
                for event in (self._something, self._urgent, self._full):
                    event.clear()
                await self._something.wait()
                await self._gather()
            batch = self._next_batch()
            try:
                taken = await self._outbox._deliver(self, batch)  # noqa: SLF001 - one idea, two classes
            except (MalformedBatch, ValueError) as error:  # a text that cannot be encoded is a ValueError
                self._set_aside(batch, error)
                if not batch.events:
                    await asyncio.sleep(self._settings.longest_retry_s)
                continue
            if taken:
                self.sent_events += len(batch.events)
                self.sent_batches += 1
            else:
                self._reroute(batch)

    async def _gather(self) -> None:
        """Give a batch a moment to fill. A full one goes at once; counts alone are in no hurry."""
        if not self._events:
            await _first(self._urgent, self._settings.count_wait_s)
        if self._events and not self._full.is_set():
            await _first(self._full, self._settings.batch_wait_s)
        self._urgent.clear()
        self._full.clear()

    def _next_batch(self) -> Batch:
        self._number += 1
        if self._singly:
            self._singly -= 1
            return Batch(self._source, self._number, (self._events.popleft(),))
        room = self._settings.batch_events
        for_counts = min(1, len(self._counts))  # a storm of events must not hold the counts up
        events = [self._events.popleft() for _ in range(min(room - for_counts, len(self._events)))]
        counted = list(self._counts)[: room - len(events)]
        events.extend(
            MessagesCounted(guild, hour, self._counts.pop((guild, hour))) for guild, hour in counted
        )
        gaps, self._gaps = tuple(self._gaps), []
        return Batch(self._source, self._number, tuple(events), gaps)

    def _set_aside(self, batch: Batch, error: Exception) -> None:
        """Find the event that a host cannot take: send them singly, and give up the one that fails."""
        self._gaps.extend(batch.gaps)
        if not batch.events:
            log.error("gaps_refused", host=self.host_id, gaps=batch.gaps, error=str(error))
            return
        if len(batch.events) > 1:
            self._events.extendleft(reversed(batch.events))
            self._singly = len(batch.events)
            return
        log.error("event_refused", host=self.host_id, events=batch.events, error=str(error))
        self._lose(len(batch.events))

    def _reroute(self, batch: Batch) -> None:
        """Hand everything to the lanes that lead to the guilds' new hosts."""
        events, self._events = [*batch.events, *self._events], deque()
        counts, self._counts = self._counts, {}
        self._gaps.extend(batch.gaps)
        self._singly = 0
        for event in events:
            self._outbox.add(event)
        for (guild_id, hour_ms), count in counts.items():
            self._outbox.add(MessagesCounted(guild_id, hour_ms, count))

    def _lose(self, events: int) -> None:
        """Note a loss in the gap that is open, so that gaps stay few however long it lasts."""
        now_ms = self._outbox._now_ms()  # noqa: SLF001 - one idea, two classes
        self.lost_events += events
        since_ms, lost = now_ms, 0
        if self._gaps:
            last = self._gaps.pop()
            since_ms, lost = last.since_ms, last.lost_events
        self._gaps.append(Gap(since_ms, now_ms, lost + events))


async def _first(event: asyncio.Event, wait_s: float) -> None:
    """Return when the event is set, or after ``wait_s``, whichever comes first."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), wait_s)


def _jitter(wait_s: float) -> float:
    return wait_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads retries, hides nothing
