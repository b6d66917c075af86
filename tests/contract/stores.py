"""The two databases that the contract suites run against, seen in one way."""

from __future__ import annotations

import json
from itertools import count
from typing import Any, NamedTuple, Protocol

from adapters.audit import PostgresAuditLog
from adapters.dashboard_store import PostgresDashboardStore
from adapters.guild_store import PostgresGuildStore
from adapters.insight_store import PostgresInsightStore
from adapters.memory import MemoryDashboardStore, MemoryDatabase, MemoryGuildStore, MemoryInsightStore
from adapters.postgres import open_pool
from domain.audit import AuditEntry
from domain.events import ViolationDetected
from domain.guild import Effect, GuildState, apply_all
from domain.insights import InsightStore
from domain.ports import BatchMark, Commit, Committed, DashboardStore, GuildStore, Incarnation

_numbers = count(1_000)


def fresh_id() -> int:
    """Return an id that no test has used."""
    return next(_numbers)


class Books(Protocol):
    """What no port shows: only the suites look at it."""

    async def violations(self, guild_id: int) -> list[tuple[int, str]]:
        """Return (ts, severity) of a guild's rows."""
        ...

    async def settled_after(self, one: ViolationDetected) -> int | None:
        """Return how many milliseconds after a violation it was known how its action ended."""
        ...

    async def early_actions(self, *violations: ViolationDetected) -> int:
        """Return how many actions wait for one of these violations."""
        ...

    async def placements(self) -> list[int]:
        """Return the versions of the placements that are kept."""
        ...

    async def gaps(self, source: str) -> list[tuple[int, str]]:
        """Return (lost events, reason) of a source's gaps."""
        ...

    async def audit(self, guild_id: int) -> list[AuditEntry]:
        """Return what the audit log has of a guild, oldest first."""
        ...

    async def keep_for(self, guild_id: int, days: object) -> None:
        """Configure for how long a guild keeps its violations."""
        ...


class Stores(NamedTuple):
    """Both sides of one database."""

    guilds: GuildStore
    dashboard: DashboardStore
    books: Books
    insights: InsightStore

    async def begin(self, host_id: str = "h0", actor_name: str = "") -> Host:
        return Host(self, await self.guilds.register_host(host_id, actor_name))


class Host(NamedTuple):
    """A host's life on a store."""

    stores: Stores
    incarnation: Incarnation

    async def commit(self, *effects: Effect, **others: Any) -> Committed:
        return await self.stores.guilds.commit(self.incarnation, _commit(effects, others))

    async def probe(self, *effects: Effect, **others: Any) -> None:
        await self.stores.guilds.probe(self.incarnation, _commit(effects, others))

    async def tell(self, guild_id: int, *events: Any, **others: Any) -> Committed:
        """Commit what the events of one guild lead to."""
        _, effects = apply_all(GuildState(guild_id), events)
        return await self.commit(*effects, **others)


def _commit(effects: tuple[Effect, ...], others: dict[str, Any]) -> Commit:
    users = {e.violation.user.user_id: e.violation.user for e in effects if hasattr(e, "violation")}
    given = {"users": tuple(users.values()), "marks": ()} | others
    return Commit(effects, **given)


def mark(number: int, source: str) -> BatchMark:
    return BatchMark(source, number)


class MemoryBooks:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def violations(self, guild_id: int) -> list[tuple[int, str]]:
        rows = self._database.violations.values()
        return [(v.ts_ms, v.severity) for row in rows if (v := row.violation).guild_id == guild_id]

    async def settled_after(self, one: ViolationDetected) -> int | None:
        settled_ms = self._database.violations[one.event_id, one.ts_ms].settled_ms
        return None if settled_ms is None else settled_ms - one.ts_ms

    async def early_actions(self, *violations: ViolationDetected) -> int:
        return len(self._database.early_actions.keys() & {(one.event_id, one.ts_ms) for one in violations})

    async def placements(self) -> list[int]:
        return sorted(self._database.placements)

    async def gaps(self, source: str) -> list[tuple[int, str]]:
        return [(gap.lost_events, gap.reason) for name, gap in self._database.gaps if name == source]

    async def audit(self, guild_id: int) -> list[AuditEntry]:
        return [row.entry for row in self._database.audit if row.entry.guild_id == guild_id]

    async def keep_for(self, guild_id: int, days: object) -> None:
        if isinstance(days, int):
            self._database.retention_days[guild_id] = days


class PostgresBooks:
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def violations(self, guild_id: int) -> list[tuple[int, str]]:
        rows = await self._pool.fetch(
            "SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts, severity "
            "FROM violations WHERE guild_id = $1",
            guild_id,
        )
        return [(row["ts"], row["severity"]) for row in rows]

    async def settled_after(self, one: ViolationDetected) -> int | None:
        found: int | None = await self._pool.fetchval(
            "SELECT (extract(epoch FROM settled_at - ts) * 1000)::bigint FROM violations WHERE event_id = $1",
            one.event_id,
        )
        return found

    async def early_actions(self, *violations: ViolationDetected) -> int:
        ids = [one.event_id for one in violations]
        return int(
            await self._pool.fetchval("SELECT count(*) FROM early_actions WHERE event_id = ANY ($1)", ids)
        )

    async def placements(self) -> list[int]:
        return [row["version"] for row in await self._pool.fetch("SELECT version FROM placement ORDER BY 1")]

    async def gaps(self, source: str) -> list[tuple[int, str]]:
        rows = await self._pool.fetch(
            "SELECT lost_events, reason FROM coverage_gaps WHERE source = $1 ORDER BY gap_id", source
        )
        return [(row["lost_events"], row["reason"]) for row in rows]

    async def audit(self, guild_id: int) -> list[AuditEntry]:
        rows, _ = await PostgresAuditLog(self._pool).page(guild_id, limit=1_000, offset=0)
        return [row.entry for row in reversed(rows)]

    async def keep_for(self, guild_id: int, days: object) -> None:
        await self._pool.execute(
            "INSERT INTO guild_config (guild_id, config) VALUES ($1, $2) "
            "ON CONFLICT (guild_id) DO UPDATE SET config = excluded.config",
            guild_id,
            json.dumps({"retention_days": days}),
        )


def memory_stores() -> Stores:
    database = MemoryDatabase()
    dashboard = MemoryDashboardStore(database)
    return Stores(
        MemoryGuildStore(database),
        dashboard,
        MemoryBooks(database),
        MemoryInsightStore(database),
    )


async def postgres_stores(dsn: str) -> tuple[Stores, list[Any]]:
    """Return the stores, and what to close in the end."""
    guilds = await PostgresGuildStore.open(dsn)
    dashboard = await PostgresDashboardStore.open(dsn)
    insights = await PostgresInsightStore.open(dsn)
    pool = await open_pool(dsn, max_size=2)
    stores = Stores(guilds, dashboard, PostgresBooks(pool), insights)
    return stores, [guilds, dashboard, insights, pool]
