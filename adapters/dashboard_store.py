"""The dashboard's side of Postgres: reads, each by an index, each paged."""

from __future__ import annotations

from adapters.postgres import API_CONNECTIONS, PostgresPool, open_pool, to_datetime
from adapters.queries import load_queries
from adapters.rows import hour_from_row
from domain.guild import HourCounts
from domain.ports import GuildRow

_SQL = load_queries("dashboard_store.sql")


class PostgresDashboardStore:
    """Implements :class:`domain.ports.DashboardStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str) -> PostgresDashboardStore:
        """Connect."""
        return cls(await open_pool(database_url, max_size=API_CONNECTIONS))

    async def close(self) -> None:
        """Let the connections go, at once."""
        await self._pool.close()

    async def guilds(self, guild_ids: list[int]) -> dict[int, GuildRow]:
        """See the port."""
        rows = await self._pool.fetch(_SQL["guilds"], guild_ids)
        return {row["guild_id"]: GuildRow(**dict(row)) for row in rows}

    async def hours(self, guild_id: int, since_ms: int) -> list[HourCounts]:
        """See the port."""
        rows = await self._pool.fetch(_SQL["hours"], guild_id, to_datetime(since_ms))
        return [hour_from_row(row) for row in rows]

    async def ping(self) -> None:
        """See the port."""
        await self._pool.ping()
