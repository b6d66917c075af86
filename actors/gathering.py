"""What waits in memory for one host, and the batches made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from actors.coverage import Coverage, Mark
from actors.spool_index import when
from domain.events import Batch, Event, Gap, MessagesCounted, encode_batch

log = structlog.get_logger()

Encoded = tuple[Batch, bytes]


class Item(NamedTuple):
    """An event that waits, and the gateway's events that it tells of."""

    event: Event
    marks: tuple[Mark, ...] = ()


class Gathering:
    """Events in order, counts that add up, and the gaps to tell; makes numbered batches of one source."""

    def __init__(self, source: str, now_ms: Callable[[], int], coverage: Coverage | None = None) -> None:
        self.lost_events = 0
        self._source = source
        self._now_ms = now_ms
        self._coverage = coverage or Coverage()
        self._number = 0
        self._items: deque[Item] = deque()
        self._counts: dict[tuple[int, int], tuple[int, list[Mark]]] = {}
        self._gaps: list[Gap] = []

    def __len__(self) -> int:
        return len(self._items) + len(self._counts)

    def __bool__(self) -> bool:
        return bool(self._items or self._counts or self._gaps)

    @property
    def events(self) -> int:
        """Events that wait, counts aside."""
        return len(self._items)

    def add(self, event: Event, mark: Mark | None = None) -> None:
        """Let an event wait."""
        if mark is not None:
            self._coverage.waits(mark, when(event, self._now_ms()))
        self._items.append(Item(event, () if mark is None else (mark,)))

    def count(self, guild_id: int, hour_ms: int, mark: Mark | None = None, ts_ms: int = 0) -> None:
        """Count a message."""
        key = (guild_id, hour_ms)
        count, marks = self._counts.get(key, (0, []))
        if mark is not None:
            self._coverage.waits(mark, ts_ms)
            marks.append(mark)
        self._counts[key] = (count + 1, marks)

    def add_gaps(self, gaps: Iterable[Gap]) -> None:
        """Let gaps wait: one for all losses, so that they stay few; blind times as they are."""
        every = [*self._gaps, *gaps]
        losses = [gap for gap in every if gap.lost_events]
        self._gaps = [gap for gap in every if not gap.lost_events]
        if losses:
            first, last = min(gap.since_ms for gap in losses), max(gap.until_ms for gap in losses)
            self._gaps.append(Gap(first, last, sum(gap.lost_events for gap in losses)))

    def take_gaps(self) -> tuple[Gap, ...]:
        """Return the gaps that wait; they do no more."""
        gaps, self._gaps = tuple(self._gaps), []
        return gaps

    def take(self, room: int) -> tuple[Item, ...]:
        """Return the next events, counts among them; they wait no more. All counts of a guild go together."""
        for_counts = min(1, len(self._counts), room - 1)  # a storm of events must not hold the counts up
        items = [self._items.popleft() for _ in range(min(room - for_counts, len(self._items)))]
        for guild_id in {guild for guild, _ in list(self._counts)[: room - len(items)]}:
            for key in [key for key in self._counts if key[0] == guild_id]:
                count, marks = self._counts.pop(key)
                items.append(Item(MessagesCounted(*key, count), tuple(marks)))
        return tuple(items)

    def batch(self, items: tuple[Item, ...], gaps: tuple[Gap, ...]) -> Encoded:
        """Make the next batch, encoded; what cannot be encoded is lost, and its gap goes along.

        It is to be in the spool before anything else happens. If something goes wrong, all of it waits again.
        """
        try:
            encoded = self._encoded(tuple(item.event for item in items), gaps)
        except Exception:
            self._items.extendleft(reversed(items))
            self._gaps[:0] = gaps
            raise
        for event, marks in items:
            for mark in marks:
                self._coverage.is_batched(event.guild_id, mark)
        return encoded

    def _encoded(self, events: tuple[Event, ...], gaps: tuple[Gap, ...]) -> Encoded:
        self._number += 1
        batch = Batch(self._source, self._number, events, gaps)
        try:
            return batch, encode_batch(batch)
        except (ValueError, OverflowError) as error:  # half a character, a number beyond 64 bits
            lost = [event for event in events if not _can_be_encoded(event)]
            if not lost:
                raise
            log.error("event_refused", source=self._source, events=lost, error=str(error))  # noqa: TRY400
            kept = tuple(event for event in events if event not in lost)
            batch = Batch(self._source, self._number, kept, (*gaps, self.lose(lost)))
            return batch, encode_batch(batch)

    def lose(self, events: list[Event]) -> Gap:
        """Return the gap that these events leave."""
        self.lost_events += len(events)
        times = [when(event, self._now_ms()) for event in events]
        return Gap(min(times), max(times), len(events))


def _can_be_encoded(event: Event) -> bool:
    try:
        encode_batch(Batch("", 0, (event,)))
    except (ValueError, OverflowError):
        return False
    return True
