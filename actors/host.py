"""A guild host: thousands of guild actors in one process, and what all of them share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
import structlog

from actors import gc_tuning
from actors.fan_out import PROBE, FanOut, Item
from actors.group_commit import CommitSettings, CommitStats, GroupCommit, poison_event
from actors.guild import Admission, Answer, GuildActor, Unwatch, Watch, Watcher
from actors.guild_table import GuildTable, TableSettings
from actors.observers import MESSAGES, Change, Observers
from actors.relay_proofs import RelayProofs
from actors.watch_index import WatchIndex
from domain.errors import (
    Fenced,
    HistoryTakenBack,
    HostUnreachable,
    MalformedBatch,
    NotOwner,
    StoreUnavailable,
    TooManySockets,
)
from domain.events import (
    ActionSettled,
    Batch,
    BotPresenceChanged,
    Busy,
    Event,
    GuildDescribed,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    NotMine,
    Sender,
    ViolationDetected,
    decode_batch,
    decode_batch_piecewise,
    encode_reply,
)
from domain.ids import SLOTS
from domain.placement import NOBODY, Placement, PlacementChange
from domain.ports import Committed, GuildStore, Incarnation, PoisonEvent
from domain.views import metrics_update, violation_view
from tasks import SupervisedTasks

log = structlog.get_logger()

LOOK_EVERY_TICKS = 10
GUILDS_A_SLICE = 5_000
"""So many guilds are looked at before others have their turn on the loop."""
METRICS_EVERY_TICKS = 30
"""So often everybody who watches gets the counters, changed or not: they are of an hour that moves on."""


class HostSettings(msgspec.Struct, frozen=True):
    """What one host is, and how much it takes on."""

    host_id: str
    actor_name: str = ""
    commit: CommitSettings = CommitSettings()
    table: TableSettings = TableSettings()
    tick_ms: int = 1_000
    """A watched guild's counters are pushed once a tick at most."""
    resume_ms: int = 120_000
    """After the last of its watchers left, a guild's events are kept so long for one who comes back."""
    owns_process: bool = False
    """Whether the process is this host's alone: then its garbage collector is tuned for it."""


class HostPing(msgspec.Struct, frozen=True):
    """A sign of life."""

    incarnation: int
    placement_version: int
    fenced: bool
    pid: int = 0
    director: int = 0
    """The incarnation of the Director that this host follows."""
    ailing: tuple[str, ...] = ()
    """What this host cannot go on with: its tasks that break whenever they begin."""
    told: dict[str, int] = {}
    """How many changes each observer was told whose stream stands."""


class HostStats(msgspec.Struct, frozen=True):
    """What a host did in this life, and what it holds."""

    host_id: str
    incarnation: int
    placement_version: int
    guilds: int
    watched_guilds: int
    activations: int
    deactivations: int
    refused_batches: int
    commit: CommitStats


class GuildHost:
    """Owns the guilds that the placement gives it. Killed, it loses nothing acknowledged."""

    def __init__(
        self,
        settings: HostSettings,
        open_store: Callable[[], Awaitable[GuildStore]],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._now_ms = now_ms
        self._incarnation = Incarnation(settings.host_id, 0)
        self._placement: Placement | None = None
        self._director = 0
        """The newest incarnation of the Director that was heard of."""
        self._store: GuildStore
        self._table: GuildTable
        self._commit: GroupCommit
        self._fan_out: FanOut[Item] = FanOut()
        self._proofs = RelayProofs(lambda relay_id: self._fan_out.send(relay_id, [PROBE]))
        self._metrics_due: set[int] = set()
        self._watching = WatchIndex()
        self._observers = Observers()
        self._tasks = SupervisedTasks(settings.host_id)
        self._ticks = 0
        self._looking: asyncio.Task[None] | None = None
        self._look_soon = False
        self._token, self._next_token = 0, secrets.randbits(62)
        self._refused = 0
        self._fenced = self._started = False
        self._store_available = True

    async def start(self, director: int | None = None) -> Incarnation:
        """Begin this life: earlier lives of this host can write nothing from here on.

        Raises:
            Fenced: another Director has begun since the one that asks for it.

        """
        store, settings = await self._open_store(), self._settings
        self._store = store
        self._incarnation = await store.register_host(settings.host_id, settings.actor_name, director)
        self._director = director or 0
        self._table = GuildTable(settings.table, store, self._now_ms)
        self._commit = GroupCommit(settings.commit, store, self._incarnation, self._table, self)
        if settings.owns_process:
            gc_tuning.tune()
        self._started = True
        self._tasks.every("tick", settings.tick_ms / 1000, self._tick)
        return self._incarnation

    async def stop(self, reason: str) -> None:
        """End this life; batches that wait are refused, and their shards keep them."""
        log.info("host_stops", host=self._settings.host_id, reason=reason)
        await self._tasks.stop()
        if self._started:
            await self._commit.stop()
        self._fan_out.close()
        self._observers.close()

    async def ping(self) -> HostPing:
        """Give a sign of life."""
        return HostPing(
            self._incarnation.number,
            self.placement_version(),
            self._fenced,
            os.getpid(),
            self._director,
            (*self._tasks.ailing(), *self._commit.ailing()) if self._started else (),
            self._observers.told(),
        )

    async def assign(self, placement: Placement) -> None:
        """Own what a placement gives, and give up the rest; return when no commit of that is in flight.

        Raises:
            Fenced: the placement is of a Director that another has followed; it holds nothing any more.

        """
        if placement.director < self._director:
            raise Fenced(f"Incarnation {self._director} of the Director is the one to follow.")
        followed, self._director = self._director, placement.director
        # What an earlier Director told may never have been written, whatever its version.
        old = placement.director == followed and placement.version < self.placement_version()
        if old or self._fenced:
            return
        before, self._placement = self._placement, placement  # from here on, intake refuses what is not ours
        host_id = self._settings.host_id
        moved = before is None or not before.gives_the_same(host_id, placement)
        if moved:
            self._observers.lose([guild_id for guild_id in self._observers if not self.owns(guild_id)])
        await self._commit.settle()
        if moved:
            await self._give_up(before)

    async def assign_changes(self, change: PlacementChange) -> bool:
        """Do as ``assign`` with what is new in a placement; return False where another one is known."""
        placement = change.applied_to(self._placement) if self._placement is not None else None
        if placement is None:
            return False
        await self.assign(placement)
        return True

    async def _give_up(self, before: Placement | None) -> None:
        """Deactivate what is not ours, and what was loaded while it was another's: that may have changed it.

        In slices: to ask of a hundred thousand guilds whose they are takes long. Meanwhile none is added to
        them that is not ours.
        """
        guild_ids = list(self._table.ids())
        for start in range(0, len(guild_ids), GUILDS_A_SLICE):
            part = guild_ids[start : start + GUILDS_A_SLICE]
            self.forget({guild for guild in part if not (self._owns_by(before, guild) and self.owns(guild))})
            await asyncio.sleep(0)

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        """Take a batch; answer when it is durable, or when it is not taken.

        ``payload`` is an encoded :class:`~domain.events.Batch`, the answer an encoded
        :data:`~domain.events.Reply`. What a ``sender`` sends is taken while that is the newest life of its
        runner. An event that cannot be read is set aside with its reason. Raises
        :class:`~domain.errors.MalformedBatch` when not even the batch's frame can be read.
        """
        batch, poison = _read(payload)
        reply = self._commit.offer(batch, poison, sender)
        if reply is None:
            self._refused += 1
            return encode_reply(self._commit.busy())
        answer = await reply
        if isinstance(answer, NotMine | Busy):
            self._refused += 1
        return encode_reply(answer)

    async def taken(self, source: str) -> int:
        """Return the highest batch number that is durable of a source, of whichever host."""
        return await self._commit.taken(source)

    async def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        """Yield a relay's stream: events of the guilds it watches, in each list all that came since the last.

        The first list is empty and says that the stream stands. When it ends, so does all that the
        relay had registered; a relay that comes back does so under a new id.
        """
        try:
            async with contextlib.aclosing(self._fan_out.stream(relay_id)) as lists:
                async for items in lists:
                    yield items
        finally:
            self._relay_gone(relay_id)

    def _relay_gone(self, relay_id: str) -> None:
        for guild_id in self._watching.pop(relay_id):
            guild = self._table.get(guild_id)
            if guild is not None and guild.dismiss_relay(relay_id):
                self._expect_back(guild)

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        """Let many of a relay's sockets watch guilds or leave them, in this order; answer each, at once.

        What cannot be said at once is to be asked alone, by ``watch``: guilds that sleep, and others' guilds.

        Raises:
            HostUnreachable: the relay's stream is over, and with it all that it registers.

        """
        self._require_listener(relay_id)
        answers: list[Answer] = []
        for request in requests:
            guild = self._table.get(request.guild_id)
            if isinstance(request, Unwatch):
                if guild is not None:
                    self._dismiss(guild, Watcher(relay_id, request.socket_id))
                answers.append("done")
            elif guild is None or not self.owns(request.guild_id):
                answers.append("ask_alone")
            else:
                try:
                    answers.append(self._admit(guild, relay_id, request))
                except TooManySockets:
                    answers.append("too_many_sockets")
        return answers

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        """Let a relay's socket watch a guild, asleep or not.

        Raises:
            NotOwner: the guild is another host's.
            TooManySockets: the person has too many sockets on this guild.
            StoreUnavailable: the guild is asleep, and the database is away.
            HostUnreachable: the relay's stream is over, and with it all that it registers.

        """
        self._require_own(wanted.guild_id)
        async with self._table.use([wanted.guild_id]) as guilds:
            self._require_own(wanted.guild_id)  # it may have been given up while the guild was loaded
            # Or the stream may have ended: nothing would ever dismiss this socket.
            self._require_listener(relay_id)
            return self._admit(guilds[wanted.guild_id], relay_id, wanted)

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        """Make room for a person: sockets of theirs go whose relay does not say that it is there."""
        guild = self._table.get(guild_id)
        if guild is None:
            return
        for relay_id in await self._proofs.silent(guild.relays_of(user_id)):
            log.warning("relay_is_silent", relay=relay_id)
            self._fan_out.end(relay_id)
            self._relay_gone(relay_id)  # not only when its stream ends: that waits for whoever reads it

    async def prove(self, relay_id: str) -> None:
        """Know that a relay is there, which was asked on its stream."""
        self._proofs.answered(relay_id)

    def _admit(self, guild: GuildActor, relay_id: str, wanted: Watch) -> Admission:
        admission = guild.admit(Watcher(relay_id, wanted.socket_id), wanted.user_id, wanted.position)
        self._watching.add(relay_id, wanted.guild_id)
        if not self._store_available:
            self._show([(guild, self._health(guild))])
        return admission

    def _dismiss(self, guild: GuildActor, watcher: Watcher) -> None:
        if guild.dismiss(watcher):
            self._expect_back(guild)
        if watcher.relay_id not in guild.relays:
            self._watching.discard(watcher.relay_id, guild.state.guild_id)

    async def changes(self, observer_id: str) -> AsyncIterator[list[Change]]:
        """Yield what changes in the guilds that a replica observes; nothing, while nothing changes.

        The first list is empty, as with ``stream``, and likewise all that the observer asked for ends with
        its stream. That this host is heard, and how many changes it told, its pings say. How many messages
        there were is told once a tick, everything else once it is durable.
        """
        async with contextlib.aclosing(self._observers.stream(observer_id)) as lists:
            async for changes in lists:
                yield changes

    async def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Let a replica hear what changes in a guild, asleep or not, from here on.

        Raises:
            NotOwner: the guild is another host's.
            HostUnreachable: the observer's stream is over.

        """
        self._require_own(guild_id)
        self._observers.observe(observer_id, guild_id, turn)

    async def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Let a replica hear no more of a guild, unless it has asked again since that turn."""
        self._observers.unobserve(observer_id, guild_id, turn)

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        """Publish what was made durable elsewhere, each with its kind and its data, as if this host had.

        Raises:
            NotOwner: the guild is another host's.

        """
        self._require_own(guild_id)
        # First: who sees it may ask a replica about it.
        self._observers.tell([Change(guild_id, kind) for kind, _ in events])
        guild, now_ms = self._table.get(guild_id), self._now_ms()
        if guild is None:
            return
        if guild.remembers(now_ms):
            self._show([(guild, guild.publish(kind, now_ms, data)) for kind, data in events])
        else:
            for _ in events:
                guild.pass_over()

    def _expect_back(self, guild: GuildActor) -> None:
        """Keep for a while what the last watcher that left will have missed, if it comes back."""
        guild.keep_until(self._now_ms() + self._settings.resume_ms)

    def _watched(self) -> list[GuildActor]:
        """Return the guilds that somebody watches, without a look at the others."""
        live = map(self._table.get, self._watching.guild_ids())
        return [guild for guild in live if guild is not None and guild.watched]

    async def stats(self) -> HostStats:
        """Return what this host did and holds."""
        return HostStats(
            host_id=self._settings.host_id,
            incarnation=self._incarnation.number,
            placement_version=self.placement_version(),
            guilds=len(self._table),
            watched_guilds=len(self._watched()),
            activations=self._table.activations,
            deactivations=self._table.deactivations,
            refused_batches=self._refused,
            commit=self._commit.stats(),
        )

    # -- what the group commit tells ----------------------------------------------------------------

    def owns(self, guild_id: int) -> bool:
        """Whether the placement gives a guild to this host, as far as this host knows."""
        return self._owns_by(self._placement, guild_id)

    def _owns_by(self, placement: Placement | None, guild_id: int) -> bool:
        return placement is not None and placement.owner_of(guild_id) == self._settings.host_id

    def placement_version(self) -> int:
        """Return the version of the placement that this host knows."""
        return self._placement.version if self._placement else 0

    def forget(self, guild_ids: set[int]) -> None:
        """Deactivate guilds. Who watches or observes them is cut off: they come back and ask anew."""
        if not guild_ids:
            return
        for relay_id in self._table.drop(guild_ids):
            self._fan_out.end(relay_id)
        self._observers.lose(guild_ids)

    def fenced(self) -> None:
        """Give up everything: another life of this host has begun."""
        self._fenced = True
        self._placement = Placement(self.placement_version(), (NOBODY,) * SLOTS)
        self.forget(self._table.ids())
        self._fan_out.close()  # also those who watch nothing yet: they are to look for the new life
        self._observers.close()

    def committed(self, guilds: dict[int, GuildActor], events: list[Event], committed: Committed) -> None:
        """Show what is durable now to the relays that watch it.

        Most guilds are watched by nobody: of what happens in them only the offset tells.
        """
        now_ms = self._now_ms()
        shown: list[tuple[GuildActor, bytes]] = []
        for event in events:
            guild = guilds[event.guild_id]
            if guild.watched:
                self._metrics_due.add(event.guild_id)
            if not isinstance(event, _SHOWN):
                continue
            if guild.remembers(now_ms):
                kind, data = _shown(event, committed)
                shown.append((guild, guild.publish(kind, event.ts_ms, data)))
            else:
                guild.pass_over()
        for settled in committed.settled:
            settled_in = guilds.get(int(settled.guild_id))
            if settled_in is None:
                continue
            if settled_in.remembers(now_ms):
                event_json = settled_in.publish("violation", settled.ts, settled.plain())
                shown.append((settled_in, event_json))
            else:
                settled_in.pass_over()
        self._tell_observers(events, committed)  # first: who sees an event may ask a replica about it
        self._show(shown)

    def _tell_observers(self, events: list[Event], committed: Committed) -> None:
        changes = [Change(int(settled.guild_id), "violation") for settled in committed.settled]
        for event in events:
            if event.guild_id not in self._observers or isinstance(event, ActionSettled):
                continue
            if isinstance(event, MessagesCounted):
                self._observers.tell_later(Change(event.guild_id, MESSAGES))
            else:
                changes.append(Change(event.guild_id, _CHANGES[type(event)]))
        self._observers.tell(changes)

    def store_changed(self, *, available: bool) -> None:
        """Tell everybody who watches that what they see is late, or no longer is."""
        self._store_available = available
        self._look_soon = True
        self._show([(guild, self._health(guild)) for guild in self._watched()])

    # -- what is shown --------------------------------------------------------------------------------

    def _show(self, events: Iterable[tuple[GuildActor, bytes]]) -> None:
        """Send events that their guilds have just published to the relays that watch them."""
        by_guild: defaultdict[GuildActor, list[bytes]] = defaultdict(list)
        for guild, event in events:
            by_guild[guild].append(event)
        by_relay: defaultdict[str, list[Item]] = defaultdict(list)
        for guild, theirs in by_guild.items():
            item = Item(guild.state.guild_id, guild.epoch, guild.offset, theirs)
            for relay_id in guild.relays:
                by_relay[relay_id].append(item)
        for relay_id, items in by_relay.items():
            self._fan_out.send(relay_id, items, sum(sum(map(len, item.events)) for item in items))

    def _health(self, guild: GuildActor) -> bytes:
        data: dict[str, Any] = {"store_available": self._store_available}
        return guild.publish("health_update", self._now_ms(), data)

    async def _tick(self) -> None:
        self._observers.tick()
        self._ticks += 1
        if self._ticks % METRICS_EVERY_TICKS == 0:
            self._metrics_due |= {guild.state.guild_id for guild in self._watched()}
        self._push_metrics()
        self._table.passivate_idle()
        if self._settings.owns_process and self._ticks % gc_tuning.COLLECT_EVERY_TICKS == 0:
            gc_tuning.collect()
        look = self._look_soon or self._ticks % LOOK_EVERY_TICKS == 0
        if look and (self._looking is None or self._looking.done()):
            # A task of its own: a database that hangs must not hold up the ticks.
            self._looking = self._tasks.spawn("look", self._look_whether_replaced())

    async def _look_whether_replaced(self) -> None:
        """Notice another life of this host, or another history, even when there is nothing to commit.

        A Director that was killed while it replaced this host has left it running, unknown to anybody
        but the relays that listen to it. A database that was restored to an earlier time knows nothing of
        what these guilds' states and streams are made of: they are given up, and the Director begins a
        life that reads what is true now.
        """
        if self._fenced:
            return
        self._look_soon = True  # until it has worked: whatever took the database away may have put it back
        try:
            await self._commit.confirm()
            # Where an answer was lost, the one or the other stands there.
            await self._store.renew_token(
                self._incarnation, (self._token, self._next_token), self._next_token
            )
        except StoreUnavailable:
            return
        except HistoryTakenBack as error:
            log.error("history_taken_back", host=self._settings.host_id, error=str(error))  # noqa: TRY400
            with contextlib.suppress(StoreUnavailable):  # else the next look finds the same
                await self._store.write_taken_back(self._settings.host_id)  # first: fenced, we are soon ended
                self.fenced()
        except Fenced:
            self.fenced()
        else:
            self._token, self._next_token = self._next_token, secrets.randbits(62)
            self._look_soon = False

    def _push_metrics(self) -> None:
        """Push the counters of the watched guilds that changed."""
        due, self._metrics_due = self._metrics_due, set()
        now_ms = self._now_ms()
        watched = [guild for guild_id in due if (guild := self._table.get(guild_id)) and guild.watched]
        self._show(
            (guild, guild.publish("metrics_update", now_ms, metrics_update(guild.state, now_ms).plain()))
            for guild in watched
        )

    def _require_listener(self, relay_id: str) -> None:
        if not self._fan_out.listens(relay_id):
            raise HostUnreachable(f"Relay {relay_id} does not listen any more.")

    def _require_own(self, guild_id: int) -> None:
        if not self.owns(guild_id):
            raise NotOwner(f"Guild {guild_id} is not on host {self._settings.host_id}.")


_SHOWN = (ViolationDetected, BotPresenceChanged)

_CHANGES: dict[type[Event], str] = {
    ViolationDetected: "violation",
    BotPresenceChanged: "bot_status",
    MemberJoined: "members",
    MemberLeft: "members",
    GuildDescribed: "guild",
    GuildLeft: "guild",
}
"""What observers are told of an event; of a settled action the rows that it changed tell."""


def _shown(event: ViolationDetected | BotPresenceChanged, committed: Committed) -> tuple[str, dict[str, Any]]:
    """Return the kind and the data of what a guild's stream says of an event."""
    if isinstance(event, BotPresenceChanged):
        return "bot_status", {"online": event.online}
    return "violation", violation_view(event, committed.committed_at_ms).plain()


def _read(payload: bytes) -> tuple[Batch, tuple[PoisonEvent, ...]]:
    """Return a batch, and what in it cannot be read."""
    try:
        return decode_batch(payload), ()
    except MalformedBatch:
        batch, unreadable = decode_batch_piecewise(payload)
    return batch, tuple(poison_event(batch, None, why, raw) for raw, why in unreadable)
