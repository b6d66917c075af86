"""What is in a spool, in order, and what has to change there: all but the bytes that are written already."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from domain.events import Batch, Event, Gap, encode_batch
from domain.ports import SpoolChanges, SpoolContents, SpooledBatch


class SpoolBounds(msgspec.Struct, frozen=True):
    """How much may be spooled. Beyond it the oldest batches go, and gaps take their places."""

    bytes_in_all: int = 256 << 20
    bytes_unwritten: int = 16 << 20
    """What may wait in memory for a disk that is slow, or full, or gone."""


UNLOADED = 1 << 40
"""From here on positions are given by a life that began without its spool, or by one after it."""

OPEN_END = 1 << 62
"""Behind all positions."""


class SpoolIndex:
    """Decides on the contents of a spool; does no I/O.

    The first batch of a lane may be on its way to its host, or taken already by a host whose answer was
    lost: it is never given up, so that a gap says exactly what is missing. Batches behind it were never
    sent, which is why a gap may take the place and the number of one. Only where a life began without its
    spool, its own first one may stand behind those of another.
    """

    def __init__(self, bounds: SpoolBounds, now_ms: Callable[[], int]) -> None:
        self._bounds = bounds
        self._now_ms = now_ms
        self._batches: dict[int, SpooledBatch] = {}
        self._lanes: dict[str, list[int]] = {}
        self._unwritten: dict[int, bytes] = {}
        self._removed: set[int] = set()
        self.last_position = self.superseded_until = 0
        self.bytes = self.unwritten_bytes = self.lost_events = 0

    def load(self, contents: SpoolContents) -> None:
        """Begin with what an earlier life left."""
        for batch in contents.batches:
            self._batches[batch.position] = batch
            self._lanes.setdefault(batch.lane, []).append(batch.position)
            self.last_position = batch.position
            self.bytes += batch.size
        self._keep_bounds()

    def superseded(self, until: int) -> None:
        """Note up to which position what is only counted is to be left out; later batches lie behind it.

        ``OPEN_END`` as an earlier life left it: up to the last of its batches.
        """
        until = self.last_position if until == OPEN_END else until
        self.superseded_until = until if self.first_position <= until else 0
        self.last_position = max(self.last_position, until)

    def begin_unloaded(self) -> None:
        """Begin behind whatever a spool can hold that cannot be opened: what is here is for a later life.

        No life puts a million batches a millisecond: each that begins like this begins behind the others.
        """
        self.last_position = max(UNLOADED, self._now_ms() << 20)

    # -- asking -----------------------------------------------------------------------------------

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that have something spooled."""
        return tuple(self._lanes)

    @property
    def batches(self) -> int:
        """How many batches are spooled."""
        return len(self._batches)

    @property
    def first_position(self) -> float:
        """The position of the oldest batch; infinite when there is none."""
        return min((positions[0] for positions in self._lanes.values()), default=float("inf"))

    def holds(self, lane: str) -> bool:
        """Whether a lane has something spooled."""
        return lane in self._lanes

    def next(self, lane: str, after: int = 0) -> SpooledBatch | None:
        """Return a lane's first batch behind a position."""
        positions = self._lanes.get(lane, [])
        at = bisect_right(positions, after)
        return self._batches[positions[at]] if at < len(positions) else None

    def get(self, position: int) -> SpooledBatch | None:
        """Return the batch at a position, if it is there still."""
        return self._batches.get(position)

    def unwritten(self, position: int) -> bytes | None:
        """Return a batch's bytes if they are not known to be on disk."""
        return self._unwritten.get(position)

    def changes(self) -> SpoolChanges:
        """Return what is to be written; say so with ``wrote`` once it is."""
        put = tuple((self._batches[position], payload) for position, payload in self._unwritten.items())
        return SpoolChanges(put, tuple(self._removed))

    def wrote(self, changes: SpoolChanges) -> None:
        """Forget what is on disk now; what changed meanwhile stays to be written."""
        self._removed.difference_update(changes.removed)
        for batch, payload in changes.put:
            if self._unwritten.get(batch.position) is payload:
                self.unwritten_bytes -= len(self._unwritten.pop(batch.position))

    # -- changing ---------------------------------------------------------------------------------

    def append(self, lane: str, batch: Batch, payload: bytes) -> int:
        """Put a batch behind all others of its lane; return its position."""
        self.last_position += 1
        position = self.last_position
        self._lanes.setdefault(lane, []).append(position)
        self._put(position, lane, batch, payload)
        self._keep_bounds()
        return position

    def rewrite(self, position: int, batch: Batch) -> None:
        """Put another batch in the place of one that no host took."""
        self._put(position, self._batches[position].lane, batch, encode_batch(batch))

    def remove(self, position: int) -> None:
        """Take a batch out."""
        batch = self._batches.pop(position)
        self._forget_bytes(batch)
        self._removed.add(position)
        positions = self._lanes[batch.lane]
        del positions[bisect_left(positions, position)]
        if not positions:
            del self._lanes[batch.lane]

    def give_up(self, position: int) -> None:
        """Leave nothing of a batch but the gap that says so: one gap for all that go in a row."""
        batch = self._batches[position]
        self.lost_events += batch.events
        lost = batch.events + batch.lost_events
        gap = Gap(batch.since_ms, batch.until_ms, lost, "overflow" if lost else "blind")
        before = self._gap_before(batch)
        if before is None:
            self.rewrite(position, Batch(batch.source, batch.number, (), (gap,)))
            return
        self.remove(position)
        whole = Gap(
            min(before.since_ms, gap.since_ms),
            max(before.until_ms, gap.until_ms),
            before.lost_events + gap.lost_events,
        )
        self.rewrite(before.position, Batch(before.source, before.number, (), (whole,)))

    def _gap_before(self, batch: SpooledBatch) -> SpooledBatch | None:
        positions = self._lanes[batch.lane]
        at = bisect_left(positions, batch.position) - 1
        before = self._batches[positions[at]] if at > 0 else None  # the first may be on its way
        return before if before and before.lost_events and not before.events else None

    def _put(self, position: int, lane: str, batch: Batch, payload: bytes) -> None:
        if position in self._batches:
            self._forget_bytes(self._batches[position])
        since_ms, until_ms = span(batch, self._now_ms())
        self._batches[position] = SpooledBatch(
            position=position,
            lane=lane,
            source=batch.source,
            number=batch.number,
            events=len(batch.events),
            lost_events=sum(gap.lost_events for gap in batch.gaps),
            since_ms=since_ms,
            until_ms=until_ms,
            size=len(payload),
        )
        self._unwritten[position] = payload
        self.bytes += len(payload)
        self.unwritten_bytes += len(payload)

    def _forget_bytes(self, batch: SpooledBatch) -> None:
        self.bytes -= batch.size
        self.unwritten_bytes -= len(self._unwritten.pop(batch.position, b""))

    def _keep_bounds(self) -> None:
        while self.bytes > self._bounds.bytes_in_all:
            firsts = [self._first_to_go(islice(positions, 1, None)) for positions in self._lanes.values()]
            if not (going := [position for position in firsts if position is not None]):
                return
            self.give_up(min(going))
        while self.unwritten_bytes > self._bounds.bytes_unwritten:
            heads = {positions[0] for positions in self._lanes.values()}
            unwritten = self._first_to_go(p for p in self._unwritten if p not in heads)
            if unwritten is None:
                return
            self.give_up(unwritten)

    def _first_to_go(self, positions: Iterable[int]) -> int | None:
        return next((position for position in positions if self._batches[position].events), None)


def span(batch: Batch, now_ms: int) -> tuple[int, int]:
    """Return the first and the last time of what a batch tells; what has no time of its own is from now."""
    times = [when(event, now_ms) for event in batch.events]
    times += [time for gap in batch.gaps for time in (gap.since_ms, gap.until_ms)]
    return min(times, default=now_ms), max(times, default=now_ms)


def when(event: Event, now_ms: int) -> int:
    """Return an event's own time, or now for one that has none."""
    ts_ms: int = getattr(event, "ts_ms", now_ms)
    return ts_ms
