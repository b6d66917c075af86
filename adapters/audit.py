"""The audit log in Postgres. Whoever changes something writes its entries in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from adapters.postgres import PostgresPool, to_ms
from adapters.queries import load_queries
from domain.audit import AuditEntry, AuditRow

_SQL = load_queries("audit.sql")


async def write_audit(connection: Any, entries: Sequence[AuditEntry]) -> None:
    """Write entries with a connection (or pool) of asyncpg, as part of its transaction if one is open."""
    rows = [entry.storable() for entry in entries]
    await connection.execute(
        _SQL["write"],
        [row.guild_id for row in rows],
        [row.actor_id for row in rows],
        [row.action for row in rows],
        [row.target for row in rows],
        [msgspec.json.encode(row.details).decode() for row in rows],
        [row.request_id for row in rows],
    )


class PostgresAuditLog:
    """Implements :class:`domain.audit.AuditLog`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """See the port."""
        await write_audit(self._pool, entries)

    async def page(
        self,
        guild_id: int,
        *,
        limit: int,
        offset: int,
        action: str | None = None,
        actor_id: int | None = None,
    ) -> tuple[list[AuditRow], int]:
        """See the port."""
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_SQL["page"], guild_id, action, actor_id, limit, offset)
            total = await connection.fetchval(_SQL["count"], guild_id, action, actor_id)
        return [_row(row) for row in rows], int(total)


def _row(row: asyncpg.Record) -> AuditRow:
    entry = AuditEntry(
        guild_id=row["guild_id"],
        actor_id=row["actor_id"],
        action=row["action"],
        target=row["target"],
        details=msgspec.json.decode(row["details"]),
        request_id=row["request_id"],
    )
    return AuditRow(row["audit_id"], entry, to_ms(row["at"]))
