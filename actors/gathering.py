"""What waits in memory for one host, and the batches made of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

import structlog

from actors.spool_index import when
from domain.events import Batch, Event, Gap, MessagesCounted, encode_batch

log = structlog.get_logger()

Encoded = tuple[Batch, bytes]


class Gathering:
    """Events in order, counts that add up, and the gaps to tell; makes numbered batches of one source."""

    def __init__(self, source: str, now_ms: Callable[[], int]) -> None:
        self.lost_events = 0
        self._source = source
        self._now_ms = now_ms
        self._number = 0
        self._events: deque[Event] = deque()
        self._counts: dict[tuple[int, int], int] = {}
        self._gaps: list[Gap] = []

    def __len__(self) -> int:
        return len(self._events) + len(self._counts)

    def __bool__(self) -> bool:
        return bool(self._events or self._counts or self._gaps)

    @property
    def events(self) -> int:
        """Events that wait, counts aside."""
        return len(self._events)

    def add(self, event: Event) -> None:
        """Let an event wait."""
        self._events.append(event)

    def count(self, guild_id: int, hour_ms: int) -> None:
        """Count a message."""
        key = (guild_id, hour_ms)
        self._counts[key] = self._counts.get(key, 0) + 1

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

    def take(self, room: int) -> tuple[Event, ...]:
        """Return the next events, counts among them; they wait no more."""
        for_counts = min(1, len(self._counts), room - 1)  # a storm of events must not hold the counts up
        events = [self._events.popleft() for _ in range(min(room - for_counts, len(self._events)))]
        counted = list(self._counts)[: room - len(events)]
        events.extend(
            MessagesCounted(guild, hour, self._counts.pop((guild, hour))) for guild, hour in counted
        )
        return tuple(events)

    def take_all(self) -> tuple[Event, ...]:
        """Return all events and counts; they wait no more."""
        return self.take(len(self) + 1)

    def put_back(self, events: tuple[Event, ...], gaps: tuple[Gap, ...]) -> None:
        """Let what was taken wait again, before everything else."""
        self._events.extendleft(reversed(events))
        self._gaps[:0] = gaps

    def batch(self, events: tuple[Event, ...], gaps: tuple[Gap, ...]) -> Encoded:
        """Make the next batch, encoded; what cannot be encoded is lost, and its gap goes along.

        Whatever else goes wrong, all of it waits again.
        """
        try:
            return self._encoded(events, gaps)
        except Exception:
            self.put_back(events, gaps)
            raise

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
