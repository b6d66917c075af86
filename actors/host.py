"""A guild host: thousands of guild actors in one process, and the group commit they share.

Intake and commit are two loops with one bounded queue between them: while a transaction is in flight
the next batches gather, so the group grows with the load and a lone event waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from actors.fan_out import FanOut, Item
from actors.guild import Admission, GuildActor, Watcher
from domain.errors import Fenced, HostUnreachable, MalformedBatch, NotOwner, StoreUnavailable
from domain.events import (
    Accepted,
    Batch,
    BotPresenceChanged,
    Busy,
    Event,
    MemberJoined,
    NotMine,
    Reply,
    UserRef,
    ViolationDetected,
    decode_batch,
    encode_reply,
)
from domain.guild import WINDOW_HOURS, Decision, GuildState
from domain.ids import HOUR_MS, hour_start, slot_of
from domain.ports import BatchMark, Commit, Committed, GuildStore, Incarnation
from domain.views import metrics_update, violation_view

log = structlog.get_logger()

EPOCH_BITS = 24
"""An epoch is the host's incarnation and its count of activations: never used twice, below 2^53."""


class HostSettings(msgspec.Struct, frozen=True):
    """How much a host takes on at once."""

    host_id: str
    intake_events: int = 20_000
    """Events that may wait for a commit; beyond, shards are told to wait."""
    commit_events: int = 2_000
    """Events that one transaction takes at most."""
    retry_after_ms: int = 500
    metrics_every_ms: int = 1_000
    """A watched guild's counters are pushed at most this often."""


class HostStats(msgspec.Struct, frozen=True):
    """What a host did in this life."""

    host_id: str
    incarnation: int
    guilds: int
    watched_guilds: int
    waiting_events: int
    committed_events: int
    committed_batches: int
    commits: int
    refused_batches: int
    store_available: bool


class _Waiting(NamedTuple):
    batch: Batch
    reply: asyncio.Future[Reply]


class _Doubt(NamedTuple):
    """A commit whose answer was lost: made or not, all of it or nothing."""

    marks: tuple[BatchMark, ...]
    guild_ids: frozenset[int]


class GuildHost:
    """Owns the guilds of its slots. Killed, it loses nothing acknowledged: all of that is in the store."""

    def __init__(
        self,
        settings: HostSettings,
        open_store: Callable[[], Awaitable[GuildStore]],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._open_store = open_store
        self._now_ms = now_ms
        self._store: GuildStore
        self._incarnation = Incarnation(settings.host_id, 0)
        self._activations = 0
        self._slots: frozenset[int] = frozenset()
        self._placement_version = 0
        self._guilds: dict[int, GuildActor] = {}
        self._activating = asyncio.Lock()
        self._taken: dict[str, int] = {}
        self._doubt: _Doubt | None = None
        self._stopped = False
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._waiting_events = 0
        self._fan_out = FanOut()
        self._metrics_due: dict[int, int] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._committed_events = self._committed_batches = self._commits = self._refused = 0
        self._store_available = True

    async def start(self) -> Incarnation:
        """Begin this life: earlier lives of this host can write nothing from here on."""
        self._store = await self._open_store()
        self._incarnation = await self._store.register_host(self._settings.host_id)
        self._loops = [
            asyncio.create_task(self._commit_forever(), name="commit"),
            asyncio.create_task(self._push_metrics_forever(), name="metrics"),
        ]
        return self._incarnation

    async def stop(self, reason: str) -> None:
        """End this life; batches that wait are refused, and their shards keep them."""
        log.info("host_stops", host=self._settings.host_id, reason=reason)
        self._stopped = True
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        while not self._waiting.empty():
            self._answer(self._waiting.get_nowait(), self._busy())
        self._fan_out.close()

    async def assign(self, placement_version: int, slots: frozenset[int]) -> None:
        """Take over these slots and give up all others, by a placement."""
        if placement_version < self._placement_version:
            return
        self._placement_version = placement_version
        self._slots = slots
        self._drop({guild_id for guild_id in self._guilds if slot_of(guild_id) not in slots})

    async def ingest(self, payload: bytes) -> bytes:
        """Take a batch; answer when it is durable, or when it is not taken.

        ``payload`` is an encoded :class:`~domain.events.Batch`, the answer an encoded
        :data:`~domain.events.Reply`. Raises :class:`~domain.errors.MalformedBatch`.
        """
        batch = decode_batch(payload)
        if not self._owns_all(batch.events):
            self._refused += 1
            return encode_reply(NotMine(self._placement_version))
        waiting_then = self._waiting_events + len(batch.events)
        full = self._waiting_events > 0 and waiting_then > self._settings.intake_events
        if full or self._stopped:
            self._refused += 1
            return encode_reply(self._busy())
        waiting = _Waiting(batch, asyncio.get_running_loop().create_future())
        self._waiting_events += len(batch.events)
        self._waiting.put_nowait(waiting)
        return encode_reply(await waiting.reply)

    async def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        """Yield a relay's stream: lists of (guild_id, last offset, frame), for the guilds it watches.

        The first list is empty and says that the stream stands. When it ends, so does all that the
        relay had registered; a relay that comes back does so under a new id.
        """
        try:
            async with contextlib.aclosing(self._fan_out.stream(relay_id)) as lists:
                async for items in lists:
                    yield items
        finally:
            for guild in self._guilds.values():
                guild.dismiss_relay(relay_id)

    async def watch(
        self, relay_id: str, socket_id: int, guild_id: int, user_id: int, position: tuple[int, int] | None
    ) -> Admission:
        """Let a relay's socket watch a guild.

        Raises:
            NotOwner: the guild is another host's.
            TooManySockets: the person has too many sockets on this guild.
            StoreUnavailable: the guild is asleep, and the database is away.
            HostUnreachable: the relay's stream is over, and with it all that it registers.

        """
        self._require_slot(guild_id)
        guild = (await self._activate([guild_id]))[guild_id]
        self._require_slot(guild_id)  # it may have been given up while the guild was loaded
        if not self._fan_out.listens(relay_id):
            # It ended while the guild was loaded: nothing would ever dismiss this socket.
            raise HostUnreachable(f"Relay {relay_id} does not listen any more.")
        return guild.admit(Watcher(relay_id, socket_id), user_id, position)

    async def unwatch(self, relay_id: str, socket_id: int, guild_id: int) -> None:
        """Forget a relay's socket on a guild."""
        guild = self._guilds.get(guild_id)
        if guild is not None:
            guild.dismiss(Watcher(relay_id, socket_id))

    async def stats(self) -> HostStats:
        """Return what this host did and holds."""
        return HostStats(
            host_id=self._settings.host_id,
            incarnation=self._incarnation.number,
            guilds=len(self._guilds),
            watched_guilds=sum(guild.watched for guild in self._guilds.values()),
            waiting_events=self._waiting_events,
            committed_events=self._committed_events,
            committed_batches=self._committed_batches,
            commits=self._commits,
            refused_batches=self._refused,
            store_available=self._store_available,
        )

    # -- the commit loop ------------------------------------------------------------------------

    async def _commit_forever(self) -> None:
        while True:
            await self._settle(await self._next_group())

    async def _settle(self, group: list[_Waiting]) -> None:
        """Commit a group and answer every batch of it, whatever happens."""
        try:
            await self._commit_group(group)
            self._store_available = True
        except StoreUnavailable as error:
            # Nothing is known to be written; the shards send the same batches again.
            self._store_available = False
            log.warning("commit_failed", host=self._settings.host_id, error=str(error))
            self._answer_all(group, self._busy())
        except Fenced as error:
            log.error("host_fenced", host=self._settings.host_id, error=str(error))  # noqa: TRY400
            self._slots = frozenset()
            self._drop(set(self._guilds))
            self._answer_all(group, NotMine(self._placement_version))
        except asyncio.CancelledError:
            self._answer_all(group, self._busy())
            raise
        except Exception as error:
            # A bug, or an event the database will not take. Each batch then stands for itself, so that
            # one shard's event costs no other shard's. What is not acknowledged is not lost: it is told
            # to its shard as an error rather than swallowed.
            log.exception("commit_broke", host=self._settings.host_id, batches=len(group))
            if len(group) > 1:
                for waiting in group:
                    await self._settle([waiting])
            elif not group[0].reply.done():
                group[0].reply.set_exception(MalformedBatch(f"The batch cannot be taken: {error}"))

    async def _next_group(self) -> list[_Waiting]:
        """Wait for a batch; then take all that have gathered, up to a transaction's size."""
        group = [await self._waiting.get()]
        events = len(group[0].batch.events)
        while events < self._settings.commit_events and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
            events += len(group[-1].batch.events)
        self._waiting_events -= events
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        await self._end_doubt()
        fresh = [waiting for waiting in group if not await self._was_taken(waiting.batch)]
        # A shard whose call failed may have its batch in the group twice.
        batches = list({(w.batch.source, w.batch.number): w.batch for w in fresh}.values())
        if batches:
            events = _distinct([event for batch in batches for event in batch.events])
            guilds = await self._activate({event.guild_id for event in events})
            decisions = _decide(guilds, events)
            commit = Commit(
                effects=tuple(effect for _, effects in decisions.values() for effect in effects),
                users=_people(events),
                marks=tuple(BatchMark(batch.source, batch.number) for batch in batches),
                gaps=tuple((batch.source, gap) for batch in batches for gap in batch.gaps),
            )
            try:
                committed = await self._store.commit(self._incarnation, commit)
            except StoreUnavailable:
                self._doubt = _Doubt(commit.marks, frozenset(guilds))
                raise
            seen_before = _violations(events) - committed.new_violations
            if seen_before:
                events = _without(events, seen_before)
                decisions = _decide(guilds, events)
            for guild_id, (state, _) in decisions.items():
                guilds[guild_id].adopt(state)
            self._remember(commit.marks)
            self._commits += 1
            self._committed_batches += len(batches)
            self._committed_events += len(events)
            self._publish(guilds, events, committed)
        for waiting in group:
            credit = max(0, self._settings.intake_events - self._waiting_events)
            self._answer(waiting, Accepted(waiting.batch.number, credit))

    async def _was_taken(self, batch: Batch) -> bool:
        """Whether this batch, or a later one of its source, is durable already."""
        if batch.source not in self._taken:
            self._taken[batch.source] = await self._store.taken_number(batch.source)
        return batch.number <= self._taken[batch.source]

    async def _end_doubt(self) -> None:
        """Ask whether the last commit was made after all, before anything is decided on top of it.

        If it was, its batches are taken, and its guilds hold less than the store: they are loaded anew.
        """
        if self._doubt is None:
            return
        marks, guild_ids = self._doubt
        if await self._store.taken_number(marks[0].source) >= marks[0].number:
            self._remember(marks)
            self._drop(guild_ids)
        self._doubt = None

    def _remember(self, marks: tuple[BatchMark, ...]) -> None:
        """Remember what was taken."""
        for mark in marks:
            self._taken[mark.source] = max(mark.number, self._taken.get(mark.source, 0))

    # -- guilds -----------------------------------------------------------------------------------

    def _owns_all(self, events: tuple[Event, ...]) -> bool:
        return all(
            event.guild_id in self._guilds or slot_of(event.guild_id) in self._slots for event in events
        )

    def _drop(self, guild_ids: Iterable[int]) -> None:
        """Deactivate guilds. The relays that watch them are cut off: they come back and ask anew."""
        dropped = [self._guilds.pop(guild_id) for guild_id in guild_ids if guild_id in self._guilds]
        for relay_id in {relay_id for guild in dropped for relay_id in guild.relays}:
            self._fan_out.end(relay_id)

    def _require_slot(self, guild_id: int) -> None:
        if slot_of(guild_id) not in self._slots:
            self._guilds.pop(guild_id, None)
            raise NotOwner(f"Guild {guild_id} is not on host {self._settings.host_id}.")

    async def _activate(self, guild_ids: set[int] | list[int]) -> dict[int, GuildActor]:
        """Return these guilds alive, loading those that sleep in one go."""
        async with self._activating:
            asleep = [guild_id for guild_id in guild_ids if guild_id not in self._guilds]
            if asleep:
                since_ms = hour_start(self._now_ms()) - (WINDOW_HOURS - 1) * HOUR_MS
                loaded = await self._store.load_guilds(asleep, since_ms)
                for guild_id in asleep:
                    self._activations += 1
                    epoch = (self._incarnation.number << EPOCH_BITS) | self._activations
                    state = loaded.get(guild_id) or GuildState(guild_id)
                    self._guilds[guild_id] = GuildActor(state, epoch)
            return {guild_id: self._guilds[guild_id] for guild_id in guild_ids}

    # -- what is shown ----------------------------------------------------------------------------

    def _publish(self, guilds: dict[int, GuildActor], events: list[Event], committed: Committed) -> None:
        """Show what is durable now: one frame a guild, to the relays that watch it."""
        frames: defaultdict[int, list[bytes]] = defaultdict(list)
        for event in events:
            guild = guilds[event.guild_id]
            if isinstance(event, ViolationDetected):
                view = violation_view(event, committed.committed_at_ms)
                frames[event.guild_id].append(guild.publish("violation", event.ts_ms, view.plain()))
            elif isinstance(event, BotPresenceChanged):
                frames[event.guild_id].append(
                    guild.publish("bot_status", event.ts_ms, {"online": event.online})
                )
        for view in committed.settled:
            guild = guilds[int(view.guild_id)]
            frames[guild.state.guild_id].append(guild.publish("violation", view.ts, view.plain()))
        for guild_id in {event.guild_id for event in events}:
            if guilds[guild_id].watched:
                self._metrics_due.setdefault(guild_id, committed.committed_at_ms)
        self._send(frames)

    async def _push_metrics_forever(self) -> None:
        """Push the counters of guilds that changed, at most once a second each."""
        while True:
            await asyncio.sleep(self._settings.metrics_every_ms / 1000)
            due, self._metrics_due = self._metrics_due, {}
            now_ms = self._now_ms()
            frames: dict[int, list[bytes]] = {}
            for guild_id in due:
                guild = self._guilds.get(guild_id)
                if guild is not None and guild.watched:
                    update = metrics_update(guild.state, now_ms).plain()
                    frames[guild_id] = [guild.publish("metrics_update", now_ms, update)]
            self._send(frames)

    def _send(self, frames: dict[int, list[bytes]]) -> None:
        """Hand each relay the frames of the guilds it watches: once a relay, never once a socket."""
        by_relay: defaultdict[str, list[Item]] = defaultdict(list)
        for guild_id, events in frames.items():
            guild = self._guilds.get(guild_id)
            if guild is None or not guild.watched:
                continue
            item = (guild_id, guild.offset, guild.frame(events))
            for relay_id in guild.relays:
                by_relay[relay_id].append(item)
        for relay_id, items in by_relay.items():
            self._fan_out.send(relay_id, items)

    # -- answers ----------------------------------------------------------------------------------

    def _busy(self) -> Busy:
        return Busy(self._settings.retry_after_ms)

    @staticmethod
    def _answer(waiting: _Waiting, reply: Reply) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # the caller may be gone
            waiting.reply.set_result(reply)

    def _answer_all(self, group: list[_Waiting], reply: Reply) -> None:
        for waiting in group:
            self._answer(waiting, reply)


def _decide(guilds: dict[int, GuildActor], events: list[Event]) -> dict[int, Decision]:
    """Return each guild's decision on its events, in the order they came."""
    by_guild: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_guild[event.guild_id].append(event)
    return {guild_id: guilds[guild_id].decide(own) for guild_id, own in by_guild.items()}


def _violations(events: list[Event]) -> set[UUID]:
    return {event.event_id for event in events if isinstance(event, ViolationDetected)}


def _without(events: list[Event], seen_before: set[UUID]) -> list[Event]:
    return [e for e in events if not (isinstance(e, ViolationDetected) and e.event_id in seen_before)]


def _distinct(events: list[Event]) -> list[Event]:
    """Drop a violation that the same group already names: Discord may send an event twice."""
    seen: set[UUID] = set()
    distinct: list[Event] = []
    for event in events:
        if isinstance(event, ViolationDetected):
            if event.event_id in seen:
                continue
            seen.add(event.event_id)
        distinct.append(event)
    return distinct


def _people(events: list[Event]) -> tuple[UserRef, ...]:
    return tuple(e.user for e in events if isinstance(e, ViolationDetected | MemberJoined))
