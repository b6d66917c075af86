"""What Postgres counts of the whole network."""

from __future__ import annotations

from adapters.postgres import PostgresPool, to_ms
from adapters.queries import load_queries
from domain.network import GapView, Totals

_SQL = load_queries("network.sql")


class PostgresNetworkStore:
    """Implements :class:`domain.network.NetworkStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def totals(self) -> Totals:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["totals"])
        return Totals(**dict(row or {}))

    async def online_guilds(self, shard_ids: tuple[int, ...], shard_count: int) -> list[int]:
        """Return the guilds of these shards in which the bot is known to be online."""
        rows = await self._pool.fetch(_SQL["online_guilds"], shard_count, list(shard_ids))
        return [row["guild_id"] for row in rows]

    async def gaps(self, *, limit: int) -> list[GapView]:
        """See the port."""
        rows = await self._pool.fetch(_SQL["gaps"], limit)
        return [
            GapView(
                source=row["source"],
                reason=row["reason"],
                since=to_ms(row["since"]),
                until=to_ms(row["until"]),
                lost_events=row["lost_events"],
                recorded_at=to_ms(row["recorded_at"]),
            )
            for row in rows
        ]
