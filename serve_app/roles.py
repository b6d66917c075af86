"""Who has which role in a server, and what Discord's roles stand for there. Owners only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from domain.errors import DiscordUnavailable, MayNotChangeRoles
from domain.permissions import Role
from domain.roles import Assign, GuildRoleSource, MapRole, Revoke, RoleChange, UnmapRole
from domain.views import UserView
from serve_app.access import ID_SCHEMA, Granted, Needs, OfGate, Ports, UserId, member_of, snowflake_of
from serve_app.changes import Changes
from serve_app.errors import missing_permission
from serve_app.paging import Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

log = structlog.get_logger()

router = APIRouter(prefix="/api/servers/{guild_id}", tags=["roles"], route_class=PlainRoute)

Owner = Annotated[Granted, Depends(Needs("manage_roles"))]


class RoleWanted(BaseModel):
    """The role that is to be given."""

    model_config = ConfigDict(extra="forbid", strict=True)

    role: Role


class AssignedRole(BaseModel):
    """A person with the role they were given; ``assigned_by`` is null when no person gave it."""

    user: UserView
    role: Role
    assigned_by: UserView | None
    assigned_at: int


class GivenRole(AssignedRole):
    """The role that was just given; ``hint`` says when Discord knows nobody of this id."""

    hint: str | None


class MappedRole(BaseModel):
    """A role of Discord, and the role here that comes with it. @everyone has the server's own id."""

    discord_role_id: str
    role: Role
    mapped_by: UserView | None
    mapped_at: int


class NewMapping(MappedRole):
    """The mapping that was just made; ``hint`` says when the server has no role of this id on Discord."""

    hint: str | None


NOBODY = "Discord knows nobody of this id, or not any more: the role is kept, and nobody has it."
NO_SUCH_DISCORD_ROLE = (
    "The server has no role of this id on Discord: the mapping is kept, and gives nobody a role."
)
ASK_WITHIN_S = 2.0


async def discord_role_id_of(
    discord_role_id: Annotated[
        str, Path(description="The id of a role on Discord", json_schema_extra=ID_SCHEMA)
    ],
) -> int:
    """Return the Discord role that the path names."""
    return snowflake_of(discord_role_id, "invalid_role_id", "A Discord role's")


DiscordRoleId = Annotated[int, Depends(discord_role_id_of)]

MakeChange = Callable[[RoleChange], Awaitable[int]]


async def change_maker(
    request: Request, granted: Owner, change: Changes, ports: Ports, gate: OfGate
) -> MakeChange:
    """Return what makes a change of roles for the owner and announces it; it returns when, in ms."""

    async def make(wanted: RoleChange) -> int:
        [guild] = [guild for guild in granted.session.guilds if guild.guild_id == granted.guild_id]
        try:
            at_ms = await ports.roles.change(wanted, member_of(granted.session, guild), change.request_id)
        except MayNotChangeRoles:  # no owner any more, since a moment that this replica did not know of yet
            refused = missing_permission("manage_roles")
            raise gate.refuse(request, granted.session, refused, granted.guild_id) from None
        finally:
            gate.reader.forget(granted.guild_id)  # also when it is not known whether it was made
        await ports.announcer.announce(granted.guild_id, "config_update", {"what": "roles"})
        return at_ms

    return make


ToMake = Annotated[MakeChange, Depends(change_maker)]


@router.get("/roles")
async def list_roles(granted: Owner, ports: Ports, wanted: PageWanted) -> Page[AssignedRole]:
    """List whom a role was given, owners first. Discord's owner is owner without being given it."""
    rows, total = await ports.roles.assignments(granted.guild_id, limit=wanted.per_page, offset=wanted.offset)
    names = await _named(ports, {row.user_id for row in rows} | {row.assigned_by for row in rows})
    shown = [
        AssignedRole(
            user=names[row.user_id],
            role=row.role,
            assigned_by=None if row.assigned_by is None else names[row.assigned_by],
            assigned_at=row.assigned_at_ms,
        )
        for row in rows
    ]
    return page_of(
        shown, total, wanted, when_empty="Nobody was given a role yet: Discord decides who is what here."
    )


@router.put("/roles/{user_id}")
async def assign_role(
    granted: Owner, ports: Ports, make: ToMake, user_id: UserId, wanted: RoleWanted
) -> GivenRole:
    """Give somebody a role, in place of the one they had."""
    at_ms = await make(Assign(user_id, wanted.role))
    by = granted.session.user.user_id
    names = await _named(ports, {user_id, by})
    user = names[user_id]
    # Who could not be asked about has no names at all; who is known to be nobody has one that says so.
    nobody = user.username is None and user.display_name is not None
    return GivenRole(
        user=user,
        role=wanted.role,
        assigned_by=names[by],
        assigned_at=at_ms,
        hint=NOBODY if nobody else None,
    )


@router.delete("/roles/{user_id}", status_code=204)
async def revoke_role(granted: Owner, make: ToMake, user_id: UserId) -> Response:
    """Take away the role that somebody was given; what Discord makes them, they stay."""
    del granted
    await make(Revoke(user_id))
    return Response(status_code=204)


@router.get("/role-mappings")
async def list_mappings(granted: Owner, ports: Ports, wanted: PageWanted) -> Page[MappedRole]:
    """List what Discord's roles stand for here, the highest role first."""
    rows, total = await ports.roles.mappings(granted.guild_id, limit=wanted.per_page, offset=wanted.offset)
    names = await _named(ports, {row.mapped_by for row in rows})
    shown = [
        MappedRole(
            discord_role_id=str(row.discord_role_id),
            role=row.role,
            mapped_by=None if row.mapped_by is None else names[row.mapped_by],
            mapped_at=row.mapped_at_ms,
        )
        for row in rows
    ]
    return page_of(shown, total, wanted, when_empty="No role of Discord stands for a role here yet.")


@router.put("/role-mappings/{discord_role_id}")
async def map_role(
    granted: Owner, ports: Ports, make: ToMake, discord_role_id: DiscordRoleId, wanted: RoleWanted
) -> NewMapping:
    """Let whoever has a role on Discord have a role here."""
    at_ms = await make(MapRole(discord_role_id, wanted.role))
    by = granted.session.user.user_id
    names = await _named(ports, {by})
    missing = await _is_missing(ports.discord_roles, granted.guild_id, discord_role_id)
    return NewMapping(
        discord_role_id=str(discord_role_id),
        role=wanted.role,
        mapped_by=names[by],
        mapped_at=at_ms,
        hint=NO_SUCH_DISCORD_ROLE if missing else None,
    )


@router.delete("/role-mappings/{discord_role_id}", status_code=204)
async def unmap_role(granted: Owner, make: ToMake, discord_role_id: DiscordRoleId) -> Response:
    """Let a role of Discord stand for nothing here any more."""
    del granted
    await make(UnmapRole(discord_role_id))
    return Response(status_code=204)


async def _is_missing(discord: GuildRoleSource, guild_id: int, role_id: int) -> bool:
    """Return whether Discord says that a server has no such role; when it says nothing, nobody knows."""
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            return role_id not in await discord.guild_roles(guild_id)
    except (DiscordUnavailable, TimeoutError) as problem:
        log.info("roles_not_listed", guild=guild_id, error=repr(problem))
        return False


async def _named(ports: Ports, user_ids: set[int | None] | set[int]) -> dict[int, UserView]:
    return await ports.people.resolve({user_id for user_id in user_ids if user_id is not None})
