"""Who is what in a guild: how a role is found, and what no change of roles may bring about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import NamedTuple, Protocol, assert_never

import msgspec

from domain.audit import AuditEntry
from domain.errors import DiscordOwnerStays, LastOwner, MayNotChangeRoles, NoSuchRole, TooManyMappings
from domain.permissions import ROLES, Role, may, resolve_role

MAX_MAPPINGS = 250
"""As many as Discord lets a guild have roles."""


class Member(NamedTuple):
    """A person in a guild, as the list of their guilds says."""

    user_id: int
    guild_id: int
    owns: bool
    discord_permissions: int
    as_of_ms: int = 0
    """When Discord was asked for that list; the gateway may have said something newer."""


class AuthorityChange(NamedTuple):
    """Somebody's authority in a guild may have changed: ask again. Without a user, everybody's."""

    guild_id: int
    user_id: int | None
    at_ms: int
    """When the reason came about."""


class Assignment(msgspec.Struct, frozen=True):
    """A role that a person was given, by whom (None: by no person) and when."""

    user_id: int
    role: Role
    assigned_by: int | None
    assigned_at_ms: int


class Mapping(msgspec.Struct, frozen=True):
    """What a role of Discord stands for here, since when, and who said so."""

    discord_role_id: int
    role: Role
    mapped_by: int | None
    mapped_at_ms: int


class GuildRoles(msgspec.Struct, frozen=True):
    """What is on record of a guild's roles, as far as somebody needs it."""

    discord_owner_id: int | None = None
    """As the gateway says, which is newer than a login; None where the bot is not."""
    assigned: dict[int, Role] = {}
    """By person."""
    mapped: dict[int, Role] = {}
    """By Discord's role; @everyone has the guild's own id."""

    def owns(self, member: Member) -> bool:
        """Whether the guild is this person's on Discord."""
        return member.owns if self.discord_owner_id is None else self.discord_owner_id == member.user_id

    def role_of(self, member: Member, discord_roles: Collection[int]) -> Role | None:
        """Return the person's role; ``discord_roles`` are those that Discord gave them, as far as known."""
        mapped = {self.mapped[role_id] for role_id in discord_roles if role_id in self.mapped}
        return resolve_role(
            owns_guild=self.owns(member),
            discord_permissions=member.discord_permissions,
            assigned=self.assigned.get(member.user_id),
            mapped=next((role for role in ROLES if role in mapped), None),
        )


class Assign(msgspec.Struct, frozen=True):
    """Change: a person has this role, in place of the one they were given before."""

    user_id: int
    role: Role


class Revoke(msgspec.Struct, frozen=True):
    """Change: a person loses the role that they were given."""

    user_id: int


class MapRole(msgspec.Struct, frozen=True):
    """Change: whoever Discord gave this role has that one here."""

    discord_role_id: int
    role: Role


class UnmapRole(msgspec.Struct, frozen=True):
    """Change: a role of Discord stands for nothing any more."""

    discord_role_id: int


RoleChange = Assign | Revoke | MapRole | UnmapRole


class Author(NamedTuple):
    """Who makes a change, by which request."""

    member: Member
    discord_roles: frozenset[int] = frozenset()
    request_id: str | None = None


def decide(roles: GuildRoles, author: Author, change: RoleChange) -> AuditEntry:
    """Return what the audit log says of a change that may be made.

    ``roles`` must hold every assigned owner, the author's assignment and what the change names.

    Raises:
        MayNotChangeRoles: the author is no owner (any more).
        DiscordOwnerStays: the change would name Discord's owner something.
        LastOwner: nobody who is known would be owner then.
        NoSuchRole: there is nothing to take away.
        TooManyMappings: the guild has as many mappings as there can be.

    """
    if not may(roles.role_of(author.member, author.discord_roles), "manage_roles"):
        raise MayNotChangeRoles
    if isinstance(change, Assign | Revoke) and _is_discords_owner(roles, author.member, change.user_id):
        raise DiscordOwnerStays
    action, target, was, now = _described(roles, change)
    if was is None and now is None:
        raise NoSuchRole
    after = _after(roles, change)
    if len(after.mapped) > MAX_MAPPINGS:
        raise TooManyMappings
    if not _has_owner(after, author):
        raise LastOwner
    details = {name: role for name, role in (("role", now), ("was", was)) if role is not None}
    member = author.member
    return AuditEntry(member.guild_id, member.user_id, action, str(target), details, author.request_id)


def _is_discords_owner(roles: GuildRoles, author: Member, user_id: int) -> bool:
    if roles.discord_owner_id is not None:
        return roles.discord_owner_id == user_id
    return author.owns and author.user_id == user_id


def _has_owner(roles: GuildRoles, author: Author) -> bool:
    """Whether somebody who is known is owner. Who may have a mapped role, only Discord knows."""
    return (
        roles.discord_owner_id is not None
        or "owner" in roles.assigned.values()
        or roles.role_of(author.member, author.discord_roles) == "owner"
    )


def _described(roles: GuildRoles, change: RoleChange) -> tuple[str, int, Role | None, Role | None]:
    """Return the change's name, what it is about, and the roles before and after."""
    match change:
        case Assign(user_id, role):
            return "role.assigned", user_id, roles.assigned.get(user_id), role
        case Revoke(user_id):
            return "role.revoked", user_id, roles.assigned.get(user_id), None
        case MapRole(role_id, role):
            return "role.mapped", role_id, roles.mapped.get(role_id), role
        case UnmapRole(role_id):
            return "role.unmapped", role_id, roles.mapped.get(role_id), None
        case _:
            assert_never(change)


def _after(roles: GuildRoles, change: RoleChange) -> GuildRoles:
    assigned, mapped = dict(roles.assigned), dict(roles.mapped)
    match change:
        case Assign(user_id, role):
            assigned[user_id] = role
        case Revoke(user_id):
            assigned.pop(user_id, None)
        case MapRole(role_id, role):
            mapped[role_id] = role
        case UnmapRole(role_id):
            mapped.pop(role_id, None)
        case _:
            assert_never(change)
    return GuildRoles(roles.discord_owner_id, assigned, mapped)


class Roles(Protocol):
    """The roles of all guilds. All calls raise ``StoreUnavailable`` or ``RolesUnavailable``: then deny."""

    async def roles_of(self, members: Collection[Member], *, wait: bool = True) -> dict[Member, Role | None]:
        """Return the role of each, None for those who have none.

        Whoever is missing from the answer could not be asked about: that is neither a role nor none. Without
        ``wait`` these are also those about whom Discord is only being asked.
        """
        ...

    async def change(self, change: RoleChange, by: Member, request_id: str | None = None) -> int:
        """Make a change in the guild of who makes it, and its entry in the audit log; return when, in ms.

        Raises what :func:`decide` raises; then nothing was changed.
        """
        ...

    def changes(self, listener_id: str) -> AsyncIterator[list[AuthorityChange]]:
        """Yield whose authority may have changed, from here on; an empty list is a sign of life.

        The first list is empty, and says that the stream stands. Raises ``HostUnreachable`` when it breaks.
        """
        ...

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """Return a page of a guild's assignments, owners first, and how many there are in all."""
        ...

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """Return a page of a guild's mappings, the highest role first, and how many there are in all."""
        ...


class RoleStore(Protocol):
    """The durable side of the roles. All calls raise ``StoreUnavailable`` when the database is away."""

    async def records(self, members: Collection[Member]) -> dict[Member, GuildRoles]:
        """Return, for everybody, what their role depends on: of the assignments only their own."""
        ...

    async def change(self, change: RoleChange, author: Author) -> int:
        """Make a change that :func:`decide` allows, with its entry in the audit log; return when, in ms.

        All in one transaction, and one after the other within a guild, whoever asks.
        """
        ...

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See :class:`Roles`."""
        ...

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See :class:`Roles`."""
        ...


class GuildRoleSource(Protocol):
    """Discord, as the one who knows which roles of its own a guild has."""

    async def guild_roles(self, guild_id: int) -> frozenset[int]:
        """Ask for the ids of a guild's roles, @everyone among them.

        Raises:
            DiscordUnavailable: no answer that could be used, or the bot is not in the guild.

        """
        ...


class MemberPage(NamedTuple):
    """Some of a guild's members in the order of their ids, with their roles, @everyone among them."""

    roles: dict[int, frozenset[int]]
    until: int | None
    """Whom the page reaches up to; None: it is the last one."""


class MemberSource(Protocol):
    """Discord, as the one who knows which roles of its own somebody has.

    ``DiscordBusy`` says with ``everywhere`` whether all questions have to wait, or those of the same kind
    about the same guild.
    """

    async def discord_roles(self, guild_id: int, user_id: int) -> frozenset[int]:
        """Ask for a member's roles, @everyone among them; none when they are not in the guild.

        Raises:
            DiscordBusy: not now, but after ``retry_after_s`` seconds.
            DiscordUnavailable: no answer that could be used.

        """
        ...

    async def list_members(self, guild_id: int, after: int) -> MemberPage:
        """Ask for the guild's members whose ids come after this one; raises as ``discord_roles``."""
        ...
