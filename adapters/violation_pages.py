"""Pages of a guild's violations: how many there are of what is wanted, and the rows of one page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import msgspec

from adapters.insight_statements import statements
from adapters.postgres import to_datetime
from domain.ids import HOUR_MS, hour_start
from domain.insights import Beyond, Span, Wanted

_SQL = statements()

_HOUR = timedelta(hours=1)

_EVER_MS = Span(-62_135_596_800_000, 253_402_300_799_999)
"""The years 1 to 9999, which is all that a time of Python can say."""


class _Hours(NamedTuple):
    """Whole hours, and what is beside them at their ends."""

    since: datetime
    until: datetime
    edges: tuple[tuple[datetime, datetime], ...]


class _Place(NamedTuple):
    """How many violations there are, in which hours those of a page are, and behind how many others."""

    total: int
    hours: list[datetime]
    skipped: int


class ViolationPages:
    """Reads pages within one transaction, so that rows and total are of one moment.

    Where they lie is told by hourly counts, so that neither a total nor a page far down, nor one of a rule
    that is hardly ever broken, is found by looking at all rows. A person's rows have an index of their own.
    """

    def __init__(self, connection: Any, guild_id: int, wanted: Wanted) -> None:
        self._connection = connection
        self._guild_id = guild_id
        self._wanted = wanted

    async def read(self, limit: int, offset: int, beyond: Beyond | None) -> tuple[list[asyncpg.Record], int]:
        """Return the rows of a page, newest first, and how many there are in all."""
        if self._wanted.review not in {None, "unreviewed"}:
            rows = await self._rows("reviewed", limit, offset, beyond)
            return rows, await self._count("count_reviewed", self._wanted.review)
        if self._wanted.user_id is not None or not await self._is_counted():
            return await self._rows("violations", limit, offset, beyond), await self._count_rows()
        place = await self._locate(limit, offset, beyond)
        total = place.total if beyond is None else (await self._locate(0, 0, None)).total
        return await self._rows_at(place, limit, offset, beyond), total

    async def _is_counted(self) -> bool:
        """Whether hourly counts know everything that is wanted; those of no rule always do."""
        if self._wanted.rule is None and self._wanted.detection is None:
            return True
        since_ms, until_ms = self._wanted.since_ms, self._wanted.until_ms
        since = to_datetime(_EVER_MS.since_ms if since_ms is None else since_ms)
        until = to_datetime(_EVER_MS.until_ms if until_ms is None else until_ms)
        return bool(await self._connection.fetchval(_SQL["is_counted"], since, until))

    async def _locate(self, limit: int, offset: int, beyond: Beyond | None) -> _Place:
        of = "all" if self._wanted.rule is None and self._wanted.detection is None else "rules"
        hours = _hours_of(self._wanted, beyond)
        row = await self._connection.fetchrow(
            _SQL[_way(f"locate_of_{of}", beyond)],
            *self._parameters(self._wanted, limit, offset, beyond),
            hours.since,
            hours.until,
            [edge[0] for edge in hours.edges],
            [edge[1] for edge in hours.edges],
        )
        return _Place(row["total"], row["hours"] or [], row["skipped"])

    async def _rows_at(
        self, place: _Place, limit: int, offset: int, beyond: Beyond | None
    ) -> list[asyncpg.Record]:
        if not place.hours:
            return []
        first, last = place.hours[0], place.hours[-1]
        left = offset - place.skipped
        if (last - first) // _HOUR == len(place.hours) - 1:
            bounds = (first, last + _HOUR)
            return await self._rows("violations", limit, left, beyond, bounds=bounds)
        return await self._rows("violations_of_hours", limit, left, beyond, hours=place.hours)

    async def _rows(
        self,
        name: str,
        limit: int,
        offset: int,
        beyond: Beyond | None,
        *,
        bounds: tuple[datetime, datetime] | None = None,
        hours: list[datetime] | None = None,
    ) -> list[asyncpg.Record]:
        parameters = list(self._parameters(self._wanted, limit, offset, beyond))
        if bounds is not None:
            since, until = parameters[5:7]
            parameters[5:7] = [
                bounds[0] if since is None else max(since, bounds[0]),
                bounds[1] if until is None else min(until, bounds[1]),
            ]
        if hours is not None:
            parameters.append(hours)
        rows: list[asyncpg.Record] = await self._connection.fetch(_SQL[_way(name, beyond)], *parameters)
        return rows

    async def _count_rows(self) -> int:
        """Count by looking at each; reviews are few, so that those without one are the difference."""
        total = await self._count("count_violations")
        return total - await self._count("count_reviewed", "reviewed") if self._wanted.review else total

    async def _count(self, name: str, *review: str | None) -> int:
        return int(
            await self._connection.fetchval(_SQL[name], self._guild_id, *_filters(self._wanted), *review)
        )

    def _parameters(self, wanted: Wanted, limit: int, offset: int, beyond: Beyond | None) -> tuple[Any, ...]:
        """Return $1 to $13 of the statements that make pages."""
        place: tuple[Any, Any, Any] = (None, None, None)
        if beyond is not None:
            place = (to_datetime(beyond.ts_ms), beyond.message_id, beyond.event_id)
            wanted = _up_to(wanted, beyond)
        return (self._guild_id, *_filters(wanted), wanted.review, limit, offset, *place)


def _way(name: str, beyond: Beyond | None) -> str:
    return f"{name}_backwards" if beyond is not None and beyond.newer else name


def _up_to(wanted: Wanted, beyond: Beyond) -> Wanted:
    """Return what is wanted, from the row's time on or until it: only there an index has to look."""
    if beyond.newer:
        since_ms = beyond.ts_ms if wanted.since_ms is None else max(wanted.since_ms, beyond.ts_ms)
        return msgspec.structs.replace(wanted, since_ms=since_ms)
    until_ms = beyond.ts_ms + 1 if wanted.until_ms is None else min(wanted.until_ms, beyond.ts_ms + 1)
    return msgspec.structs.replace(wanted, until_ms=until_ms)


def _hours_of(wanted: Wanted, beyond: Beyond | None) -> _Hours:
    """Return the whole hours of a time, and its ends; that of a row beyond which it goes on is not whole."""
    if beyond is not None:
        wanted = _up_to(wanted, beyond)
    since_ms, until_ms = wanted.since_ms, wanted.until_ms
    first_ms = None if since_ms is None else _at_most(hour_start(since_ms + HOUR_MS - 1))
    last_ms = None if until_ms is None else hour_start(until_ms)
    if beyond is not None and beyond.newer:
        first_ms = max(first_ms or 0, _at_most(hour_start(beyond.ts_ms) + HOUR_MS))
    elif beyond is not None:
        last_ms = min(_EVER_MS.until_ms if last_ms is None else last_ms, hour_start(beyond.ts_ms))
    if since_ms is not None and until_ms is not None and (first_ms or 0) >= (last_ms or 0):
        nothing = to_datetime(0)
        within = (to_datetime(since_ms), to_datetime(until_ms))
        return _Hours(nothing, nothing, (within,) if since_ms < until_ms else ())
    edges = [
        (to_datetime(start), to_datetime(stop))
        for start, stop in ((since_ms, first_ms), (last_ms, until_ms))
        if start is not None and stop is not None and start < stop
    ]
    return _Hours(
        to_datetime(_EVER_MS.since_ms if first_ms is None else first_ms),
        to_datetime(_EVER_MS.until_ms if last_ms is None else last_ms),
        tuple(edges),
    )


def _at_most(ts_ms: int) -> int:
    """Return a time that there is: the hour after the last one lies in the year 10000, which has no date."""
    return min(ts_ms, _EVER_MS.until_ms)


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
