"""Warnings that a guild's members have, and what moderators do with them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import msgspec

from domain.audit import Change


class UserWarnings(msgspec.Struct, frozen=True):
    """How often somebody was warned since their warnings were last cleared."""

    user_id: int
    count: int
    last_at_ms: int
    cleared_by: int | None = None
    cleared_at_ms: int | None = None


class WarningStore(Protocol):
    """Where warnings are kept. All calls raise ``StoreUnavailable`` when the database is away."""

    async def warned(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[UserWarnings], int]:
        """Return a page of those who have warnings, most first, and how many they are."""
        ...

    async def warnings_of(self, guild_id: int, user_id: int) -> UserWarnings | None:
        """Return somebody's warnings, or None when they never had one."""
        ...

    async def clear(self, guild_id: int, user_ids: Collection[int], *, change: Change) -> list[int]:
        """Clear the warnings of these people; return whose there were any, each in the audit log."""
        ...
