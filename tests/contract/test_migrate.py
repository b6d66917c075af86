"""The schema comes up to date once, whoever asks for it and however often."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from adapters import migrate as module
from adapters.migrate import Migration, migrate, migrations
from domain.errors import ConfigurationInvalid, StoreUnavailable


def names() -> list[str]:
    return [migration.name for migration in migrations()]


async def test_the_second_time_nothing_runs(empty: str) -> None:
    """It says what ran; then nothing."""
    assert await migrate(empty) == names()
    assert await migrate(empty) == []


async def test_concurrent_calls_run_each_migration_once(empty: str) -> None:
    """Processes that start together wait for the one that migrates."""
    ran = await asyncio.gather(*(migrate(empty) for _ in range(6)))
    assert max(ran, key=len) == names()
    assert sum(map(len, ran)) == len(names())


async def test_an_edited_migration_is_refused(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ran as something else: the sentence names it."""
    await migrate(empty)
    edited = [Migration(m.version, m.name, f"{m.sql} ") for m in migrations()]
    monkeypatch.setattr(module, "migrations", lambda: edited)
    with pytest.raises(ConfigurationInvalid, match=r"0001_initial\.sql is not the one"):
        await migrate(empty)


async def test_a_newer_database_is_refused(empty: str) -> None:
    """An old release must not write what a newer one has changed."""
    await migrate(empty)
    connection = await asyncpg.connect(empty)
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, '9999_x.sql', 'x')")
    await connection.close()
    with pytest.raises(ConfigurationInvalid, match="has migration 9999"):
        await migrate(empty)


async def test_a_migration_that_fails_leaves_no_half(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ran before it stays, of itself nothing does, and mended it runs."""
    known = migrations()
    broken = Migration(9000, "9000_broken.sql", "CREATE TABLE half (); SELECT 1 / 0")
    monkeypatch.setattr(module, "migrations", lambda: [*known, broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty)
    mended = Migration(9000, "9000_broken.sql", "CREATE TABLE half ()")
    monkeypatch.setattr(module, "migrations", lambda: [*known, mended])
    assert await migrate(empty) == ["9000_broken.sql"]


async def test_a_database_that_is_not_there_is_said_so() -> None:
    """A wrong address is a sentence, not a traceback."""
    with pytest.raises(StoreUnavailable):
        await migrate("postgresql://nobody@127.0.0.1:1/none")


def test_migrations_are_numbered_without_gaps() -> None:
    """1, 2, 3 … each once."""
    assert [m.version for m in migrations()] == list(range(1, len(migrations()) + 1))
