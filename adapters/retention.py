"""Deletes what is old enough: whole months of violations, and rows of guilds that want it sooner.

So it does with what belongs to them: reviews, hourly counts, and actions that wait for a violation that never
came; and with placements that are long replaced.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta

import asyncpg

from adapters.postgres import PostgresPool, to_datetime
from adapters.queries import load_queries
from domain.placement import PLACEMENTS_KEPT

_SQL = load_queries("retention.sql")

BATCH_ROWS = 5_000
"""What one transaction deletes: about a tenth of a second."""

_TURN_S = 0.5
"""For so long one call deletes batch after batch; then whoever calls looks after other things."""


async def forget(pool: PostgresPool, now_ms: int, retention_days: int) -> bool:
    """See :meth:`domain.ports.GuildStore.forget`."""
    now = to_datetime(now_ms)
    oldest = now - timedelta(days=retention_days)
    # Nothing else is done before these locks are had: where tables are in use, months go another time.
    with suppress(asyncpg.LockNotAvailableError):
        await pool.execute(_SQL["drop_months"], oldest)
    until = time.monotonic() + _TURN_S
    while True:
        deleted = [
            await pool.fetchval(_SQL["delete_strays"], BATCH_ROWS),
            await pool.fetchval(_SQL["delete_reviews"], BATCH_ROWS),
            await pool.fetchval(_SQL["delete_early_actions"], oldest, BATCH_ROWS),
            await pool.fetchval(_SQL["delete_placements"], PLACEMENTS_KEPT, BATCH_ROWS),
            await pool.fetchval(_SQL["delete_batch"], now, retention_days, BATCH_ROWS),
        ]
        more = BATCH_ROWS in deleted or await _delete_hours(pool)
        if not more or time.monotonic() >= until:
            return more


async def _delete_hours(pool: PostgresPool) -> bool:
    """Delete hours and people of some guilds; return whether there are more."""
    done = await pool.fetchrow(_SQL["delete_hours"], BATCH_ROWS)
    if done is None:
        return False
    for guild_id in done["guilds"]:  # what is left of these when it breaks off here goes with the next month
        await pool.execute(_SQL["delete_empty_people_hours"], guild_id)
    return bool(done["more"])
