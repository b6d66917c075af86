"""The twin of the answers from a guild's violations: plain counting over the rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median_low
from uuid import UUID

import msgspec

from adapters.memory.database import MemoryDatabase, Row
from domain.audit import Change
from domain.errors import QueryTooSlow, VersionConflict
from domain.insights import (
    LATEST_RESPONSES,
    QUARTER_MS,
    Beyond,
    Offender,
    Reviewed,
    RuleRecord,
    Span,
    Wanted,
    review_details,
)
from domain.views import ReviewView, SeverityCounts, Verdict, ViolationView


class MemoryInsightStore:
    """Implements :class:`domain.insights.InsightStore`; while ``slow``, calls raise ``QueryTooSlow``."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.slow = False

    async def violations(
        self, guild_id: int, wanted: Wanted, *, limit: int, offset: int, beyond: Beyond | None = None
    ) -> tuple[list[ViolationView], int]:
        """See the port."""
        rows = [row for row in self._newest_first(guild_id) if self._fits(row, wanted)]
        page = rows
        if beyond is not None:
            place = (-beyond.ts_ms, -beyond.message_id, beyond.event_id)
            page = [row for row in rows if (_place(row) < place if beyond.newer else _place(row) > place)]
        if beyond is not None and beyond.newer:
            page = page[::-1][offset : offset + limit][::-1]
        else:
            page = page[offset : offset + limit]
        return [self._database.view(row) for row in page], len(rows)

    async def violation(self, guild_id: int, violation_id: UUID) -> ViolationView | None:
        """See the port."""
        row = self._find(guild_id, violation_id)
        return self._database.view(row) if row else None

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
        """See the port."""
        row = self._find(guild_id, violation_id)
        if row is None:
            return None
        before = self._database.view(row)
        by, said = str(change.by_user_id), before.review
        if said and (said.verdict, said.note, said.by) == (verdict, note, by):
            return Reviewed(before, changed=False)
        if (current := said.version if said else 0) != from_version:
            raise VersionConflict(current_version=current)
        self._database.reviews[row.key] = ReviewView(
            verdict=verdict, by=by, at=self._database.now_ms(), note=note, version=current + 1
        )
        after = self._database.view(row)
        details = review_details(before, after)
        self._database.write_audit([change.entry(guild_id, "violation.reviewed", str(violation_id), details)])
        return Reviewed(after, changed=True)

    async def response_ms(self, guild_id: int, span: Span) -> int | None:
        """See the port."""
        took = [
            max(0, row.settled_ms - row.violation.ts_ms)
            for row in self._newest_first(guild_id, span)
            if row.settled_ms is not None
        ]
        return median_low(took[:LATEST_RESPONSES]) if took else None

    async def escalated(self, guild_id: int, span: Span) -> int:
        """See the port."""
        mild: dict[int, int] = {}
        grave: dict[int, int] = {}
        for row in self._newest_first(guild_id, span):
            one = row.violation
            if one.severity in {"low", "medium"}:
                mild[one.user.user_id] = one.ts_ms
            else:
                grave.setdefault(one.user.user_id, one.ts_ms)
        return sum(first_ms < grave.get(user_id, first_ms) for user_id, first_ms in mild.items())

    async def offenders(
        self, guild_id: int, span: Span, *, limit: int, offset: int
    ) -> tuple[list[Offender], int]:
        """See the port."""
        rows: defaultdict[int, list[Row]] = defaultdict(list)
        for row in self._newest_first(guild_id, span):
            rows[row.violation.user.user_id].append(row)
        offenders = [
            Offender(user_id, _by_severity(theirs), theirs[0].violation.ts_ms)
            for user_id, theirs in sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
        return offenders[offset : offset + limit], len(offenders)

    async def rules(self, guild_id: int, span: Span) -> list[RuleRecord]:
        """See the port."""
        rows: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self._newest_first(guild_id, span):
            rows[row.violation.rule].append(row)
        before = Counter(row.violation.rule for row in self._newest_first(guild_id, span.before))
        records = [self._record(rule, rows.get(rule, []), before[rule]) for rule in {*rows, *before}]
        return sorted(records, key=lambda record: (-record.by_severity.total, record.rule))

    async def quarters(self, guild_id: int, span: Span) -> dict[int, int]:
        """See the port."""
        starts = (row.violation.ts_ms for row in self._newest_first(guild_id, span))
        return dict(Counter(ts_ms - ts_ms % QUARTER_MS for ts_ms in starts))

    def _newest_first(self, guild_id: int, span: Span | None = None) -> list[Row]:
        if self.slow:
            raise QueryTooSlow
        self._database.require()
        rows = [
            row
            for row in self._database.violations.values()
            if row.violation.guild_id == guild_id
            and (span is None or span.since_ms <= row.violation.ts_ms < span.until_ms)
        ]
        return sorted(rows, key=_place)

    def _find(self, guild_id: int, violation_id: UUID) -> Row | None:
        rows = self._newest_first(guild_id)
        return next((row for row in rows if row.violation.event_id == violation_id), None)

    def _fits(self, row: Row, wanted: Wanted) -> bool:
        one = row.violation
        review = self._database.reviews.get(row.key)
        return (
            wanted.severity in {None, one.severity}
            and wanted.detection in {None, one.detection}
            and wanted.user_id in {None, one.user.user_id}
            and wanted.rule in {None, one.rule}
            and (wanted.since_ms is None or one.ts_ms >= wanted.since_ms)
            and (wanted.until_ms is None or one.ts_ms < wanted.until_ms)
            and wanted.review in {None, *(("reviewed", review.verdict) if review else ("unreviewed",))}
        )

    def _record(self, rule: str, rows: list[Row], before: int) -> RuleRecord:
        actions = Counter(row.action_status for row in rows)
        verdicts = [review.verdict for row in rows if (review := self._database.reviews.get(row.key))]
        counts = msgspec.structs.replace(
            RuleRecord(rule, before=before),
            done=actions["done"],
            failed=actions["failed"],
            pending=actions["pending"],
            reviewed=len(verdicts),
            false_positives=verdicts.count("false_positive"),
        )
        return msgspec.structs.replace(counts, **_by_severity(rows).model_dump())


def _place(row: Row) -> tuple[int, int, UUID]:
    """Return by what rows are sorted, the newest first."""
    one = row.violation
    return -one.ts_ms, -one.message_id, one.event_id


def _by_severity(rows: list[Row]) -> SeverityCounts:
    counted = Counter(row.violation.severity for row in rows)
    return SeverityCounts(
        low=counted["low"], medium=counted["medium"], high=counted["high"], critical=counted["critical"]
    )
