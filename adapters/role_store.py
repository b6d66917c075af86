"""Roles in Postgres: read by many, changed by one transaction at a time in each guild."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, assert_never

import asyncpg

from adapters.audit import write_audit
from adapters.postgres import ROLE_STORE_CONNECTIONS, PostgresPool, open_pool, to_ms
from adapters.queries import load_queries
from domain.permissions import Role
from domain.roles import (
    Assign,
    Assignment,
    Author,
    GuildRoles,
    Mapping,
    MapRole,
    Member,
    Revoke,
    RoleChange,
    UnmapRole,
    decide,
)

_SQL = load_queries("role_store.sql")


class PostgresRoleStore:
    """Implements :class:`domain.roles.RoleStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, database_url: str) -> PostgresRoleStore:
        """Connect."""
        return cls(await open_pool(database_url, max_size=ROLE_STORE_CONNECTIONS))

    async def close(self) -> None:
        """Let the connections go, at once."""
        await self._pool.close()

    async def records(self, members: Collection[Member]) -> dict[Member, GuildRoles]:
        """See the port."""
        guild_ids = [member.guild_id for member in members]
        user_ids = [member.user_id for member in members]
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_SQL["records"], guild_ids, user_ids)
            mapped = _by_guild(await connection.fetch(_SQL["mapped"], guild_ids))
        return {
            member: GuildRoles(
                discord_owner_id=row["discord_owner_id"],
                assigned={member.user_id: row["assigned"]} if row["assigned"] else {},
                mapped=mapped[member.guild_id],
            )
            for member, row in zip(members, rows, strict=True)
        }

    async def change(self, change: RoleChange, author: Author) -> int:
        """See the port."""
        guild_id = author.member.guild_id
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["lock"], guild_id)
            entry = decide(await _roles_of_note(connection, change, author), author, change)
            now = await connection.fetchval(_SQL["now"])
            await connection.execute(*_statement(change, guild_id, author.member.user_id, now))
            await write_audit(connection, [entry])
        return to_ms(now)

    async def give(self, guild_id: int, user_id: int, role: Role) -> None:
        """Give somebody a role by no person's decision, as the demo does for its people."""
        await self._pool.execute(_SQL["assign"], guild_id, user_id, role, None, datetime.now(UTC))

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See the port."""
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_SQL["assignments"], guild_id, limit, offset)
            total = await connection.fetchval(_SQL["count_assignments"], guild_id)
        found = [Assignment(user_id, role, by, to_ms(at)) for user_id, role, by, at in rows]
        return found, int(total)

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See the port."""
        async with self._pool.connection() as connection:
            rows = await connection.fetch(_SQL["mappings"], guild_id, limit, offset)
            total = await connection.fetchval(_SQL["count_mappings"], guild_id)
        return [Mapping(role_id, role, by, to_ms(at)) for role_id, role, by, at in rows], int(total)


async def _roles_of_note(connection: Any, change: RoleChange, author: Author) -> GuildRoles:
    guild_id = author.member.guild_id
    people = [author.member.user_id]
    if isinstance(change, Assign | Revoke):
        people.append(change.user_id)
    assigned = await connection.fetch(_SQL["assigned_of_note"], guild_id, people)
    return GuildRoles(
        discord_owner_id=await connection.fetchval(_SQL["discord_owner"], guild_id),
        assigned={row["user_id"]: row["role"] for row in assigned},
        mapped=_by_guild(await connection.fetch(_SQL["mapped"], [guild_id]))[guild_id],
    )


def _statement(change: RoleChange, guild_id: int, by_user_id: int, at: datetime) -> tuple[Any, ...]:
    match change:
        case Assign(user_id, role):
            return _SQL["assign"], guild_id, user_id, role, by_user_id, at
        case Revoke(user_id):
            return _SQL["revoke"], guild_id, user_id
        case MapRole(role_id, role):
            return _SQL["map_role"], guild_id, role_id, role, by_user_id, at
        case UnmapRole(role_id):
            return _SQL["unmap_role"], guild_id, role_id
        case _:
            assert_never(change)


def _by_guild(rows: Iterable[asyncpg.Record]) -> defaultdict[int, dict[int, Role]]:
    mapped: defaultdict[int, dict[int, Role]] = defaultdict(dict)
    for row in rows:
        mapped[row["guild_id"]][row["discord_role_id"]] = row["role"]
    return mapped
