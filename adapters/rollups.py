"""Counts what the rollups of violations do not hold yet, a little at a time.

The database keeps them itself in every transaction that changes violations (see the migration). Left over is
what an earlier release stored before there were any, and people whose violations came late or were deleted.
Then months of an earlier release get the indexes that lists are read from.
"""

from __future__ import annotations

import time

import asyncpg

from adapters.postgres import PostgresPool
from adapters.queries import load_queries

_SQL = load_queries("rollups.sql")

BATCH_BLOCKS = 256
"""Blocks of a month that one transaction counts: about five thousand rows."""

BATCH_PEOPLE = 500

_INDEX_TIMEOUT_S = 600.0
"""A month of a hundred million violations takes some minutes; hosts keep what they cannot write meanwhile."""

_TURN_S = 0.5
"""For so long one call counts batch after batch; then whoever calls looks after other things."""


async def roll_up(pool: PostgresPool) -> bool:
    """See :meth:`domain.ports.GuildStore.roll_up`."""
    until = time.monotonic() + _TURN_S
    while True:
        more = bool(
            await pool.fetchval(_SQL["count_earlier"], BATCH_BLOCKS)
            or await pool.fetchval(_SQL["recount_late"], BATCH_PEOPLE)
            or await _build_index(pool)
        )
        if not more or time.monotonic() >= until:
            return more


async def _build_index(pool: PostgresPool) -> bool:
    """Make an index that a month of an earlier release lacks; return whether there may be another."""
    try:
        return bool(await pool.fetchval(_SQL["build_index"], within_s=_INDEX_TIMEOUT_S))
    except asyncpg.LockNotAvailableError:
        return False  # somebody uses the tables: in an hour it is tried again
