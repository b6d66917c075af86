"""A shard runner: hears what happens in its shards' guilds, finds violations, acts, and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from actors.authority_reports import AuthorityReports, AuthoritySink
from actors.outbox import Outbox, OutboxSettings, OutboxStats
from actors.registration import Registration, RunnerDirector
from actors.routing import GuildDirectory
from actors.sender_fence import SenderFence
from domain.authority import AuthorityNotice
from domain.detection import (
    CompilePattern,
    DetectionRules,
    Detector,
    Finding,
    Message,
    content_hash,
    excerpt,
)
from domain.errors import GuildhallError
from domain.events import ActionSettled, ActionStatus, Event, Gap, ViolationDetected
from domain.ids import HOUR_MS, violation_id
from domain.ports import (
    BotConnection,
    BotProgress,
    NodeRef,
    PendingDeletion,
    Position,
    RunnerLife,
    Spool,
)
from tasks import SupervisedTasks

log = structlog.get_logger()

MAX_WAITING_DELETIONS = 2_000
DELETERS = 8
"""Deletions under way at once: each may wait out a channel's own rate limit, none waits for another's."""

SETTLED_KEPT_MS = 5_000
"""How a deletion ended is on disk by then."""

FLUSH_WITHIN_S = 5.0

NOTE_EVERY_S, STUCK_AFTER_S = 2.0, 30.0
"""How often a runner says until when everything is delivered, and hears whether it was replaced."""

PENDING_DAYS = 30
"""Deletions that nobody has told the end of are made if they are no older."""
PENDING_AT_ONCE = 500
PENDING_RETRY_S = 5.0
PENDING_LOOK_S = 0.1
ENDS_WITHIN_S = 5.0
"""For how long one that was replaced may take leave."""


class RunnerSettings(msgspec.Struct, frozen=True):
    """What one runner is to do."""

    runner_id: str
    rules: DetectionRules = DetectionRules()
    outbox: OutboxSettings = OutboxSettings()
    shard_ids: tuple[int, ...] = (0,)
    shard_count: int = 1


class RunnerPlace(NamedTuple):
    """The process that a runner has for itself."""

    find_node: Callable[[], NodeRef]
    end: Callable[[], None]
    """Ends it at once: it was replaced, and whatever it still did would be wrong."""


class RunnerStats(msgspec.Struct, frozen=True):
    """What a shard runner saw and did."""

    messages: int
    violations: int
    deletions_waiting: int
    outbox: OutboxStats
    progress: BotProgress = BotProgress(0, 0)
    ailing: tuple[str, ...] = ()
    """The loops of it that cannot go on."""


class ShardRunner:
    """Owns its shards' connections, and what is on the way to the hosts.

    Killed, it loses nothing that Discord still has: the next runner of its name delivers what is on disk, and
    takes the sessions up from there. Where Discord has a session no more, that is told as a gap.

    Replaced without knowing it, as when it hung or its node was cut off, it is told so by the first host or
    Director that it reaches; then it leaves Discord and ends.
    """

    def __init__(  # noqa: PLR0917 - remote.py hands them over in order
        self,
        settings: RunnerSettings,
        connect: Callable[[], BotConnection],
        find_director: Callable[[], RunnerDirector],
        compile_pattern: CompilePattern,
        now_ms: Callable[[], int],
        open_spool: Callable[[], Spool],
        find_authority: Callable[[], AuthoritySink],
        place: RunnerPlace,
    ) -> None:
        self._settings = settings
        self._open_spool = open_spool
        self._connect = connect
        self._find_director = find_director
        self._place = place
        self._fence = SenderFence()
        self._now_ms = now_ms
        self._detector = Detector(settings.rules, compile_pattern)
        self._bot: BotConnection
        self._outbox: Outbox
        self._authority = AuthorityReports(find_authority, settings.shard_count, now_ms)
        self._deletions: asyncio.Queue[PendingDeletion] = asyncio.Queue(MAX_WAITING_DELETIONS)
        self._deleters = SupervisedTasks(settings.runner_id)
        self._tasks = SupervisedTasks(settings.runner_id)
        self._unsettled: dict[UUID, PendingDeletion] = {}
        self._settled_ms: dict[UUID, int] = {}
        """When deletions were settled whose outcome may not be on disk yet, oldest first."""
        self._messages = self._violations = 0

    async def ping(self) -> None:
        """Return: its process has begun."""

    async def start(self, incarnation: int) -> None:
        """Register, log in and begin to connect; ``stats`` tells how far the shards are.

        ``incarnation`` is higher than that of any life before.

        Raises:
            BotRefused: Discord does not let the bot in.
            GuildhallError: nobody can say what an earlier life has done, and there is no spool that knows.

        """
        began_ms, director = self._now_ms(), self._find_director()
        directory = GuildDirectory(director)
        await directory.start()
        # A runner's life is a source of its own: its numbers start at one again.
        runner_id, outbox = self._settings.runner_id, self._settings.outbox
        source = f"{runner_id}@{incarnation}"
        self._outbox = Outbox(source, directory, self._open_spool(), self._now_ms, outbox, self._fence)
        self._bot = self._connect()
        life = RunnerLife(runner_id, incarnation, await asyncio.to_thread(self._place.find_node))
        registration = Registration(life, director, self._outbox, self._fence)
        earlier = await registration.begin()
        self._tasks.every("registration", NOTE_EVERY_S, registration.keep, stuck_after_s=STUCK_AFTER_S)
        self._tasks.keep("end once replaced", self._end_once_replaced, may_end=True)
        for number in range(DELETERS):
            self._deleters.keep(f"delete {number}", self._delete_forever)
        self._detector.recall(earlier.seen)
        await self._bot.start(self, earlier)
        self._authority.start(self._bot.shards)
        self._outbox.listening(
            self._bot.shards, self._bot.changed_guilds, self._detector.take_news, self._open_deletions
        )
        for deletion in earlier.deletions:
            # Harmless twice: a message that is gone counts as deleted, and an action settles once.
            self._delete(deletion)
        self._tasks.keep("pending", lambda: self._settle_pending(director, began_ms), may_end=True)

    async def stop(self, reason: str) -> None:
        """Leave the gateway, then deliver what is left, for a bounded time.

        Messages that are still to be deleted go to the spool: the next life deletes them.
        """
        log.info("runner_stops", reason=reason)
        await self._tasks.stop()
        await self._bot.stop()
        await self._authority.stop()
        await self._deleters.stop()
        try:
            await asyncio.wait_for(self._outbox.flush(), FLUSH_WITHIN_S)
        except TimeoutError:
            left = self._outbox.stats()
            log.warning("events_left_in_spool", events=left.waiting_events, batches=left.spooled_batches)
        await self._outbox.stop()

    async def stats(self) -> RunnerStats:
        """Return what was seen and done."""
        progress = self._bot.progress()
        return RunnerStats(
            self._messages,
            self._violations,
            self._deletions.qsize(),
            self._outbox.stats(),
            progress,
            (
                *progress.ailing,
                *self._deleters.ailing(),
                *self._tasks.ailing(),
                *self._outbox.ailing(),
                *self._authority.ailing(),
            ),
        )

    def on_event(self, event: Event, at: Position | None = None) -> None:
        """Report an event as it is."""
        self._outbox.add(event, at)

    def on_authority(self, notice: AuthorityNotice) -> None:
        """Tell at once, and beside the events, who lost or gained authority."""
        self._authority.add(notice)

    def on_gap(self, gap: Gap) -> None:
        """Report a time in which a shard did not listen."""
        self._outbox.report(gap)

    def on_message(self, message: Message, at: Position | None = None) -> None:
        """Count a message; if it breaks a rule, report that at once and have it deleted."""
        self._messages += 1
        self._outbox.count_message(message.guild_id, message.ts_ms, at)
        finding = self._detector.inspect(message)
        if finding is None:
            return
        self._violations += 1
        violation = _violation(message, finding)
        self._outbox.add(violation, at)
        self._delete(
            PendingDeletion(
                message.guild_id, violation.event_id, message.ts_ms, message.channel_id, message.message_id
            )
        )

    def _delete(self, deletion: PendingDeletion) -> None:
        self._unsettled[deletion.event_id] = deletion
        self._settled_ms.pop(deletion.event_id, None)
        try:
            self._deletions.put_nowait(deletion)
        except asyncio.QueueFull:
            self._settle(deletion, gone=False)

    def _open_deletions(self) -> tuple[PendingDeletion, ...]:
        """Return the deletions of which a later life cannot know how they ended."""
        until_ms = self._now_ms() - SETTLED_KEPT_MS
        for event_id in [event_id for event_id, at_ms in self._settled_ms.items() if at_ms < until_ms]:
            del self._settled_ms[event_id]
            self._unsettled.pop(event_id, None)
        return tuple(self._unsettled.values())

    async def _delete_forever(self) -> None:
        while True:
            deletion = await self._deletions.get()
            try:
                gone = await self._bot.delete_message(deletion.channel_id, deletion.message_id)
            except Exception:
                # Whatever it was, the moderators must see that the message is still there.
                log.exception("deletion_broke", guild=deletion.guild_id, message=deletion.message_id)
                gone = False
            self._settle(deletion, gone=gone)

    async def _settle_pending(self, director: RunnerDirector, began_ms: int) -> None:
        """Make the deletions that the database waits for and no life knows of: their spool was lost, say."""
        settings, since_ms, more = self._settings, began_ms - PENDING_DAYS * 24 * HOUR_MS, True
        while more:
            try:
                found = await director.pending_deletions(
                    settings.shard_ids, settings.shard_count, (since_ms, began_ms), PENDING_AT_ONCE
                )
            except GuildhallError as error:
                log.info("pending_not_found", runner=settings.runner_id, error=str(error))
                await asyncio.sleep(PENDING_RETRY_S)
                continue
            unknown = [deletion for deletion in found if deletion.event_id not in self._unsettled]
            for deletion in unknown:
                while self._deletions.qsize() >= DELETERS:  # noqa: ASYNC110 - what is found now goes first
                    await asyncio.sleep(PENDING_LOOK_S)
                self._delete(deletion)
            more = len(found) == PENDING_AT_ONCE and found[-1].ts_ms > since_ms
            since_ms = found[-1].ts_ms if found else since_ms

    async def _end_once_replaced(self) -> None:
        """Leave everything to the life that has begun since: the sessions, and what is told of the guilds."""
        await self._fence.replaced.wait()
        log.error("runner_ends", runner=self._settings.runner_id, reason="it was replaced")
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                await self._bot.stop()
        finally:
            self._place.end()

    def _settle(self, deletion: PendingDeletion, *, gone: bool) -> None:
        now_ms = self._now_ms()
        self._settled_ms[deletion.event_id] = now_ms
        status: ActionStatus = "done" if gone else "failed"
        self._outbox.add(ActionSettled(deletion.guild_id, deletion.event_id, deletion.ts_ms, status, now_ms))


def _violation(message: Message, finding: Finding) -> ViolationDetected:
    return ViolationDetected(
        guild_id=message.guild_id,
        event_id=violation_id(message.guild_id, message.message_id, finding.rule),
        channel_id=message.channel_id,
        channel_name=message.channel_name,
        message_id=message.message_id,
        user=message.author,
        detection=finding.detection,
        rule=finding.rule,
        severity=finding.severity,
        action="delete",
        action_status="pending",
        excerpt=excerpt(message.content),
        content_hash=content_hash(message.content),
        ts_ms=message.ts_ms,
    )
