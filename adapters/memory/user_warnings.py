"""The twin of warnings in Postgres."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from adapters.memory.database import MemoryDatabase
from domain.audit import Change
from domain.user_warnings import UserWarnings


class MemoryWarningStore:
    """Implements :class:`domain.user_warnings.WarningStore`; ``rows`` is what hosts would have written."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.rows: dict[tuple[int, int], UserWarnings] = {}

    async def warned(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[UserWarnings], int]:
        """See the port."""
        self._database.require()
        rows = [row for (guild, _), row in self.rows.items() if guild == guild_id and row.count > 0]
        rows.sort(key=lambda row: (-row.count, -row.last_at_ms, row.user_id))
        return rows[offset : offset + limit], len(rows)

    async def warnings_of(self, guild_id: int, user_id: int) -> UserWarnings | None:
        """See the port."""
        self._database.require()
        return self.rows.get((guild_id, user_id))

    async def clear(self, guild_id: int, user_ids: Collection[int], *, change: Change) -> list[int]:
        """See the port."""
        self._database.require()
        had = [
            row
            for user_id in sorted(set(user_ids))
            if (row := self.rows.get((guild_id, user_id))) is not None and row.count > 0
        ]
        now_ms = self._database.now_ms()
        for row in had:
            self.rows[guild_id, row.user_id] = msgspec.structs.replace(
                row, count=0, cleared_by=change.by_user_id, cleared_at_ms=now_ms
            )
        self._database.write_audit(
            [
                change.entry(guild_id, "warnings.cleared", str(row.user_id), {"count": row.count})
                for row in had
            ]
        )
        return [row.user_id for row in had]
