"""A shard runner: hears what happens in its shards' guilds, finds violations, acts, and reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import UUID

import msgspec
import structlog

from actors.authority_reports import AuthorityReports, AuthoritySink
from actors.outbox import Outbox, OutboxSettings, OutboxStats
from actors.routing import GuildDirectory, RoutingSource
from actors.tasks import SupervisedTasks
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
from domain.events import ActionSettled, ActionStatus, Event, Gap, ViolationDetected
from domain.ids import violation_id
from domain.ports import BotConnection, BotProgress, PendingDeletion, Position, Spool

log = structlog.get_logger()

MAX_WAITING_DELETIONS = 2_000
DELETERS = 8
"""Deletions under way at once: each may wait out a channel's own rate limit, none waits for another's."""

SETTLED_KEPT_MS = 5_000
"""How a deletion ended is on disk by then."""

FLUSH_WITHIN_S = 5.0


class RunnerSettings(msgspec.Struct, frozen=True):
    """What one runner is to do."""

    runner_id: str
    rules: DetectionRules = DetectionRules()
    outbox: OutboxSettings = OutboxSettings()


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
    """

    def __init__(  # noqa: PLR0917 - remote.py hands them over in order
        self,
        settings: RunnerSettings,
        connect: Callable[[], BotConnection],
        find_routing: Callable[[], RoutingSource],
        compile_pattern: CompilePattern,
        now_ms: Callable[[], int],
        open_spool: Callable[[], Spool],
        find_authority: Callable[[], AuthoritySink],
    ) -> None:
        self._settings = settings
        self._open_spool = open_spool
        self._connect = connect
        self._find_routing = find_routing
        self._now_ms = now_ms
        self._detector = Detector(settings.rules, compile_pattern)
        self._bot: BotConnection
        self._outbox: Outbox
        self._authority = AuthorityReports(find_authority)
        self._deletions: asyncio.Queue[PendingDeletion] = asyncio.Queue(MAX_WAITING_DELETIONS)
        self._deleters = SupervisedTasks(settings.runner_id)
        self._unsettled: dict[UUID, PendingDeletion] = {}
        self._settled_ms: dict[UUID, int] = {}
        """When deletions were settled whose outcome may not be on disk yet, oldest first."""
        self._messages = self._violations = 0

    async def start(self) -> None:
        """Log in and begin to connect; ``stats`` tells how far the shards are. Raises ``BotRefused``."""
        directory = GuildDirectory(self._find_routing())
        await directory.start()
        # A runner's life is a source of its own: its numbers start at one again.
        source = f"{self._settings.runner_id}@{self._now_ms()}"
        self._outbox = Outbox(source, directory, self._open_spool(), self._now_ms, self._settings.outbox)
        earlier = await self._outbox.start()
        for number in range(DELETERS):
            self._deleters.keep(f"delete {number}", self._delete_forever)
        self._authority.start()
        self._bot = self._connect()
        self._detector.recall(earlier.seen)
        await self._bot.start(self, earlier)
        self._outbox.listening(
            self._bot.shards, self._bot.changed_guilds, self._detector.take_news, self._open_deletions
        )
        for deletion in earlier.deletions:
            # Harmless twice: a message that is gone counts as deleted, and an action settles once.
            self._delete(deletion)

    async def stop(self, reason: str) -> None:
        """Leave the gateway, then deliver what is left, for a bounded time."""
        log.info("runner_stops", reason=reason)
        await self._bot.stop()
        await self._authority.stop()
        await self._deleters.stop()
        while not self._deletions.empty():
            self._settle(self._deletions.get_nowait(), gone=False)
        try:
            await asyncio.wait_for(self._outbox.flush(), FLUSH_WITHIN_S)
        except TimeoutError:
            left = self._outbox.stats()
            log.warning("events_left_in_spool", events=left.waiting_events, batches=left.spooled_batches)
        await self._outbox.stop()

    async def stats(self) -> RunnerStats:
        """Return what was seen and done."""
        return RunnerStats(
            self._messages,
            self._violations,
            self._deletions.qsize(),
            self._outbox.stats(),
            self._bot.progress(),
            (*self._deleters.ailing(), *self._outbox.ailing(), *self._authority.ailing()),
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
            except asyncio.CancelledError:
                self._settle(deletion, gone=False)
                raise
            except Exception:
                # Whatever it was, the moderators must see that the message is still there.
                log.exception("deletion_broke", guild=deletion.guild_id, message=deletion.message_id)
                gone = False
            self._settle(deletion, gone=gone)

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
