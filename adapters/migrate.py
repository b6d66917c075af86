"""Brings the database's schema up to date: numbered SQL files, each run once, in order."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import asyncpg
import msgspec

from adapters.postgres import CONNECTS_WITHIN_S, unavailable_when_away
from domain.errors import ConfigurationInvalid

_LOCK_KEY = 0x6775696C6468  # "guildh": only one process migrates at a time


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """Tell an edited migration from the one that ran."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Return all migrations of this release, in order."""
    found = [
        Migration(int(path.name[:4]), path.name, path.read_text(encoding="utf-8"))
        for path in files("adapters").joinpath("migrations").iterdir()
        if path.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.version)


async def migrate(database_url: str) -> list[str]:
    """Run what has not run yet, each in its own transaction; return the names of those.

    Raises:
        StoreUnavailable: there is no database to reach.
        ConfigurationInvalid: the database was migrated by a newer release, or a migration was edited.

    """
    with unavailable_when_away():
        connection = await asyncpg.connect(database_url, timeout=CONNECTS_WITHIN_S)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {
            row["version"]: row["checksum"]
            for row in await connection.fetch("SELECT version, checksum FROM schema_migrations")
        }
        known = migrations()
        _check(known, applied)
        ran: list[str] = []
        for migration in known:
            if migration.version in applied:
                continue
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
            ran.append(migration.name)
        return ran
    finally:
        await connection.close()


def _check(known: list[Migration], applied: dict[int, str]) -> None:
    newer = set(applied) - {migration.version for migration in known}
    if newer:
        raise ConfigurationInvalid(
            f"The database has migration {max(newer)}, which this release does not know: "
            "run the newer release, or restore a backup made before it."
        )
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise ConfigurationInvalid(
                f"Migration {migration.name} is not the one that this database ran: "
                "migrations are never edited, add a new one."
            )
