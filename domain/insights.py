"""What is asked of a guild's violations: over which time, by which filters, and who answers."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

import msgspec

from domain.audit import Change
from domain.events import Detection, Severity
from domain.ids import HOUR_MS, hour_start
from domain.views import SeverityCounts, Verdict, ViolationView

Period = Literal["hour", "day", "week", "month"]
PERIOD_HOURS: dict[Period, int] = {"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}

ReviewState = Literal["unreviewed", "reviewed", "confirmed", "false_positive", "dismissed"]

QUARTER_MS = HOUR_MS // 4
"""Every time zone's offset is a multiple of a quarter of an hour: counts by quarters fit all of them."""

LATEST_RESPONSES = 1_000
"""A period's response time is the median of so many of its violations, the latest."""


class Span(NamedTuple):
    """Whole UTC hours, from ``since_ms`` to before ``until_ms``."""

    since_ms: int
    until_ms: int

    @property
    def before(self) -> Span:
        """As many hours, directly before."""
        return Span(2 * self.since_ms - self.until_ms, self.since_ms)


def span_of(period: Period, now_ms: int) -> Span:
    """Return the hours of a period that ends at ``now_ms``: the running hour is its last one."""
    until_ms = hour_start(now_ms) + HOUR_MS
    return Span(until_ms - PERIOD_HOURS[period] * HOUR_MS, until_ms)


class Wanted(msgspec.Struct, frozen=True):
    """Which violations are asked for; what is None filters nothing."""

    severity: Severity | None = None
    detection: Detection | None = None
    user_id: int | None = None
    rule: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    """Before this, not at it."""
    review: ReviewState | None = None


class Beyond(NamedTuple):
    """A row of a list, of which the list goes on: towards older rows, or backwards towards newer ones."""

    ts_ms: int
    message_id: int
    event_id: UUID
    newer: bool = False


class Reviewed(NamedTuple):
    """A violation after a review; ``changed`` is false when the same person had said the same before."""

    violation: ViolationView
    changed: bool


class Offender(NamedTuple):
    """What a person did in a guild within a time."""

    user_id: int
    by_severity: SeverityCounts
    last_ms: int

    @property
    def violations(self) -> int:
        """Violations of every severity."""
        return self.by_severity.total


class RuleRecord(msgspec.Struct, frozen=True):
    """What became of a rule within a time."""

    rule: str
    low: int = 0
    medium: int = 0
    high: int = 0
    critical: int = 0
    done: int = 0
    failed: int = 0
    pending: int = 0
    """Actions that it called for, by how they ended."""
    reviewed: int = 0
    false_positives: int = 0
    before: int = 0
    """Its violations in as many hours directly before."""

    @property
    def by_severity(self) -> SeverityCounts:
        """Its violations."""
        return SeverityCounts(low=self.low, medium=self.medium, high=self.high, critical=self.critical)


class InsightStore(Protocol):
    """Answers from a guild's violations, and takes reviews of them.

    All calls raise ``StoreUnavailable`` when the database is away, and ``QueryTooSlow`` when it takes longer
    than a person waits.
    """

    async def violations(
        self, guild_id: int, wanted: Wanted, *, limit: int, offset: int, beyond: Beyond | None = None
    ) -> tuple[list[ViolationView], int]:
        """Return a page of what is wanted, newest first, and how many there are in all.

        ``offset`` rows are left out from the newest on or, where the page lies beyond a row, from that row
        on, which itself is not on the page.
        """
        ...

    async def violation(self, guild_id: int, violation_id: UUID) -> ViolationView | None:
        """Return a violation, or None when the guild has none of this id."""
        ...

    async def review(
        self,
        guild_id: int,
        violation_id: UUID,
        verdict: Verdict,
        note: str | None,
        *,
        from_version: int,
        change: Change,
    ) -> Reviewed | None:
        """Keep what a moderator said, in place of an earlier review, with its line in the audit log.

        ``from_version`` is the version of the review that they saw, 0 for none. Said again by the same
        person it changes nothing. None when the guild has no such violation.

        Raises:
            VersionConflict: somebody reviewed it meanwhile; nothing was changed.

        """
        ...

    async def response_ms(self, guild_id: int, span: Span) -> int | None:
        """Return the median time from a violation to the end of its action, in milliseconds.

        Of an even number the lower one; None when no action has ended.
        """
        ...

    async def escalated(self, guild_id: int, span: Span) -> int:
        """Count the people who went from low or medium violations to high or critical ones."""
        ...

    async def offenders(
        self, guild_id: int, span: Span, *, limit: int, offset: int
    ) -> tuple[list[Offender], int]:
        """Return a page of those with violations, who has most first, and how many they are in all."""
        ...

    async def rules(self, guild_id: int, span: Span) -> list[RuleRecord]:
        """Return each rule with violations within the time or as long before, who has most first."""
        ...

    async def quarters(self, guild_id: int, span: Span) -> dict[int, int]:
        """Count violations by quarters of an hour (their start, in Unix ms); those without are missing."""
        ...


def review_details(before: ViolationView, after: ViolationView) -> dict[str, Any]:
    """Return what the audit log keeps of a review, beside who and when."""
    return {
        "rule": after.rule,
        "before": before.review.plain() if before.review else None,
        "after": after.review.plain() if after.review else None,
    }
