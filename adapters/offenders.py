"""Who broke most rules of a guild within a time, and who went from bad to worse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg

from adapters.insight_statements import statements
from adapters.postgres import to_datetime, to_ms
from domain.ids import HOUR_MS
from domain.insights import Offender, Span
from domain.views import SeverityCounts

_SQL = statements()

FEW_ROWS = 40_000
"""Up to so many violations of a time are counted one by one: sooner done than finding who has most."""

MAX_ASKED = 1_000
"""Where rollups cannot tell it of more people, as while they are made, all rows are looked at."""

MAX_CANDIDATES = 2_000
"""Where more people may have most violations, because all have about as many, everybody's are counted."""

_KNOWN = 2
"""Of their last two weeks and their last two months it is known how many violations a person has."""


_LIGHT = 31
"""Who is not called heavy has so many at most in their last two months."""

_WEEK_MS = 7 * 24 * HOUR_MS


class Offenders:
    """Answers about people within one transaction, so that all that is asked is of one moment."""

    def __init__(self, connection: Any, guild_id: int, span: Span, few_rows: int | None = None) -> None:
        self._connection = connection
        self._few_rows = FEW_ROWS if few_rows is None else few_rows
        self._guild_id = guild_id
        self._times = (to_datetime(span.since_ms), to_datetime(span.until_ms))
        self._within_weeks = _week(span.until_ms - 1) - _week(span.since_ms) < _KNOWN
        self._within_months = _month(span.until_ms - 1) - _month(span.since_ms) < _KNOWN

    async def escalated(self) -> int:
        """Count the people who went from low or medium violations to high or critical ones."""
        if await self._is_counted() and (people := await self._people()):
            escalated: int = people["escalated"]
            if people["asked"]:
                escalated += (await self._fetch("escalated_of", people["asked"]))[0]["people"]
            return escalated
        return int((await self._fetch("escalated_of", None))[0]["people"])

    async def first(self, limit: int, offset: int) -> tuple[list[Offender], int]:
        """Return a page of those with violations, who has most first, and how many they are in all."""
        known = self._within_weeks or self._within_months
        told = known and await self._is_busy() and await self._is_counted()
        if told and (people := await self._people()):
            # Nearly always it is the heavy ones who are first.
            for heavy, most in ((True, min(3 * (offset + limit), MAX_CANDIDATES)), (False, MAX_CANDIDATES)):
                likely, next_most = await self._likely(most, heavy=heavy)
                found = await self._first_of(people, likely, next_most, limit, offset)
                if found is not None:
                    return found
        rows = await self._fetch("offenders", limit, offset)
        return [_offender(row) for row in rows if row["user_id"] is not None], rows[0]["total"]

    async def _likely(self, most: int, *, heavy: bool) -> tuple[list[int], int]:
        """Return who may have most violations, and how many somebody else has at most."""
        rows = await self._fetch("likely_offenders", most + 1, not self._within_weeks, heavy)
        next_most = rows[most]["most"] if len(rows) > most else 0
        return [row["user_id"] for row in rows[:most]], max(next_most, _LIGHT) if heavy else next_most

    async def _first_of(
        self, people: asyncpg.Record, likely: list[int], next_most: int, limit: int, offset: int
    ) -> tuple[list[Offender], int] | None:
        """Return the page if nobody else can be on it."""
        asked = people["asked"]
        rows = await self._fetch("offenders_of", [*asked, *likely])
        offenders = sorted(map(_offender, rows), key=lambda one: (-one.violations, one.user_id))
        total = people["known"] + len({one.user_id for one in offenders}.intersection(asked))
        if offset >= total:
            return [], total
        last = min(offset + limit, total)
        sure = len(offenders) >= last and offenders[last - 1].violations > next_most
        return (offenders[offset:last], total) if sure else None

    async def _is_busy(self) -> bool:
        busy = await self._connection.fetchval(_SQL["busy"], self._guild_id, *self._times)
        return bool(busy > self._few_rows)

    async def _is_counted(self) -> bool:
        return bool(await self._connection.fetchval(_SQL["is_counted"], *self._times))

    async def _people(self) -> asyncpg.Record | None:
        """Return what rollups tell of people, or None when they do not tell enough."""
        [people] = await self._fetch("people", MAX_ASKED + 1)
        return people if len(people["asked"]) <= MAX_ASKED else None

    async def _fetch(self, name: str, *parameters: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._connection.fetch(
            _SQL[name], self._guild_id, *self._times, *parameters
        )
        return rows


def _week(ts_ms: int) -> int:
    return ts_ms // _WEEK_MS


def _month(ts_ms: int) -> int:
    moment = datetime.fromtimestamp(ts_ms / 1000, UTC)
    return 12 * moment.year + moment.month


def _offender(row: asyncpg.Record) -> Offender:
    counts = SeverityCounts(low=row["low"], medium=row["medium"], high=row["high"], critical=row["critical"])
    return Offender(row["user_id"], counts, to_ms(row["last_at"]))
