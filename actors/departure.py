"""What a lane does with events that are another host's now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from actors.routing import GuildDirectory
from actors.spool_index import UNLOADED
from actors.spool_writer import SpoolWriter, decoded
from domain.events import Batch, Event, Gap


class NextLane(Protocol):
    """Another lane, as what leaves one sees it."""

    def take_over(self, events: list[Event]) -> None:
        """Put events that were spooled elsewhere behind everything that is here already."""
        ...


class Neighbours(Protocol):
    """The other lanes, as one lane sees them: where to hand what is not its own any more."""

    def lane_to(self, host_id: str) -> NextLane:
        """Return the lane to this host."""
        ...

    def moved_away(self, host_id: str) -> None:
        """Everything in the lane to this host is of guilds that the host owns."""
        ...

    def report(self, gap: Gap) -> None:
        """Tell a gap to any host."""
        ...


class Departure:
    """Hands a lane's events to the lanes that lead to their owners, in order."""

    def __init__(
        self,
        host_id: str,
        *,
        directory: GuildDirectory,
        writer: SpoolWriter,
        neighbours: Neighbours,
        spool_waiting: Callable[[], None],
    ) -> None:
        self._host_id = host_id
        self._directory = directory
        self._writer = writer
        self._index = writer.index
        self._neighbours = neighbours
        self._spool_waiting = spool_waiting

    async def from_spool(self, source: str) -> None:
        """Hand over what the spool holds of other hosts' guilds, batch by batch.

        ``source`` is the one whose first batch the host did not take: nothing behind that was sent, except
        for the first one of a life that began without this spool. The host is to be asked about it first.
        A batch leaves here and arrives there in one write. Until the last one has, new events of those
        guilds still come here, behind the old ones.
        """
        routing = self._directory.routing
        after = 0
        while True:
            if self._directory.routing is not routing:  # what was left here may not belong here any more
                routing, after = self._directory.routing, 0
            self._spool_waiting()
            batch = self._index.next(self._host_id, after)
            if batch is None:
                self._neighbours.moved_away(self._host_id)
                break
            if batch.source != source and batch.position > UNLOADED:
                break
            found = decoded(await self._writer.read(batch.position))
            if self._directory.routing is not routing:
                continue
            if found is not None and self._index.get(batch.position) is batch:
                self._move(batch.position, found)
            after = batch.position
        await self._writer.written()

    def _move(self, position: int, batch: Batch) -> None:
        placement = self._directory.routing.placement
        by_host: defaultdict[str, list[Event]] = defaultdict(list)
        for event in batch.events:
            by_host[placement.owner_of(event.guild_id)].append(event)
        stays = tuple(by_host.pop(self._host_id, ()))
        gaps = batch.gaps
        if gaps and not stays and self._is_gone():
            for gap in gaps:
                self._neighbours.report(gap)
            gaps = ()
        ways = [(self._neighbours.lane_to(host_id), events) for host_id, events in by_host.items()]
        # All or nothing: whatever could go wrong has not.
        if not (stays or gaps):
            self._index.remove(position)
        elif len(stays) < len(batch.events):
            self._index.rewrite(position, Batch(batch.source, batch.number, stays, gaps))
        for lane, events in ways:
            lane.take_over(events)

    def _is_gone(self) -> bool:
        """Whether this lane's host is no host any more, and there are others."""
        hosts = self._directory.routing.hosts
        return bool(hosts) and self._host_id not in hosts
