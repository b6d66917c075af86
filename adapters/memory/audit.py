"""The twin of the audit log; the other twins write into the same database."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.memory.database import MemoryDatabase
from domain.audit import AuditEntry, AuditRow


class MemoryAuditLog:
    """Implements :class:`domain.audit.AuditLog`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """See the port."""
        self._database.require()
        self._database.write_audit(entries)

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
        self._database.require()
        rows = [
            row
            for row in self._database.audit
            if row.entry.guild_id == guild_id
            and action in (None, row.entry.action)
            and actor_id in (None, row.entry.actor_id)
        ]
        rows.sort(key=lambda row: (-row.at_ms, -row.audit_id))
        return rows[offset : offset + limit], len(rows)
