"""The records that people and scripts see, over HTTP and over the stream, in one shape for both."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from domain.events import SEVERITIES, Action, ActionStatus, Detection, Severity, ViolationDetected
from domain.guild import GuildState, HourCounts, window
from domain.ids import hour_start


class UserView(msgspec.Struct, frozen=True):
    """A person, as far as we know them: names are null when nobody has told us."""

    id: str
    username: str | None
    display_name: str | None
    avatar_url: str | None


class ViolationView(msgspec.Struct, frozen=True):
    """One violation as moderators see it."""

    id: UUID
    guild_id: str
    channel_id: str
    channel_name: str | None
    message_id: str
    user: UserView
    detection: Detection
    rule: str
    severity: Severity
    action: Action
    action_status: ActionStatus
    excerpt: str
    ts: int
    committed_at: int


def violation_view(violation: ViolationDetected, committed_at_ms: int) -> ViolationView:
    """Return a violation that was just committed, as moderators see it."""
    user = violation.user
    return ViolationView(
        id=violation.event_id,
        guild_id=str(violation.guild_id),
        channel_id=str(violation.channel_id),
        channel_name=violation.channel_name,
        message_id=str(violation.message_id),
        user=UserView(str(user.user_id), user.username, user.display_name, user.avatar_url),
        detection=violation.detection,
        rule=violation.rule,
        severity=violation.severity,
        action=violation.action,
        action_status=violation.action_status,
        excerpt=violation.excerpt,
        ts=violation.ts_ms,
        committed_at=committed_at_ms,
    )


def severity_counts(counts: HourCounts) -> dict[Severity, int]:
    """Return the violations of these counts by severity."""
    return {severity: getattr(counts, severity) for severity in SEVERITIES}


def metrics_update(state: GuildState, now_ms: int) -> dict[str, Any]:
    """Return the live counters of a guild: its last 24 hours, and the running hour by itself."""
    since, total = window(state, now_ms)
    this_hour = hour_start(now_ms)
    running = next((hour for hour in state.hours if hour.hour_ms == this_hour), HourCounts(this_hour))
    return {
        "since": since,
        "until": now_ms,
        "messages": total.messages,
        "violations": total.violations,
        "by_severity": severity_counts(total),
        "joins": total.joins,
        "leaves": total.leaves,
        "member_count": state.member_count,
        "bot_online": state.bot_online,
        "hour": {"ts": this_hour, "messages": running.messages, "violations": running.violations},
    }
