"""What the dashboard shows of a person's servers."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from domain.permissions import PERMISSIONS, Permission, Role
from domain.ports import GuildRow
from domain.sessions import SessionGuild
from serve_app.access import LoggedIn, OfGate, Ports
from serve_app.paging import Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers", tags=["servers"], route_class=PlainRoute)


class Server(BaseModel):
    """A server that the person may look at, and what they may do there.

    ``invite_url`` is there when the bot is not.
    """

    id: str
    name: str
    icon_url: str | None
    member_count: int | None
    role: Role
    permissions: list[Permission]
    bot_present: bool
    bot_online: bool
    invite_url: str | None


class ServerPage(Page[Server]):
    """One page of the servers that the person may look at."""

    unchecked: int
    """Servers of theirs that are in no page, because it cannot be said now whether they may look at them."""


@router.get("")
async def servers(session: LoggedIn, ports: Ports, gate: OfGate, wanted: PageWanted) -> ServerPage:
    """List the servers that the person may look at, by name.

    What is not known of one server keeps no other from being listed.
    """
    roles = await gate.roles_of(session)
    visible = sorted(
        ((guild, role) for guild in session.guilds if (role := roles.get(guild.guild_id)) is not None),
        key=lambda one: (one[0].name.casefold(), one[0].guild_id),
    )
    page = visible[wanted.offset : wanted.offset + wanted.per_page]
    known = await ports.store.guilds([guild.guild_id for guild, _ in page])
    rows = [
        _server(guild, role, known.get(guild.guild_id), ports.settings.invite_url) for guild, role in page
    ]
    unchecked = len(session.guilds) - len(roles)
    when_empty = "None of your servers is open to you here. Ask a server's owner for a role."
    if unchecked:
        when_empty = "Your role cannot be checked in all of your servers now. Try again in a moment."
    found = page_of(rows, len(visible), wanted, when_empty=when_empty)
    return ServerPage(**dict(found), unchecked=unchecked)


def _server(guild: SessionGuild, role: Role, row: GuildRow | None, invite_url: str) -> Server:
    present = row is not None and row.bot_present
    return Server(
        id=str(guild.guild_id),
        name=guild.name,
        icon_url=guild.icon_url,
        member_count=row.member_count if row else None,
        role=role,
        permissions=sorted(PERMISSIONS[role]),
        bot_present=present,
        bot_online=row is not None and row.bot_online,
        invite_url=None if present else f"{invite_url}&guild_id={guild.guild_id}",
    )
