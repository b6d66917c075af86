"""The indexes that were asked for are the ones that answers are read from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from adapters import migrate
from adapters.guild_store import PostgresGuildStore
from adapters.insight_statements import statements
from adapters.insight_store import _SETTINGS
from adapters.queries import load_queries

NOW = datetime(2012, 6, 20, tzinfo=UTC)
GUILD, PERSON = 41, 5

_MAKE = """
INSERT INTO violations (event_id, ts, guild_id, channel_id, message_id, user_id, detection, rule, severity,
                        action, action_status, excerpt, content_hash)
SELECT md5(n::text)::uuid, $1::timestamptz - n * interval '3 minutes', $2::bigint + n % 3, 1, n, n % 500,
       CASE WHEN n % 97 = 0 THEN 'phishing_link' ELSE 'invite_link' END, 'r',
       CASE WHEN n % 89 = 0 THEN 'critical' ELSE 'low' END, 'none', 'none', 'x', ''
FROM generate_series(1, 20000) AS n
"""
_INDEXES = """
SELECT c.relname FROM pg_index AS x JOIN pg_class AS c ON c.oid = x.indexrelid
WHERE x.indrelid = $1::regclass AND x.indisvalid ORDER BY 1
"""


@pytest.fixture
async def earlier(empty: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Connection]:
    """Give a database with months of the release before, brought up to date."""
    known = migrate.migrations()
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "migrations", lambda: [m for m in known if m.version <= 8])
        await migrate.migrate(empty)
    connection = await asyncpg.connect(empty, server_settings=_SETTINGS)
    for month in (4, 5, 6):
        await connection.execute(f"SELECT ensure_violation_month('2012-0{month}-01')")
    await connection.execute(_MAKE, NOW, GUILD)
    await migrate.migrate(empty)
    store = await PostgresGuildStore.open(empty)
    while await store.roll_up():
        pass
    await store.close()
    await connection.execute("SELECT ensure_violation_month('2012-07-01')")
    await connection.execute("VACUUM ANALYZE")
    yield connection
    await connection.close()


async def plan(connection: asyncpg.Connection, statement: str, *parameters: Any) -> str:
    rows = await connection.fetch(f"EXPLAIN {statement}", *parameters)
    return "\n".join(row[0] for row in rows)


async def test_each_list_has_an_index_that_it_is_read_from(earlier: asyncpg.Connection) -> None:
    """By severity, by kind and by person; older months have theirs too, and so has every new one."""
    assert await earlier.fetch(_INDEXES, "violations") == [
        ("violations_detection",),
        ("violations_guild_ts",),
        ("violations_pkey",),
        ("violations_severity",),
        ("violations_user_guild",),
    ]
    for month in ("2012_04", "2012_05", "2012_06", "2012_07"):
        assert len(await earlier.fetch(_INDEXES, f"violations_{month}")) == 5
    nothing = (None, 50, 0, None, None, None)
    for filters, column in (
        (("critical", None, None, None), "severity"),
        ((None, "phishing_link", None, None), "detection"),
        ((None, None, PERSON, None), "user_id"),
        ((None, None, None, None), "guild_id"),
    ):
        asked = await plan(earlier, statements()["violations"], GUILD, *filters, None, None, *nothing)
        assert f"Index Cond: (({column} = " in asked.split("user_cache")[0].replace("::text", ""), asked


async def test_hours_are_read_from_their_key(earlier: asyncpg.Connection) -> None:
    """Forwards and backwards: there is no second index of the same."""
    assert await earlier.fetch(_INDEXES, "metrics_hourly") == [
        ("metrics_hourly_by_hour",),
        ("metrics_hourly_guild_hour",),
    ]
    hours = load_queries("dashboard_store.sql")["hours"]
    for statement in (hours, hours.replace("ORDER BY hour", "ORDER BY hour DESC")):
        await earlier.execute("SET enable_bitmapscan = off; SET enable_seqscan = off")
        asked = await plan(earlier, statement, GUILD, NOW)
        assert "metrics_hourly_guild_hour" in asked
        assert "Sort" not in asked
