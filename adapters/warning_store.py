"""Warnings in Postgres."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from adapters.audit import write_audit
from adapters.postgres import PostgresPool, to_ms
from adapters.queries import load_queries
from domain.audit import Change
from domain.user_warnings import UserWarnings

_SQL = load_queries("warnings.sql")


class PostgresWarningStore:
    """Implements :class:`domain.user_warnings.WarningStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def warned(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[UserWarnings], int]:
        """See the port."""
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_SQL["warned"], guild_id, limit, offset)
            total = await connection.fetchval(_SQL["count_warned"], guild_id)
        return [_warnings(row) for row in rows], int(total)

    async def warnings_of(self, guild_id: int, user_id: int) -> UserWarnings | None:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["warnings_of"], guild_id, user_id)
        return _warnings(row) if row else None

    async def clear(self, guild_id: int, user_ids: Collection[int], *, change: Change) -> list[int]:
        """See the port."""
        async with self._pool.transaction() as connection:
            rows = await connection.fetch(_SQL["clear"], guild_id, list(user_ids), change.by_user_id)
            entries = [
                change.entry(guild_id, "warnings.cleared", str(row["user_id"]), {"count": row["count"]})
                for row in rows
            ]
            if entries:
                await write_audit(connection, entries)
        return sorted(row["user_id"] for row in rows)


def _warnings(row: asyncpg.Record) -> UserWarnings:
    cleared_at = row["cleared_at"]
    return UserWarnings(
        user_id=row["user_id"],
        count=row["count"],
        last_at_ms=to_ms(row["last_at"]),
        cleared_by=row["cleared_by"],
        cleared_at_ms=to_ms(cleared_at) if cleared_at else None,
    )
