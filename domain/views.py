"""The records that people and scripts see, over HTTP and over the stream, in one shape for both."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from domain.events import Action, ActionStatus, Detection, Severity, UserRef, ViolationDetected
from domain.guild import GuildState, HourCounts, window
from domain.ids import hour_start

Verdict = Literal["confirmed", "false_positive", "dismissed"]
"""What a moderator says of a violation: it is one, it is none, or it is not worth the trouble."""


class View(BaseModel):
    """A record that leaves the house. Ids are strings, times are Unix milliseconds."""

    model_config = ConfigDict(frozen=True)

    def plain(self) -> dict[str, Any]:
        """Return the record as it stands in JSON."""
        return self.model_dump(mode="json")


class UserView(View):
    """A person, as far as we know them: names are null when nobody has told us."""

    id: str
    username: str | None
    display_name: str | None
    avatar_url: str | None


class ReviewView(View):
    """What a moderator said of a violation; of several reviews the last one stands."""

    verdict: Verdict
    by: str
    """The moderator's id."""
    at: int
    note: str | None
    version: int
    """Counts the reviews that the violation had, this one included."""


class ViolationView(View):
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
    review: ReviewView | None


class SeverityCounts(View):
    """Violations by severity."""

    low: int
    medium: int
    high: int
    critical: int

    @property
    def total(self) -> int:
        """Violations of every severity."""
        return self.low + self.medium + self.high + self.critical


class HourView(View):
    """One bucket of a chart; ``ts`` is its start."""

    ts: int
    messages: int
    violations: int


class MetricsUpdate(View):
    """The live counters of a guild: its last 24 hours, and the running hour by itself."""

    since: int
    until: int
    messages: int
    violations: int
    by_severity: SeverityCounts
    joins: int
    leaves: int
    member_count: int | None
    bot_online: bool
    hour: HourView


def violation_view(violation: ViolationDetected, committed_at_ms: int) -> ViolationView:
    """Return a violation that was just committed, as moderators see it."""
    user = violation.user
    return ViolationView(
        id=violation.event_id,
        guild_id=str(violation.guild_id),
        channel_id=str(violation.channel_id),
        channel_name=violation.channel_name,
        message_id=str(violation.message_id),
        user=user_view(user),
        detection=violation.detection,
        rule=violation.rule,
        severity=violation.severity,
        action=violation.action,
        action_status=violation.action_status,
        excerpt=violation.excerpt,
        ts=violation.ts_ms,
        committed_at=committed_at_ms,
        review=None,
    )


def user_view(user: UserRef) -> UserView:
    """Return a person as they were when something happened."""
    return UserView(
        id=str(user.user_id),
        username=user.username,
        display_name=user.display_name,
        avatar_url=user.avatar_url,
    )


def severity_counts(counts: HourCounts) -> SeverityCounts:
    """Return the violations of these counts by severity."""
    return SeverityCounts(low=counts.low, medium=counts.medium, high=counts.high, critical=counts.critical)


def hour_view(counts: HourCounts) -> HourView:
    """Return an hour as a chart's bucket."""
    return HourView(ts=counts.hour_ms, messages=counts.messages, violations=counts.violations)


def metrics_update(state: GuildState, now_ms: int) -> MetricsUpdate:
    """Return the live counters of a guild at ``now_ms``."""
    since, total = window(state, now_ms)
    this_hour = hour_start(now_ms)
    running = next((hour for hour in state.hours if hour.hour_ms == this_hour), HourCounts(this_hour))
    return MetricsUpdate(
        since=since,
        until=now_ms,
        messages=total.messages,
        violations=total.violations,
        by_severity=severity_counts(total),
        joins=total.joins,
        leaves=total.leaves,
        member_count=state.member_count,
        bot_online=state.bot_online,
        hour=hour_view(running),
    )
