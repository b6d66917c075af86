"""Answers from a guild's violations in Postgres, each within a bounded time, and reviews of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

from adapters.audit import write_audit
from adapters.insight_statements import statements
from adapters.offenders import Offenders
from adapters.postgres import INSIGHTS_CONNECTIONS, PostgresPool, StoreTooSlow, open_pool, to_datetime, to_ms
from adapters.rows import violation_from_row
from adapters.violation_pages import ViolationPages
from domain.audit import Change
from domain.errors import QueryTooSlow, VersionConflict
from domain.events import SEVERITIES
from domain.insights import (
    LATEST_RESPONSES,
    Beyond,
    Offender,
    Reviewed,
    RuleRecord,
    Span,
    Wanted,
    review_details,
)
from domain.views import ReviewView, Verdict, ViolationView

_SQL = statements()

TIMEOUT_MS = 5_000
"""A statement that takes longer is ended by Postgres."""

_REST_WITHIN_S = 3.0
"""What the wait for a connection and an answer's other statements may take beside one that takes so long."""

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

    def __init__(self, pool: PostgresPool, few_rows: int | None = None) -> None:
        self._pool = pool
        self._few_rows = few_rows

    @classmethod
    async def open(
        cls,
        database_url: str,
        *,
        timeout_ms: int = TIMEOUT_MS,
        settings: dict[str, str] | None = None,
        few_rows: int | None = None,
    ) -> PostgresInsightStore:
        """Connect, with connections of its own: what takes long here keeps nobody else waiting.

        Up to ``few_rows`` violations of a time are counted one by one to find offenders
        (:data:`adapters.offenders.FEW_ROWS`).
        """
        chosen = {**_SETTINGS, "statement_timeout": str(timeout_ms), **(settings or {})}
        within_s = timeout_ms / 1000 + _REST_WITHIN_S
        pool = await open_pool(
            database_url, max_size=INSIGHTS_CONNECTIONS, within_s=within_s, settings=chosen
        )
        return cls(pool, few_rows)

    async def close(self) -> None:
        """Let the connections go, at once."""
        await self._pool.close()

    async def violations(
        self, guild_id: int, wanted: Wanted, *, limit: int, offset: int, beyond: Beyond | None = None
    ) -> tuple[list[ViolationView], int]:
        """See the port. Rows and total are of one moment."""
        with _in_time():
            async with self._moment() as connection:
                rows, total = await ViolationPages(connection, guild_id, wanted).read(limit, offset, beyond)
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
            async with self._pool.transaction() as connection:
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
            async with self._moment() as connection:
                return await Offenders(connection, guild_id, span).escalated()

    async def offenders(
        self, guild_id: int, span: Span, *, limit: int, offset: int
    ) -> tuple[list[Offender], int]:
        """See the port."""
        with _in_time():
            async with self._moment() as connection:
                return await Offenders(connection, guild_id, span, self._few_rows).first(limit, offset)

    async def rules(self, guild_id: int, span: Span) -> list[RuleRecord]:
        """See the port."""
        both = Span(span.before.since_ms, span.until_ms)
        with _in_time():
            async with self._moment() as connection:
                name = "rules" if await _is_counted(connection, both) else "rules_of_rows"
                now = await connection.fetch(_SQL[name], guild_id, *_times(span))
                before = await connection.fetch(_SQL[name], guild_id, *_times(span.before))
                reviews = await connection.fetch(_SQL["rule_reviews"], guild_id, *_times(span))
        counts: dict[str, dict[str, int]] = {row["rule"]: {} for row in (*now, *before)}
        for row in now:
            counts[row["rule"]] |= {key: n for key, n in row.items() if key != "rule"}
        for row in before:
            counts[row["rule"]]["before"] = sum(row[severity] for severity in SEVERITIES)
        for row in reviews:
            counts[row["rule"]] |= {key: row[key] for key in ("reviewed", "false_positives")}
        records = [RuleRecord(rule, **of_rule) for rule, of_rule in counts.items()]
        return sorted(records, key=lambda record: (-record.by_severity.total, record.rule))

    async def quarters(self, guild_id: int, span: Span) -> dict[int, int]:
        """See the port."""
        with _in_time():
            async with self._moment() as connection:
                name = "quarters" if await _is_counted(connection, span) else "quarters_of_rows"
                rows = await connection.fetch(_SQL[name], guild_id, *_times(span))
        return {to_ms(row["quarter"]): row["violations"] for row in rows}

    @asynccontextmanager
    async def _moment(self) -> AsyncIterator[Any]:
        """Hold a connection whose statements all see the same rows."""
        async with self._pool.transaction(isolation="repeatable_read", readonly=True) as connection:
            yield connection


@contextmanager
def _in_time() -> Iterator[None]:
    """Turn what Postgres ended for taking too long into :class:`QueryTooSlow`."""
    try:
        yield
    except StoreTooSlow as error:
        raise QueryTooSlow from error


async def _is_counted(connection: Any, span: Span) -> bool:
    """Whether the rollups know all rows of a time."""
    return bool(await connection.fetchval(_SQL["is_counted"], *_times(span)))


def _times(span: Span) -> tuple[Any, Any]:
    return to_datetime(span.since_ms), to_datetime(span.until_ms)
