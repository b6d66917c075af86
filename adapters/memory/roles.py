"""The twins of the roles' store, and of Discord as the one who knows its members' roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import assert_never

from adapters.memory.database import MemoryDatabase
from domain.errors import DiscordUnavailable
from domain.permissions import ROLES, Role
from domain.roles import (
    Assign,
    Assignment,
    Author,
    GuildRoles,
    Mapping,
    MapRole,
    Member,
    MemberPage,
    Revoke,
    RoleChange,
    UnmapRole,
    decide,
)


class MemoryRoleStore:
    """Implements :class:`domain.roles.RoleStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def records(self, members: Collection[Member]) -> dict[Member, GuildRoles]:
        """See the port."""
        self._database.require()
        found = {}
        for member in members:
            roles = self._roles(member.guild_id)
            own = {user_id: role for user_id, role in roles.assigned.items() if user_id == member.user_id}
            found[member] = GuildRoles(roles.discord_owner_id, own, roles.mapped)
        return found

    async def change(self, change: RoleChange, author: Author) -> int:
        """See the port. Nothing awaits in between, so it happens whole and one after the other."""
        database, member = self._database, author.member
        database.require()
        entry = decide(self._roles(member.guild_id), author, change)
        now_ms = database.now_ms()
        match change:
            case Assign(user_id, role):
                database.roles[member.guild_id, user_id] = role
                database.assigned[member.guild_id, user_id] = (member.user_id, now_ms)
            case Revoke(user_id):
                del database.roles[member.guild_id, user_id]
                database.assigned.pop((member.guild_id, user_id), None)
            case MapRole(role_id, role):
                mapping = Mapping(role_id, role, member.user_id, now_ms)
                database.role_mappings[member.guild_id, role_id] = mapping
            case UnmapRole(role_id):
                del database.role_mappings[member.guild_id, role_id]
            case _:
                assert_never(change)
        database.write_audit([entry])
        return now_ms

    async def give(self, guild_id: int, user_id: int, role: Role) -> None:
        """Give somebody a role by no person's decision."""
        self._database.require()
        self._database.roles[guild_id, user_id] = role
        self._database.assigned[guild_id, user_id] = (None, self._database.now_ms())

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See the port."""
        self._database.require()
        found = [
            Assignment(user_id, role, *self._database.assigned.get((guild, user_id), (None, 0)))
            for (guild, user_id), role in self._database.roles.items()
            if guild == guild_id
        ]
        found.sort(key=lambda row: (ROLES.index(row.role), row.user_id))
        return found[offset : offset + limit], len(found)

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See the port."""
        self._database.require()
        mappings = self._database.role_mappings.items()
        found = [mapping for (guild, _), mapping in mappings if guild == guild_id]
        found.sort(key=lambda row: (ROLES.index(row.role), row.discord_role_id))
        return found[offset : offset + limit], len(found)

    def _roles(self, guild_id: int) -> GuildRoles:
        database = self._database
        row = database.guilds.get(guild_id)
        return GuildRoles(
            discord_owner_id=database.owners.get(guild_id) if row is not None and row.bot_present else None,
            assigned={user: role for (guild, user), role in database.roles.items() if guild == guild_id},
            mapped={
                role_id: mapping.role
                for (guild, role_id), mapping in database.role_mappings.items()
                if guild == guild_id
            },
        )


class MemoryMembers:
    """Implements :class:`domain.roles.MemberSource`: ``given`` are the roles by guild and user.

    And :class:`domain.roles.GuildRoleSource`: ``existing`` are a guild's roles; of others nobody can say.

    ``before`` may hold an answer or raise instead of it; ``calls`` counts the questions about a member, and
    ``lists`` those for a page of a guild's members.
    """

    def __init__(self) -> None:
        self.given: dict[tuple[int, int], frozenset[int]] = {}
        self.existing: dict[int, frozenset[int]] = {}
        self.before: Callable[[int, int], Awaitable[None]] | None = None
        self.calls: Counter[tuple[int, int]] = Counter()
        self.lists: Counter[int] = Counter()
        self.page_size = 500

    async def discord_roles(self, guild_id: int, user_id: int) -> frozenset[int]:
        """See the port."""
        self.calls[guild_id, user_id] += 1
        if self.before is not None:
            await self.before(guild_id, user_id)
        roles = self.given.get((guild_id, user_id))
        return frozenset() if roles is None else roles | {guild_id}

    async def list_members(self, guild_id: int, after: int) -> MemberPage:
        """See the port. ``before`` is told the guild, and the id that the page begins with."""
        self.lists[guild_id] += 1
        if self.before is not None:
            await self.before(guild_id, after + 1)
        ids = sorted(user for guild, user in self.given if guild == guild_id and user > after)
        page = ids[: self.page_size]
        roles = {user_id: self.given[guild_id, user_id] | {guild_id} for user_id in page}
        return MemberPage(roles, page[-1] if len(ids) > len(page) else None)

    async def guild_roles(self, guild_id: int) -> frozenset[int]:
        """See the port."""
        if guild_id not in self.existing:
            raise DiscordUnavailable
        return self.existing[guild_id] | {guild_id}
