"""One lane: the events on their way to one host, each batch through the spool, in order."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

import structlog

from actors.coverage import Mark
from actors.delivery import Delivery, LaneSettings, Outcome
from actors.departure import Departure, Neighbours
from actors.gathering import Gathering, Item
from actors.routing import GuildDirectory
from actors.sender_fence import SenderFence
from actors.spool_writer import SpoolWriter, decoded
from domain.events import Batch, Event, Gap
from domain.ports import SpooledBatch
from tasks import SupervisedTasks

log = structlog.get_logger()


class _Flight(NamedTuple):
    """A batch on its way, and its place in the spool."""

    batch: Batch
    payload: bytes
    position: int


class Lane:
    """Delivers to one host, one batch in flight at a time.

    Every batch is on disk before it is sent, so that a later life sends the same one, under the same number,
    and its host knows whether it has it. *Direct* while the host takes what comes: a batch is made of what
    waits in memory. *Spooling* once the host is away or too much waits: everything behind the batch in flight
    goes to the spool too, and only its first batch is ever sent. An empty spool makes the lane direct again.
    """

    def __init__(
        self,
        host_id: str,
        waiting: Gathering,
        *,
        directory: GuildDirectory,
        writer: SpoolWriter,
        neighbours: Neighbours,
        settings: LaneSettings,
        tasks: SupervisedTasks,
        fence: SenderFence,
    ) -> None:
        self.host_id = host_id
        self.waiting = waiting
        self.sent_events = self.sent_batches = 0
        self.drained = asyncio.Event()
        """Set while everything is acknowledged."""
        self._delivery = Delivery(host_id, directory, settings, fence)
        self._fence = fence
        self._departure = Departure(
            host_id,
            directory=directory,
            writer=writer,
            neighbours=neighbours,
            spool_waiting=self.spool,
        )
        self._writer = writer
        self._index = writer.index
        self._settings = settings
        self._direct = 0
        """The position of the batch that was made of what waited, and is on its way."""
        self._away = not fence.may_send
        self._spool_timer: asyncio.TimerHandle | None = None
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()
        self._full = asyncio.Event()
        if not self.spooling:
            self.drained.set()
        self.task = tasks.keep(f"lane to {host_id}", self._run)

    @property
    def spooling(self) -> bool:
        """Whether what comes goes to the spool."""
        return self._away or self._index.next(self.host_id, self._direct) is not None

    @property
    def spooled(self) -> SpooledBatch | None:
        """The first batch that is late; one that is merely on its way is not."""
        return self._index.next(self.host_id, 0 if self._away else self._direct)

    @property
    def on_its_way(self) -> SpooledBatch | None:
        """The batch that is on its way and not late."""
        return self._index.get(self._direct) if self._direct and not self._away else None

    async def stop(self) -> None:
        """Stop delivering, and spool what no host has taken."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self._spool_timer is not None:
            self._spool_timer.cancel()
        self.spool()

    # -- what comes in ----------------------------------------------------------------------------

    def add(self, event: Event, mark: Mark | None = None) -> None:
        """Queue an event."""
        self.waiting.add(event, mark)
        self._urgent.set()
        if self.waiting.events >= self._settings.batch_events:
            self._full.set()
        self._came()

    def count(self, guild_id: int, hour_ms: int, mark: Mark | None = None, ts_ms: int = 0) -> None:
        """Count a message."""
        self.waiting.count(guild_id, hour_ms, mark, ts_ms)
        self._came()

    def take_over(self, events: list[Event]) -> None:
        """Spool events that were in another lane's spool, behind everything that is here already."""
        self.spool()
        for start in range(0, len(events), self._settings.batch_events):
            self._append(tuple(map(Item, events[start : start + self._settings.batch_events])), ())
        self._wake()

    def report(self, gap: Gap) -> None:
        """Have a gap delivered once, whatever happens to this process."""
        self.spool()
        self._append((), (gap,))
        self._wake()

    def spool(self) -> None:
        """Put everything that waits into the spool, in order, behind the batch in flight."""
        if gaps := self.waiting.take_gaps():
            self._append((), gaps)
        while self.waiting:
            # A loss that is only found now goes along with the batch it was in.
            self._append(self.waiting.take(self._settings.batch_events), ())
        self._writer.wake()

    def _came(self) -> None:
        if not self.spooling:
            if len(self.waiting) > self._settings.waiting_events:
                self.spool()
        elif self.waiting.events >= self._settings.batch_events:
            self.spool()
        elif self._spool_timer is None:
            loop = asyncio.get_running_loop()
            self._spool_timer = loop.call_later(self._settings.spool_wait_s, self._spool_gathered)
        self._wake()

    def _wake(self) -> None:
        self.drained.clear()
        self._something.set()

    def _spool_gathered(self) -> None:
        self._spool_timer = None
        if self.spooling:
            self.spool()

    def _append(self, items: tuple[Item, ...], gaps: tuple[Gap, ...]) -> _Flight:
        batch, payload = self.waiting.batch(items, gaps)
        return _Flight(batch, payload, self._index.append(self.host_id, batch, payload))

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        await self._fence.until_open()
        self._away = False
        while True:
            await self._step()

    async def _step(self) -> None:
        if self.spooling:
            await self._drain()
        elif self.waiting:
            await self._send_directly()
        else:
            self.drained.set()
            for event in (self._something, self._urgent, self._full):
                event.clear()
            await self._something.wait()
            if not self.spooling:
                await self._gather()

    async def _gather(self) -> None:
        """Give a batch a moment to fill. A full one goes at once; counts alone are in no hurry."""
        if not self.waiting.events:
            await _first(self._urgent, self._settings.count_wait_s)
        if self.waiting.events and not self._full.is_set():
            await _first(self._full, self._settings.batch_wait_s)
        self._urgent.clear()
        self._full.clear()

    async def _send_directly(self) -> None:
        await self._delivery.wait_for_credit(1)
        if self.spooling:
            return
        room = min(self._settings.batch_events, self._delivery.credit or self._settings.batch_events)
        gaps = self.waiting.take_gaps()
        flight = self._append(self.waiting.take(room), gaps)
        self._direct = flight.position
        # One that takes too long makes everything behind it go to the spool.
        away = asyncio.get_running_loop().call_later(self._settings.spool_after_s, self._is_away)
        try:
            await self._writer.written()
            await self._settle(flight)
        finally:
            away.cancel()
            self._direct, self._away = 0, False

    def _is_away(self) -> None:
        self._away = True
        self.spool()

    async def _drain(self) -> None:
        """Deliver the first batch of the spool."""
        first = self._index.next(self.host_id)
        if first is None:
            return
        payload = await self._writer.read(first.position)
        batch = decoded(payload)
        if payload is None or batch is None:
            log.error("spooled_batch_lost", host=self.host_id, source=first.source, number=first.number)
            self._index.give_up(first.position)
            self._writer.wake()
            return
        if self._index.unwritten(first.position) is not None:
            # It may have left another lane. A later life that found it there still would send it once more.
            await self._writer.written()
        await self._delivery.wait_for_credit(len(batch.events))
        await self._settle(_Flight(batch, payload, first.position))

    async def _settle(self, flight: _Flight) -> None:
        """Bring a batch to its end: taken, moved, or refused."""
        outcome = await self._delivery.send(flight.batch, flight.payload)
        if outcome is Outcome.TAKEN:
            self.sent_events += len(flight.batch.events)
            self.sent_batches += 1
            await self._finish(flight)
        elif outcome is Outcome.REFUSED:
            await self._give_up(flight)
        else:
            await self._departure.from_spool(flight.batch.source)

    async def _finish(self, flight: _Flight) -> None:
        # Not waited for when direct: a later life that finds it still sends it again, and is told that it is
        # taken. It goes with the next write.
        self._index.remove(flight.position)
        if flight.position != self._direct:
            await self._writer.written()

    async def _give_up(self, flight: _Flight) -> None:
        """Give up a batch that a host cannot even read, and tell the loss.

        Single events that cannot be taken are no reason: a host sets those aside by itself.
        """
        batch = flight.batch
        log.error("batch_given_up", host=self.host_id, source=batch.source, number=batch.number)
        # Gaps that are refused by themselves go nowhere: to tell them again would never end.
        gaps = (*batch.gaps, self.waiting.lose(list(batch.events))) if batch.events else ()
        if gaps:
            self._index.rewrite(flight.position, Batch(batch.source, batch.number, (), gaps))
            await self._writer.written()
        else:
            await self._finish(flight)


async def _first(event: asyncio.Event, wait_s: float) -> None:
    """Return when the event is set, or after ``wait_s``, whichever comes first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):  # wait_for may swallow a cancellation
            await event.wait()
