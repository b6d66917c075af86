"""The group commit: batches wait here, and go to the database together, one transaction at a time.

While a transaction is in flight the next batches gather, so the group grows with the load, and a lone
event waits for nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from functools import partial
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec
import structlog

from actors.guild import GuildActor
from actors.guild_table import GuildTable
from domain.errors import (
    BatchTaken,
    EventRefused,
    Fenced,
    HistoryTakenBack,
    MalformedBatch,
    RunnerReplaced,
    StoreUnavailable,
)
from domain.events import (
    Accepted,
    Batch,
    Busy,
    Event,
    MemberJoined,
    NotMine,
    Replaced,
    Reply,
    Sender,
    UserRef,
    ViolationDetected,
    encode_batch,
    encode_event,
)
from domain.guild import Decision
from domain.ports import BatchMark, Commit, Committed, GuildStore, Incarnation, PoisonEvent
from tasks import SupervisedTasks

log = structlog.get_logger()


class CommitSettings(msgspec.Struct, frozen=True):
    """How much a host takes on at once."""

    intake_events: int = 20_000
    """Events that may wait for a commit; beyond, shards are told to wait."""
    commit_events: int = 2_000
    """Events that one transaction takes at most."""
    retry_after_ms: int = 500
    late_after_s: float = 3.0
    """A transaction that takes longer says that the database is away: it need not refuse, it may hang."""


class CommitStats(msgspec.Struct, frozen=True):
    """What was made durable in this life."""

    waiting_events: int
    committed_events: int
    committed_batches: int
    commits: int
    poison_events: int
    store_available: bool


class Watch(Protocol):
    """What the group commit tells the host, at once and in order."""

    def owns(self, guild_id: int) -> bool:
        """Whether the guild is still this host's."""
        ...

    def placement_version(self) -> int:
        """Return the version by which it is not."""
        ...

    def committed(self, guilds: dict[int, GuildActor], events: list[Event], committed: Committed) -> None:
        """Hear what is durable from now on."""
        ...

    def forget(self, guild_ids: set[int]) -> None:
        """Deactivate guilds whose state is behind the store."""
        ...

    def fenced(self) -> None:
        """Give up everything: another life of this host has begun."""
        ...

    def store_changed(self, *, available: bool) -> None:
        """Hear that the database went away, or came back."""
        ...


class _Waiting(NamedTuple):
    batch: Batch
    poison: tuple[PoisonEvent, ...]
    reply: asyncio.Future[Reply]
    sender: Sender | None = None


class _Doubt(NamedTuple):
    """A commit whose answer was lost: made or not, all of it or nothing."""

    marks: tuple[BatchMark, ...]
    guild_ids: set[int]


class GroupCommit:
    """Owns the batches that wait and what is known of those taken. Killed, it loses only what it owns."""

    def __init__(
        self,
        settings: CommitSettings,
        store: GuildStore,
        incarnation: Incarnation,
        table: GuildTable,
        watch: Watch,
    ) -> None:
        self._settings = settings
        self._store = store
        self._incarnation = incarnation
        self._table = table
        self._watch = watch
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._waiting_events = 0
        self._taken: dict[str, int] = {}
        self._last: BatchMark | None = None
        """Of the last commit of this life."""
        self._doubt: _Doubt | None = None
        self._stopped = False
        self._turn = asyncio.Lock()
        self._committed_events = self._committed_batches = self._commits = self._poison_events = 0
        self._store_available = True
        self._tasks = SupervisedTasks("group commit")
        self._tasks.keep("commit", self._commit_forever)

    def offer(
        self, batch: Batch, poison: tuple[PoisonEvent, ...], sender: Sender | None = None
    ) -> asyncio.Future[Reply] | None:
        """Queue a batch; return what will be its answer, or None when there is no room."""
        waiting_then = self._waiting_events + len(batch.events)
        full = self._waiting_events > 0 and waiting_then > self._settings.intake_events
        if full or self._stopped:
            return None
        waiting = _Waiting(batch, poison, asyncio.get_running_loop().create_future(), sender)
        self._waiting_events += len(batch.events)
        self._waiting.put_nowait(waiting)
        return waiting.reply

    async def taken(self, source: str) -> int:
        """Return the highest number taken from a source, as far as the database knows.

        Never from memory: the source may be another host's, which takes more of it at any time.
        """
        async with self._turn:
            await self._end_doubt()
            return await self._store.taken_number(source)

    async def settle(self) -> None:
        """Return when no transaction is in flight, nor in doubt. Raises ``StoreUnavailable``."""
        async with self._turn:
            await self._end_doubt()

    async def confirm(self) -> None:
        """Make sure that the database holds what it held when this life last committed.

        Raises:
            HistoryTakenBack: it does not, so it was restored to an earlier time.

        """
        async with self._turn:
            await self._end_doubt()
            last = self._last
            if last is not None and await self._store.taken_number(last.source) < last.number:
                raise HistoryTakenBack(f"Batch {last.number} of {last.source} is gone.")

    async def stop(self) -> None:
        """Refuse what waits; its shards keep it."""
        self._stopped = True
        await self._tasks.stop()
        while not self._waiting.empty():
            _answer(self._waiting.get_nowait(), self.busy())

    def stats(self) -> CommitStats:
        """Return what was made durable."""
        return CommitStats(
            waiting_events=self._waiting_events,
            committed_events=self._committed_events,
            committed_batches=self._committed_batches,
            commits=self._commits,
            poison_events=self._poison_events,
            store_available=self._store_available,
        )

    def ailing(self) -> tuple[str, ...]:
        """Return what cannot go on: then nothing is made durable any more."""
        return self._tasks.ailing()

    def busy(self) -> Busy:
        """Return the answer that says: not now."""
        return Busy(self._settings.retry_after_ms)

    async def _commit_forever(self) -> None:
        while True:
            group = await self._next_group()
            try:
                async with self._turn:
                    await self._take(group)
            finally:
                self._answer_all(group, self.busy())  # whoever has no answer yet, as we are stopped

    async def _next_group(self) -> list[_Waiting]:
        """Wait for a batch; then take all that have gathered, up to a transaction's size."""
        group = [await self._waiting.get()]
        events = len(group[0].batch.events)
        while events < self._settings.commit_events and not self._waiting.empty():
            group.append(self._waiting.get_nowait())
            events += len(group[-1].batch.events)
        self._waiting_events -= events
        return group

    async def _take(self, group: list[_Waiting]) -> None:
        """Commit a group and answer every batch of it, whatever happens."""
        say_late = partial(self._note_store, available=False)
        late = asyncio.get_running_loop().call_later(self._settings.late_after_s, say_late)
        try:
            await self._commit_or_set_aside(group)
        except StoreUnavailable as error:
            # Nothing is known to be written; the shards send the same batches again.
            log.warning("commit_failed", host=self._incarnation.host_id, error=str(error))
            self._note_store(available=False)
            self._answer_all(group, self.busy())
        except Fenced as error:
            log.error("host_fenced", host=self._incarnation.host_id, error=str(error))  # noqa: TRY400
            self._watch.fenced()
            self._answer_all(group, NotMine(self._watch.placement_version()))
        except RunnerReplaced as error:
            log.warning("runner_replaced", lives=sorted(error.lives))
            rest = []
            for waiting in group:
                if (sender := waiting.sender) and (sender.runner_id, sender.incarnation) in error.lives:
                    _answer(waiting, Replaced())
                else:
                    rest.append(waiting)
            if rest:
                await self._take(rest)
        except BatchTaken:
            # A commit in doubt was made after we had asked. Ask again, from the database alone.
            self._taken.clear()
            self._watch.forget({event.guild_id for w in group for event in w.batch.events})
            self._answer_all(group, Busy(0))
        except Exception:
            # A bug of ours: tried again rather than given up, and loud until somebody looks.
            log.exception("commit_broke", host=self._incarnation.host_id, batches=len(group))
            self._answer_all(group, self.busy())
        finally:
            late.cancel()

    async def _commit_or_set_aside(self, group: list[_Waiting]) -> None:
        try:
            await self._commit(group)
        except EventRefused as error:
            await self._set_aside(group, error)
        else:
            self._note_store(available=True)

    async def _commit(self, group: list[_Waiting]) -> None:
        await self._end_doubt()
        fresh: list[_Waiting] = []
        for waiting in group:
            if await self._was_taken(waiting.batch):
                # At once, whatever becomes of the others: were it refused with them, because its guilds have
                # moved or this life is over, its shard would send the events under another number.
                self._acknowledge(waiting)
            else:
                fresh.append(waiting)
        guild_ids = {event.guild_id for waiting in fresh for event in waiting.batch.events}
        foreign = {guild_id for guild_id in guild_ids if not self._watch.owns(guild_id)}
        own: dict[tuple[str, int], _Waiting] = {}
        for waiting in fresh:
            batch = waiting.batch
            if foreign.isdisjoint(event.guild_id for event in batch.events):
                # A shard whose call failed may have its batch in the group twice.
                own[batch.source, batch.number] = waiting
            else:
                _answer(waiting, NotMine(self._watch.placement_version()))
        if own:
            await self._commit_fresh(list(own.values()))
        for waiting in fresh:
            self._acknowledge(waiting)

    def _acknowledge(self, waiting: _Waiting) -> None:
        credit = max(0, self._settings.intake_events - self._waiting_events)
        _answer(waiting, Accepted(waiting.batch.number, credit))

    async def _commit_fresh(self, group: list[_Waiting]) -> None:
        events = _distinct([event for waiting in group for event in waiting.batch.events])
        async with self._table.use(event.guild_id for event in events) as guilds:
            decisions = _decide(guilds, events)
            commit = _commit_of(group, events, decisions)
            try:
                committed = await self._store.commit(self._incarnation, commit)
            except StoreUnavailable:
                self._doubt = _Doubt(commit.marks, set(guilds))
                raise
            seen_before = _violations(events) - committed.new_violations
            if seen_before:
                events = _without(events, seen_before)
                decisions = _decide(guilds, events)
            for guild_id, (state, _) in decisions.items():
                guilds[guild_id].adopt(state)
            self._remember(commit.marks)
            self._commits += 1
            self._committed_batches += len(group)
            self._committed_events += len(events)
            self._poison_events += len(commit.poison)
            self._watch.committed(guilds, events, committed)

    async def _set_aside(self, group: list[_Waiting], error: EventRefused) -> None:
        """Find the events that the database will not take, put them aside, and take the rest.

        Each batch stands for itself, so that one shard's event costs no other shard's. What is refused once
        and then taken is tried again: a refusal may be of the moment, and nothing is set aside for that.
        """
        if len(group) > 1:
            for waiting in group:
                await self._take([waiting])
            return
        [waiting] = group
        batch = waiting.batch
        if await self._why_refused(group, _distinct(list(batch.events))) is None:
            await self._take_again(waiting, error)
            return
        refused = await self._find_refused(list(batch.events))
        if not refused:
            # Each event alone would be taken: it is the gaps, or what the events add up to, or the frame.
            log.error("batch_refused_whole", host=self._incarnation.host_id, error=str(error))
            if batch.gaps:
                alone = msgspec.structs.replace(batch, events=())
                poison = poison_event(batch, None, str(error), encode_batch(alone))
                rest = msgspec.structs.replace(batch, gaps=())
                await self._take([waiting._replace(batch=rest, poison=(*waiting.poison, poison))])
                return
            if not batch.events:
                _fail(waiting, MalformedBatch(str(error)))
                return
            refused = dict.fromkeys(range(len(batch.events)), str(error))
        aside = tuple(
            poison_event(batch, batch.events[i].guild_id, reason, encode_event(batch.events[i]))
            for i, reason in sorted(refused.items())
        )
        why = aside[0].reason
        log.error("events_set_aside", host=self._incarnation.host_id, events=len(aside), reason=why)
        good = tuple(event for i, event in enumerate(batch.events) if i not in refused)
        rest = msgspec.structs.replace(batch, events=good)
        await self._take([waiting._replace(batch=rest, poison=(*waiting.poison, *aside))])

    async def _take_again(self, waiting: _Waiting, error: EventRefused) -> None:
        """Commit once more what would be taken now; refused again, its shard keeps it and comes back."""
        log.warning("refused_for_a_moment", host=self._incarnation.host_id, error=str(error))
        try:
            await self._commit([waiting])
        except EventRefused as again:
            log.error("refused_again", host=self._incarnation.host_id, error=str(again))  # noqa: TRY400
            _answer(waiting, self.busy())
        else:
            self._note_store(available=True)

    async def _find_refused(self, events: list[Event]) -> dict[int, str]:
        """Return the places of the refused events, with the reasons, by halving."""
        refused: dict[int, str] = {}
        parts = [(0, len(events))] if events else []
        while parts:
            start, end = parts.pop()
            why = await self._why_refused([], events[start:end])
            if why is None:
                continue
            if end - start == 1:
                refused[start] = why
                continue
            middle = (start + end) // 2
            parts += [(start, middle), (middle, end)]
        return refused

    async def _why_refused(self, group: list[_Waiting], events: list[Event]) -> str | None:
        """Return why these batches with these events are refused now, or None: then they would be taken."""
        async with self._table.use(event.guild_id for event in events) as guilds:
            try:
                await self._store.probe(self._incarnation, _commit_of(group, events, _decide(guilds, events)))
            except EventRefused as error:
                return str(error)
        return None

    async def _was_taken(self, batch: Batch) -> bool:
        """Whether this batch, or a later one of its source, is durable already."""
        return batch.number <= await self._taken_number(batch.source)

    async def _taken_number(self, source: str) -> int:
        if source not in self._taken:
            self._taken[source] = await self._store.taken_number(source)
        return self._taken[source]

    async def _end_doubt(self) -> None:
        """Ask whether the last commit was made after all, before anything is decided on top of it.

        If it was, its batches are taken, and its guilds hold less than the store: they are loaded anew.
        """
        if self._doubt is None:
            return
        marks, guild_ids = self._doubt
        if await self._store.settled_number(self._incarnation, marks[0].source) >= marks[0].number:
            self._remember(marks)
            self._watch.forget(guild_ids)
        self._doubt = None

    def _remember(self, marks: tuple[BatchMark, ...]) -> None:
        self._last = marks[-1]
        for mark in marks:
            self._taken[mark.source] = max(mark.number, self._taken.get(mark.source, 0))

    def _note_store(self, *, available: bool) -> None:
        if available != self._store_available:
            self._store_available = available
            self._watch.store_changed(available=available)

    def _answer_all(self, group: list[_Waiting], reply: Reply) -> None:
        for waiting in group:
            _answer(waiting, reply)


def poison_event(batch: Batch, guild_id: int | None, why: str, payload: bytes) -> PoisonEvent:
    """Return a row of what is set aside; its reason may quote what no text of a database can hold."""
    return PoisonEvent(batch.source, batch.number, guild_id, why.replace("\0", "\\0"), payload)


def _fail(waiting: _Waiting, error: MalformedBatch) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        waiting.reply.set_exception(error)


def _answer(waiting: _Waiting, reply: Reply) -> None:
    """Answer once; the first answer stands, and the caller may be gone."""
    with contextlib.suppress(asyncio.InvalidStateError):
        waiting.reply.set_result(reply)


def _commit_of(group: list[_Waiting], events: list[Event], decisions: dict[int, Decision]) -> Commit:
    return Commit(
        effects=tuple(effect for _, effects in decisions.values() for effect in effects),
        users=_people(events),
        marks=_marks(group),
        gaps=tuple((w.batch.source, gap) for w in group for gap in w.batch.gaps),
        poison=tuple(poison for w in group for poison in w.poison),
        senders=tuple({waiting.sender for waiting in group if waiting.sender is not None}),
    )


def _marks(group: list[_Waiting]) -> tuple[BatchMark, ...]:
    """Return the highest number of each source."""
    highest: dict[str, int] = {}
    for waiting in group:
        batch = waiting.batch
        highest[batch.source] = max(batch.number, highest.get(batch.source, 0))
    return tuple(BatchMark(source, number) for source, number in highest.items())


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
