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


@router.get("")
async def servers(session: LoggedIn, ports: Ports, gate: OfGate, wanted: PageWanted) -> Page[Server]:
    """List the servers that the person may look at, by name."""
    roles = await gate.roles_of(session)
    visible = sorted(
        (guild for guild in session.guilds if guild.guild_id in roles),
        key=lambda guild: (guild.name.casefold(), guild.guild_id),
    )
    page = visible[wanted.offset : wanted.offset + wanted.per_page]
    known = await ports.store.guilds([guild.guild_id for guild in page])
    rows = [
        _server(guild, roles[guild.guild_id], known.get(guild.guild_id), ports.settings.invite_url)
        for guild in page
    ]
    return page_of(
        rows,
        len(visible),
        wanted,
        when_empty="None of your servers is open to you here. Ask a server's owner for a role.",
    )


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
