"""One lane: the events on their way to one host, in memory or through the spool, in order."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from actors.delivery import Delivery, LaneSettings, Outcome
from actors.departure import Departure, Neighbours
from actors.gathering import Gathering
from actors.routing import GuildDirectory
from actors.spool_writer import SpoolWriter, decoded
from domain.events import Batch, Event, Gap

log = structlog.get_logger()


class _Flight:
    """A batch on its way, which may get a place in the spool meanwhile."""

    def __init__(self, batch: Batch, payload: bytes, position: int | None = None) -> None:
        self.batch = batch
        self.payload = payload
        self.position = position


class Lane:
    """Delivers to one host, one batch in flight at a time.

    *Direct* while the host takes what comes: a batch is made of what waits in memory, and sent until it is
    taken. *Spooling* once the host is away or too much waits: the batch in flight and everything behind it
    go to the spool, and only its first batch is ever sent. An empty spool makes the lane direct again.
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
    ) -> None:
        self.host_id = host_id
        self.waiting = waiting
        self.sent_events = self.sent_batches = 0
        self.drained = asyncio.Event()
        """Set while everything is acknowledged."""
        self._delivery = Delivery(host_id, directory, settings)
        self._departure = Departure(
            host_id,
            waiting,
            directory=directory,
            writer=writer,
            neighbours=neighbours,
            spool_waiting=self._spool_waiting,
        )
        self._writer = writer
        self._index = writer.index
        self._settings = settings
        self._flight: _Flight | None = None
        self._spool_timer: asyncio.TimerHandle | None = None
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()
        self._full = asyncio.Event()
        if not self.spooling:
            self.drained.set()
        self.task = asyncio.create_task(self._run(), name=f"lane-{host_id}")

    @property
    def spooling(self) -> bool:
        """Whether what comes goes to the spool."""
        return self._index.holds(self.host_id)

    async def stop(self) -> None:
        """Stop delivering, and spool what no host has taken."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if self._spool_timer is not None:
            self._spool_timer.cancel()
        self.spool()

    # -- what comes in ----------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Queue an event."""
        self.waiting.add(event)
        self._urgent.set()
        if self.waiting.events >= self._settings.batch_events:
            self._full.set()
        self._came()

    def count(self, guild_id: int, hour_ms: int) -> None:
        """Count a message."""
        self.waiting.count(guild_id, hour_ms)
        self._came()

    def take_over(self, events: list[Event]) -> None:
        """Spool events that were in another lane's spool, behind everything that is here already."""
        self.spool()
        for start in range(0, len(events), self._settings.batch_events):
            self._append(tuple(events[start : start + self._settings.batch_events]), ())
        self._wake()

    def report(self, gap: Gap) -> None:
        """Have a gap delivered once, whatever happens to this process: it goes through the spool."""
        self.spool()
        self._append((), (gap,))
        self._wake()

    def spool(self) -> None:
        """Put the batch in flight and everything that waits into the spool, in order."""
        flight = self._flight
        if flight is not None and flight.position is None:
            flight.position = self._index.append(self.host_id, flight.batch, flight.payload)
        self._spool_waiting()

    def _came(self) -> None:
        if not self.spooling:
            if len(self.waiting) > self._settings.waiting_events:
                self.spool()
        elif self.waiting.events >= self._settings.batch_events:
            self._spool_waiting()
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
            self._spool_waiting()

    def _spool_waiting(self) -> None:
        if gaps := self.waiting.take_gaps():
            self._append((), gaps)
        while self.waiting:
            # A loss that is only found now goes along with the batch it was in.
            self._append(self.waiting.take(self._settings.batch_events), ())
        self._writer.wake()

    def _append(self, events: tuple[Event, ...], gaps: tuple[Gap, ...]) -> None:
        batch, payload = self.waiting.batch(events, gaps)
        self._index.append(self.host_id, batch, payload)

    # -- the loop ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            try:
                await self._step()
            except Exception:
                # A lane that ended would take all its events along, and nobody would hear of it.
                log.exception("lane_broke", host=self.host_id)
                await asyncio.sleep(self._settings.longest_retry_s)

    async def _step(self) -> None:
        if self._flight is not None and self._flight.position is None:
            await self._fly(self._flight)  # once more: something broke
        elif self.spooling:
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
        self._flight = _Flight(*self.waiting.batch(self.waiting.take(room), gaps))
        await self._fly(self._flight)

    async def _fly(self, flight: _Flight) -> None:
        """Deliver a batch that is not spooled; one that takes too long is, and everything behind it."""
        away = asyncio.get_running_loop().call_later(self._settings.spool_after_s, self.spool)
        try:
            await self._settle(flight)
        finally:
            away.cancel()
        self._flight = None

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
        self._flight = _Flight(batch, payload, first.position)
        await self._settle(self._flight)
        self._flight = None

    async def _settle(self, flight: _Flight) -> None:
        """Bring a batch to its end: taken, moved, or refused."""
        outcome = await self._delivery.send(flight.batch, flight.payload)
        if outcome is Outcome.TAKEN:
            self.sent_events += len(flight.batch.events)
            self.sent_batches += 1
            await self._finish(flight)
        elif outcome is Outcome.REFUSED:
            await self._give_up(flight)
        elif flight.position is None:
            self._flight = None
            self._departure.from_memory(flight.batch)
        else:
            await self._departure.from_spool(flight.batch.source)

    async def _finish(self, flight: _Flight) -> None:
        self._flight = None
        if flight.position is not None:
            self._index.remove(flight.position)
            # Only then the next one: of all that a later life finds, no more than the first was ever sent.
            await self._writer.written()

    async def _give_up(self, flight: _Flight) -> None:
        """Give up a batch that a host cannot even read, and tell the loss.

        Single events that cannot be taken are no reason: a host sets those aside by itself.
        """
        batch = flight.batch
        log.error("batch_given_up", host=self.host_id, source=batch.source, number=batch.number)
        # Gaps that are refused by themselves go nowhere: to tell them again would never end.
        gaps = (*batch.gaps, self.waiting.lose(list(batch.events))) if batch.events else ()
        if flight.position is None:
            self._flight = None
            self.waiting.add_gaps(gaps)
        elif gaps:
            self._index.rewrite(flight.position, Batch(batch.source, batch.number, (), gaps))
            await self._writer.written()
        else:
            await self._finish(flight)


async def _first(event: asyncio.Event, wait_s: float) -> None:
    """Return when the event is set, or after ``wait_s``, whichever comes first."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):  # wait_for may swallow a cancellation
            await event.wait()
