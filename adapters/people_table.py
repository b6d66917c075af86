"""People in Postgres: the table ``user_cache``, which hosts fill as well with whom they hear of."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg

from adapters.postgres import PostgresPool, to_datetime, to_ms
from adapters.queries import load_queries
from domain.people import Person

_SQL = load_queries("people.sql")


class PeopleTable:
    """Implements :class:`domain.people.PersonMemory`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def recall(self, user_ids: Collection[int]) -> dict[int, Person]:
        """See the port."""
        rows = await self._pool.fetch(_SQL["recall"], list(user_ids))
        return {row["user_id"]: _person(row) for row in rows}

    async def remember(self, people: Collection[Person]) -> None:
        """See the port."""
        rows = [
            (who.user_id, who.username or "", who.display_name or "", who.avatar_url, who.deleted, when)
            for who in people
            for when in (to_datetime(who.seen_ms),)
        ]
        if rows:
            await self._pool.execute(_SQL["remember"], *map(list, zip(*rows, strict=True)))


def _person(row: asyncpg.Record) -> Person:
    seen_ms = to_ms(row["updated_at"])
    if row["deleted"]:
        return Person(row["user_id"], None, None, None, seen_ms, deleted=True)
    return Person(row["user_id"], row["username"], row["display_name"], row["avatar_url"], seen_ms)
