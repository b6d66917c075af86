"""Deletes violations that are old enough: whole months, and rows of guilds that want it sooner.

So it does with actions that wait for a violation that never came.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import asyncpg

from adapters.postgres import to_datetime, unavailable_when_away
from adapters.queries import load_queries

_SQL = load_queries("retention.sql")

BATCH_ROWS = 5_000
"""What one transaction deletes: about a tenth of a second."""

_DROP_TIMEOUT_S = 600.0
"""Hours of a whole month are deleted before its rows are dropped; nobody waits for that meanwhile."""


async def forget(pool: asyncpg.Pool[asyncpg.Record], now_ms: int, retention_days: int) -> bool:
    """See :meth:`domain.ports.GuildStore.forget`."""
    now = to_datetime(now_ms)
    oldest = now - timedelta(days=retention_days)
    with unavailable_when_away():
        # Where the table is in use, the months go another time.
        with suppress(asyncpg.LockNotAvailableError):
            await pool.execute(_SQL["drop_months"], oldest, timeout=_DROP_TIMEOUT_S)
        unclaimed: int = await pool.fetchval(_SQL["delete_early_actions"], oldest, BATCH_ROWS)
        deleted: int = await pool.fetchval(_SQL["delete_batch"], now, retention_days, BATCH_ROWS)
    return BATCH_ROWS in {unclaimed, deleted}
