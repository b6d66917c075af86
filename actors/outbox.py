"""A shard runner's way to the hosts: one lane a host, and one spool behind them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from actors.coverage import Coverage, Mark
from actors.delivery import LaneSettings
from actors.gathering import Gathering
from actors.lane import Lane
from actors.routing import GuildDirectory
from actors.sender_fence import SenderFence
from actors.spool_index import OPEN_END, SpoolBounds, SpoolIndex
from actors.spool_writer import Checkpoint, SpoolWriter, WriterSettings, decoded
from domain.detection import SeenText
from domain.events import Event, Gap
from domain.ids import hour_start
from domain.ports import EarlierLife, PendingDeletion, Position, ShardState, Spool, SpoolContents
from tasks import SupervisedTasks

log = structlog.get_logger()


class OutboxSettings(msgspec.Struct, frozen=True):
    """How lanes send, and how much is kept for later."""

    lane: LaneSettings = LaneSettings()
    spool: SpoolBounds = SpoolBounds()
    writer: WriterSettings = WriterSettings()


class OutboxStats(msgspec.Struct, frozen=True):
    """What went through an outbox, and what waits in its spool."""

    waiting_events: int
    sent_events: int
    sent_batches: int
    lost_events: int
    spooled_batches: int = 0
    spooled_bytes: int = 0
    oldest_spooled_ms: int | None = None
    """The time of the oldest event that is spooled."""


class Outbox:
    """Takes events at any time, delivers them in order per guild, and gives up none while there is room.

    The order holds for a guild that stays where it is or moves once. One that moves on before what was on
    its way has arrived, whose old host is drained, or whose shard is killed or begins without its spool
    meanwhile, may be told in another order, but nothing twice. Counts do not depend on it, and an action
    that is told before its violation waits for it in the store.

    A batch keeps its source and number from its making until it is taken, on disk and across lives, so a host
    can tell that it has it already. With the batches goes what the gateway had told when they were made: a
    later life has Discord tell the rest. Killed, an outbox thus loses nothing that Discord still has; killed
    while its disk takes nothing, it may tell counts twice, and so what left one lane for another.
    """

    def __init__(  # noqa: PLR0917 - the last two have defaults
        self,
        source: str,
        directory: GuildDirectory,
        spool: Spool,
        now_ms: Callable[[], int],
        settings: OutboxSettings | None = None,
        fence: SenderFence | None = None,
    ) -> None:
        self._source = source
        self._directory = directory
        self._now_ms = now_ms
        self._settings = settings or OutboxSettings()
        self._index = SpoolIndex(self._settings.spool, now_ms)
        self._coverage = Coverage()
        self._tasks = SupervisedTasks("outbox")
        self._writer = SpoolWriter(spool, self._index, now_ms, self._settings.writer, self._tasks)
        self._fence = fence or SenderFence.without()
        self._lanes: dict[str, Lane] = {}
        self._homes: dict[int, str] = {}
        """The lane that a guild's last event went into."""
        self._listening_since_ms: int | None = None
        self._heard: Callable[[], tuple[ShardState, ...]] | None = None
        self._covering: tuple[int, int] | None = None
        """Until when everything was heard at a moment, and the last position of the spool then."""
        self._covered_ms: int | None = None
        self.spool_id = ""
        """Of the spool on disk; of none until it could be opened."""
        self._untold_ms: int | None = None
        """Until when an earlier life heard everything, if that was found out late."""

    async def start(self) -> EarlierLife:
        """Take up what an earlier life left; return what the bot needs to go on from there."""
        contents = await self._writer.start(self._opened_late)
        saved = self._coverage.load(contents.saved)
        self.spool_id = contents.spool_id
        self._index.superseded(saved.superseded_until)
        for host_id in self._index.lanes:
            await self._find_homes(host_id)
        for host_id in self._index.lanes:
            self._lane(host_id)
        return EarlierLife(contents.alive_ms, saved.shards, contents.guilds, contents.seen, saved.deletions)

    def add(self, event: Event, at: Position | None = None) -> None:
        """Queue an event for the host that owns its guild. Never waits.

        ``at`` is what the gateway told it with. Told again after a resume, it is queued once all the same.
        """
        mark = None if at is None else Mark(at, counted=False)
        if mark is None or self._coverage.is_new(event.guild_id, mark):
            self._lane_of(event.guild_id).add(event, mark)

    def count_message(self, guild_id: int, ts_ms: int, at: Position | None = None) -> None:
        """Count a message; counts of one guild and hour travel together."""
        mark = None if at is None else Mark(at, counted=True)
        if mark is None or self._coverage.is_new(guild_id, mark):
            self._lane_of(guild_id).count(guild_id, hour_start(ts_ms), mark, ts_ms)

    def report(self, gap: Gap) -> None:
        """Have a gap told to some host, once, whatever happens to this process."""
        routing = self._directory.routing
        self._lane(min(routing.hosts, default=routing.placement.owners[0])).report(gap)

    def listening(
        self,
        shards: Callable[[], tuple[ShardState, ...]] | None = None,
        changed_guilds: Callable[[], dict[int, bytes | None]] = dict,
        seen: Callable[[], tuple[SeenText, ...]] = tuple,
        deletions: Callable[[], tuple[PendingDeletion, ...]] = tuple,
    ) -> None:
        """Have the spool note from now on how the shards stand; without a say, all is heard until now.

        That goes to disk together with the batches that it goes with, and with what is reported as a gap.
        """

        def checkpoint() -> Checkpoint:
            saved, alive_ms = self._coverage.save(heard(), deletions(), self._index.superseded_until)
            return Checkpoint(alive_ms, saved, changed_guilds(), seen())

        heard = self._heard = shards or (lambda: (ShardState(0, self._now_ms()),))
        self._writer.checkpoint = checkpoint
        self._listening_since_ms = self._now_ms()
        self._tell_untold()
        self._writer.wake()

    def covered_ms(self) -> int | None:
        """Return until when everything that was heard is acknowledged; to be asked again and again."""
        if self._heard is None:
            return None
        if self._covering is not None and self._index.first_position > self._covering[1]:
            self._covered_ms, self._covering = self._covering[0], None
        heard_ms = self._coverage.heard_ms(self._heard())
        if self._covering is None and heard_ms is not None:
            self._covering = heard_ms, self._index.last_position
        return self._covered_ms

    async def begin_superseded(self, deletions: tuple[PendingDeletion, ...] = ()) -> None:
        """Give up what is only counted of what is here and still comes: another life went on from elsewhere.

        That is on disk before this returns, with the deletions that an earlier life left.
        """
        log.warning("spool_superseded", spool=self.spool_id, batches=self._index.batches)
        self._index.superseded_until = OPEN_END
        if self._writer.checkpoint is None:
            saved, _ = self._coverage.save((), deletions, OPEN_END)
            self._writer.checkpoint = lambda: Checkpoint(None, saved)
        await self._writer.written()

    async def end_superseded(self) -> None:
        """Count again what comes from here on: no other life does."""
        for lane in list(self._lanes.values()):
            lane.spool()
        self._index.superseded(self._index.last_position)
        await self._writer.written()

    def stats(self) -> OutboxStats:
        """Return what went through."""
        lanes = list(self._lanes.values())
        on_its_way = [lane.on_its_way for lane in lanes if lane.on_its_way is not None]
        late = [lane.spooled for lane in lanes if lane.spooled is not None]
        return OutboxStats(
            waiting_events=sum(len(lane.waiting) for lane in lanes),
            sent_events=sum(lane.sent_events for lane in lanes),
            sent_batches=sum(lane.sent_batches for lane in lanes),
            lost_events=sum(lane.waiting.lost_events for lane in lanes) + self._index.lost_events,
            spooled_batches=self._index.batches - len(on_its_way),
            spooled_bytes=self._index.bytes - sum(batch.size for batch in on_its_way),
            oldest_spooled_ms=min((batch.since_ms for batch in late), default=None),
        )

    def ailing(self) -> tuple[str, ...]:
        """Return the names of the loops that cannot go on."""
        return self._tasks.ailing()

    async def flush(self) -> None:
        """Return when everything that was added is acknowledged."""
        # Once more, while there is something: a lane that drained may have moved its events to another.
        while waiting := [lane for lane in self._lanes.values() if not lane.drained.is_set()]:
            await asyncio.gather(*(lane.drained.wait() for lane in waiting))

    async def stop(self) -> None:
        """Stop delivering; what no host has taken goes to the spool, for the next life."""
        for lane in list(self._lanes.values()):
            await lane.stop()
        await self._writer.stop()
        await self._tasks.stop()

    # -- what lanes ask of each other -------------------------------------------------------------

    def lane_to(self, host_id: str) -> Lane:
        """See :class:`actors.departure.Neighbours`."""
        self._covering = None  # what moves gets a new position
        return self._lane(host_id)

    def moved_away(self, host_id: str) -> None:
        """See :class:`actors.departure.Neighbours`."""
        placement = self._directory.routing.placement
        for guild_id, home in self._homes.items():
            if home == host_id:
                self._homes[guild_id] = placement.owner_of(guild_id)

    # -- lanes ------------------------------------------------------------------------------------

    def _lane_of(self, guild_id: int) -> Lane:
        """Return the lane for a guild's next event.

        That is its owner's, but not while another lane may still hold older events of the guild: the new
        one waits behind those, and moves with them once the host says that the guild is not its own.
        """
        owner = self._directory.routing.placement.owner_of(guild_id)
        home = self._homes.get(guild_id, owner)
        if home != owner and not self._lane(home).drained.is_set():
            return self._lane(home)
        self._homes[guild_id] = owner
        return self._lane(owner)

    def _lane(self, host_id: str) -> Lane:
        lane = self._lanes.get(host_id)
        if lane is None:
            lane = self._lanes[host_id] = Lane(
                host_id,
                Gathering(f"{self._source}>{host_id}", self._now_ms, self._coverage),
                directory=self._directory,
                writer=self._writer,
                neighbours=self,
                settings=self._settings.lane,
                tasks=self._tasks,
                fence=self._fence,
            )
        return lane

    def _opened_late(self, contents: SpoolContents) -> None:
        self._untold_ms, self.spool_id = contents.alive_ms, contents.spool_id
        self._tell_untold()

    def _tell_untold(self) -> None:
        """Tell the time between an earlier life and this one, if that could not be done at the start."""
        since_ms, until_ms = self._untold_ms, self._listening_since_ms
        if since_ms is not None and until_ms is not None:
            self.report(Gap(since_ms, max(since_ms, until_ms), 0, "blind"))

    async def _find_homes(self, host_id: str) -> None:
        """Learn whose events an earlier life left for a host."""
        batch = self._index.next(host_id)
        while batch is not None:
            found = decoded(await self._writer.read(batch.position))
            for event in found.events if found else ():
                self._homes[event.guild_id] = host_id
            batch = self._index.next(host_id, batch.position)
