"""The Rbac actor: says who has which role, and is the one way to change roles."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

from actors.member_roles import NOTHING, MemberRoles
from domain.errors import RolesUnavailable
from domain.permissions import Role
from domain.roles import Assignment, Author, Mapping, Member, RoleChange, RoleStore


class Rbac:
    """Implements :class:`domain.roles.Roles`. Killed, it loses nothing but what Discord said lately.

    Roles are read from the store whenever they are asked for: what a change brings about holds from the
    next question on, here and in every other life.
    """

    def __init__(
        self, open_store: Callable[[], Awaitable[RoleStore]], make_members: Callable[[], MemberRoles]
    ) -> None:
        self._open_store = open_store
        self._store: RoleStore | None = None
        self._opening = asyncio.Lock()
        self._members = make_members()

    async def start(self) -> None:
        """Connect."""
        await self._opened()

    async def roles_of(self, members: Collection[Member]) -> dict[Member, Role | None]:
        """See the port. Discord is asked about those whose role depends on it, and nobody else."""
        records = await (await self._opened()).records(members)
        asked = [(m.guild_id, m.user_id) for m, roles in records.items() if roles.asks_discord(m)]
        given = await self._members.of(asked)
        found: dict[Member, Role | None] = {}
        for member, roles in records.items():
            discord_roles = given.get((member.guild_id, member.user_id), NOTHING)
            if discord_roles is not None:
                found[member] = roles.role_of(member, discord_roles)
        return found

    async def change(self, change: RoleChange, by: Member, request_id: str | None = None) -> int:
        """See the port."""
        store = await self._opened()
        record = (await store.records([by]))[by]
        given: frozenset[int] | None = NOTHING
        if record.asks_discord(by):
            member = (by.guild_id, by.user_id)
            given = (await self._members.of([member]))[member]
        if given is None:
            raise RolesUnavailable("Discord does not say right now what this person may do.")
        return await store.change(change, Author(by, given, request_id))

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See the port."""
        return await (await self._opened()).assignments(guild_id, limit=limit, offset=offset)

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See the port."""
        return await (await self._opened()).mappings(guild_id, limit=limit, offset=offset)

    async def _opened(self) -> RoleStore:
        """Return the store; opened when first needed, because a restarted actor is told nothing."""
        async with self._opening:
            if self._store is None:
                self._store = await self._open_store()
            return self._store
