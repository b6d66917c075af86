"""One suite for the audit log in Postgres and for its twin."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from adapters.audit import PostgresAuditLog, write_audit
from adapters.memory import MemoryAuditLog, MemoryDatabase
from adapters.postgres import open_pool
from domain.audit import AuditEntry, AuditLog
from domain.errors import StoreUnavailable
from domain.ids import MAX_SNOWFLAKE
from tests.contract.stores import fresh_id


@pytest.fixture(params=["memory", "postgres"])
async def audit(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[AuditLog]:
    if request.param == "memory":
        yield MemoryAuditLog(MemoryDatabase())
        return
    pool = await open_pool(postgres_dsn, max_size=2)
    yield PostgresAuditLog(pool)
    await pool.close()


@pytest.fixture
def guild_id() -> int:
    return fresh_id()


async def test_an_entry_is_read_as_it_was_written(audit: AuditLog, guild_id: int) -> None:
    """Every field, and the time; an entry without a guild is in no guild's log."""
    full = AuditEntry(
        guild_id,
        MAX_SNOWFLAKE,
        "config.updated",
        "Ünïcode ✨",
        {"was": None, "now": [1, 2.5, "x", {"y": False}]},
        "0123456789abcdef",
    )
    bare = AuditEntry(guild_id, None, "access.denied")
    await audit.record([full, AuditEntry(None, 1, "auth.login"), bare])
    [newest, oldest], total = await audit.page(guild_id, limit=10, offset=0)
    assert total == 2
    assert (oldest.entry, newest.entry) == (full, bare)
    assert newest.audit_id > oldest.audit_id
    assert newest.at_ms >= oldest.at_ms


async def test_what_strangers_type_does_not_keep_an_entry_out(audit: AuditLog, guild_id: int) -> None:
    """NUL and halves of characters are left out, wherever they stand."""
    typed = "a\0b\ud800"
    await audit.record([AuditEntry(guild_id, 1, "rule.updated", typed, {typed: [typed, {"x": typed}]})])
    [row], _ = await audit.page(guild_id, limit=10, offset=0)
    assert row.entry.target == "ab\ufffd"
    assert row.entry.details == {"ab\ufffd": ["ab\ufffd", {"x": "ab\ufffd"}]}


async def test_pages_are_stable_and_newest_first(audit: AuditLog, guild_id: int) -> None:
    """Also among entries of one transaction; filters count too."""
    entries = [
        AuditEntry(guild_id, number % 3, "rule.updated" if number % 2 else "config.updated", str(number))
        for number in range(20)
    ]
    await audit.record(entries[:13])
    await audit.record(entries[13:])
    found = []
    for offset in range(0, 25, 6):
        rows, total = await audit.page(guild_id, limit=6, offset=offset)
        assert total == 20
        found += [row.entry for row in rows]
    assert found == entries[::-1]
    rows, total = await audit.page(guild_id, limit=3, offset=1, action="rule.updated", actor_id=1)
    assert total == 4
    assert [row.entry.target for row in rows] == ["13", "7", "1"]
    assert await audit.page(guild_id, limit=3, offset=0, action="nothing") == ([], 0)
    assert await audit.page(fresh_id(), limit=3, offset=0) == ([], 0)


async def test_no_entries_are_no_problem(audit: AuditLog, guild_id: int) -> None:
    """Nothing is written, nothing fails."""
    await audit.record([])
    assert await audit.page(guild_id, limit=3, offset=0) == ([], 0)


async def test_an_entry_goes_with_its_transaction(postgres_dsn: str, guild_id: int) -> None:
    """What is taken back is not in the log either."""
    pool = await open_pool(postgres_dsn, max_size=2)
    audit = PostgresAuditLog(pool)

    async with pool.transaction(dry=True) as connection:
        await write_audit(connection, [AuditEntry(guild_id, 1, "config.updated")])
    assert await audit.page(guild_id, limit=3, offset=0) == ([], 0)
    with pytest.raises(asyncpg.PostgresError):
        await audit.record([AuditEntry(guild_id, 1, "a"), AuditEntry(guild_id, 1, None)])  # type: ignore[arg-type]
    assert await audit.page(guild_id, limit=3, offset=0) == ([], 0)
    await pool.close()


async def test_a_database_that_is_away_is_said_to_be(postgres_dsn: str, guild_id: int) -> None:
    """Both calls, in both."""
    pool = await open_pool(postgres_dsn, max_size=2)
    await pool.close()
    database = MemoryDatabase()
    database.available = False
    for audit in (PostgresAuditLog(pool), MemoryAuditLog(database)):
        with pytest.raises(StoreUnavailable):
            await audit.record([AuditEntry(guild_id, 1, "a")])
        with pytest.raises(StoreUnavailable):
            await audit.page(guild_id, limit=1, offset=0)
