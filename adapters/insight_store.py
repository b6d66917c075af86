"""Answers from a guild's violations in Postgres, each within a bounded time, and reviews of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from adapters.audit import write_audit
from adapters.postgres import INSIGHTS_CONNECTIONS, open_pool, to_datetime, to_ms, unavailable_when_away
from adapters.queries import load_queries
from adapters.rows import violation_from_row
from domain.audit import Change
from domain.errors import QueryTooSlow, VersionConflict
from domain.insights import (
    LATEST_RESPONSES,
    Offender,
    Reviewed,
    RuleRecord,
    Span,
    Wanted,
    review_details,
)
from domain.views import ReviewView, SeverityCounts, Verdict, ViolationView

_PARTS = load_queries("insights.sql")
_SQL = {
    name: statement.replace("/* wanted */", _PARTS["wanted"]).replace("/* shown */", _PARTS["shown"])
    for name, statement in _PARTS.items()
}

TIMEOUT_MS = 5_000
"""A statement that takes longer is ended by Postgres."""

_SETTINGS = {
    # Which filters there are, and how many months a span has, decides how a statement is best run.
    "plan_cache_mode": "force_custom_plan",
    # Tens of thousands of people are counted in memory.
    "work_mem": "64MB",
    # Databases lie on SSDs. By default Postgres reads whole months rather than a guild's part of an index.
    "random_page_cost": "1.1",
    "jit": "off",
}


class PostgresInsightStore:
    """Implements :class:`domain.insights.InsightStore`."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @classmethod
    async def open(
        cls, database_url: str, *, timeout_ms: int = TIMEOUT_MS, settings: dict[str, str] | None = None
    ) -> PostgresInsightStore:
        """Connect, with connections of its own: what takes long here keeps nobody else waiting."""
        chosen = {**_SETTINGS, "statement_timeout": str(timeout_ms), **(settings or {})}
        return cls(await open_pool(database_url, max_size=INSIGHTS_CONNECTIONS, settings=chosen))

    async def close(self) -> None:
        """Let the connections go, at once."""
        self._pool.terminate()

    async def violations(
        self, guild_id: int, wanted: Wanted, *, limit: int, offset: int
    ) -> tuple[list[ViolationView], int]:
        """See the port. Rows and total are of one moment."""
        with _in_time():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                rows = await _page(connection, guild_id, wanted, limit, offset)
                # The last page of several tells itself how many there are.
                last = 0 < len(rows) < limit or (not rows and not offset)
                total = offset + len(rows) if last else await _count(connection, guild_id, wanted)
        return [violation_from_row(row) for row in rows], total

    async def violation(self, guild_id: int, violation_id: UUID) -> ViolationView | None:
        """See the port."""
        with _in_time():
            row = await self._pool.fetchrow(_SQL["violation"], violation_id, guild_id)
        return violation_from_row(row) if row else None

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
        with _in_time():
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_SQL["lock_review"], violation_id)
                row = await connection.fetchrow(_SQL["violation"], violation_id, guild_id)
                if row is None:
                    return None
                violation = violation_from_row(row)
                by, before = change.by_user_id, violation.review
                if before and (before.verdict, before.note, before.by) == (verdict, note, str(by)):
                    return Reviewed(violation, changed=False)
                if (current := before.version if before else 0) != from_version:
                    raise VersionConflict(current_version=current)
                written = await connection.fetchrow(
                    _SQL["write_review"], violation_id, guild_id, verdict, note, by
                )
                if written is None:
                    return None  # it went this moment, because it was old enough
                at, version = to_ms(written["reviewed_at"]), written["version"]
                review = ReviewView(verdict=verdict, by=str(by), at=at, note=note, version=version)
                after = violation.model_copy(update={"review": review})
                entry = change.entry(
                    guild_id, "violation.reviewed", str(violation_id), review_details(violation, after)
                )
                await write_audit(connection, [entry])
        return Reviewed(after, changed=True)

    async def response_ms(self, guild_id: int, span: Span) -> int | None:
        """See the port."""
        with _in_time():
            median: int | None = await self._pool.fetchval(
                _SQL["response_ms"], guild_id, *_times(span), LATEST_RESPONSES
            )
        return median

    async def escalated(self, guild_id: int, span: Span) -> int:
        """See the port."""
        with _in_time():
            return int(await self._pool.fetchval(_SQL["escalated"], guild_id, *_times(span)))

    async def offenders(
        self, guild_id: int, span: Span, *, limit: int, offset: int
    ) -> tuple[list[Offender], int]:
        """See the port."""
        with _in_time():
            rows = await self._pool.fetch(_SQL["offenders"], guild_id, *_times(span), limit, offset)
        offenders = [
            Offender(
                row["user_id"],
                SeverityCounts(
                    low=row["low"], medium=row["medium"], high=row["high"], critical=row["critical"]
                ),
                to_ms(row["last_at"]),
            )
            for row in rows
            if row["user_id"] is not None
        ]
        return offenders, rows[0]["total"]

    async def rules(self, guild_id: int, span: Span) -> list[RuleRecord]:
        """See the port."""
        with _in_time():
            async with (
                self._pool.acquire() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                now = await connection.fetch(_SQL["rules"], guild_id, *_times(span))
                before = await connection.fetch(_SQL["rules_before"], guild_id, *_times(span.before))
                reviews = await connection.fetch(_SQL["rule_reviews"], guild_id, *_times(span))
        counts: dict[str, dict[str, int]] = {row["rule"]: {} for row in (*now, *before)}
        for row in now:
            of_rule = counts[row["rule"]]
            for name in (row["severity"], row["action_status"]):
                of_rule[name] = of_rule.get(name, 0) + row["violations"]
        for row in before:
            counts[row["rule"]]["before"] = row["violations"]
        for row in reviews:
            counts[row["rule"]] |= {key: row[key] for key in ("reviewed", "false_positives")}
        records = [
            RuleRecord(rule, **{name: n for name, n in of_rule.items() if name != "none"})
            for rule, of_rule in counts.items()
        ]
        return sorted(records, key=lambda record: (-record.by_severity.total, record.rule))

    async def quarters(self, guild_id: int, span: Span) -> dict[int, int]:
        """See the port."""
        with _in_time():
            rows = await self._pool.fetch(_SQL["quarters"], guild_id, *_times(span))
        return {to_ms(row["quarter"]): row["violations"] for row in rows}


@contextmanager
def _in_time() -> Iterator[None]:
    """Turn what Postgres ended for taking too long into :class:`QueryTooSlow`."""
    with unavailable_when_away():
        try:
            yield
        except asyncpg.QueryCanceledError as error:
            raise QueryTooSlow from error


async def _page(
    connection: Any, guild_id: int, wanted: Wanted, limit: int, offset: int
) -> list[asyncpg.Record]:
    """Return the rows of a page of what is wanted."""
    name = "violations" if wanted.review in {None, "unreviewed"} else "reviewed"
    rows: list[asyncpg.Record] = await connection.fetch(
        _SQL[name], guild_id, *_filters(wanted), wanted.review, limit, offset
    )
    return rows


async def _count(connection: Any, guild_id: int, wanted: Wanted) -> int:
    """Return how many violations there are of what is wanted."""
    of_all = msgspec.structs.replace(wanted, review=None)
    match wanted.review:
        case None if wanted == Wanted(severity=wanted.severity):
            return int(await connection.fetchval(_SQL["count_by_hours"], guild_id, wanted.severity))
        case None:
            return int(await connection.fetchval(_SQL["count_violations"], guild_id, *_filters(wanted)))
        case "unreviewed":
            # Reviews are few: to count all, and those with a review, is less than to look at each.
            reviewed = msgspec.structs.replace(wanted, review="reviewed")
            return await _count(connection, guild_id, of_all) - await _count(connection, guild_id, reviewed)
        case review:
            return int(await connection.fetchval(_SQL["count_reviewed"], guild_id, *_filters(wanted), review))


def _filters(wanted: Wanted) -> tuple[Any, ...]:
    """Return the parameters $2 to $7 of the statements that filter."""
    return (
        wanted.severity,
        wanted.detection,
        wanted.user_id,
        wanted.rule,
        None if wanted.since_ms is None else to_datetime(wanted.since_ms),
        None if wanted.until_ms is None else to_datetime(wanted.until_ms),
    )


def _times(span: Span) -> tuple[Any, Any]:
    return to_datetime(span.since_ms), to_datetime(span.until_ms)
