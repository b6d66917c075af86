"""Who is asking, and may they? Declared on a route in one line; denied when unsure."""

from __future__ import annotations

import secrets
from typing import Annotated, NamedTuple

from fastapi import Depends, Path, Request

from domain.ids import parse_snowflake
from domain.permissions import Permission, Role, may, resolve_role
from domain.ports import DashboardStore
from domain.sessions import Session, SessionGuild
from serve_app.errors import ApiError, missing_permission, no_session
from serve_app.ports import ApiPorts, WebSettings

CSRF_HEADER = "x-csrf-token"


def session_cookie_name(settings: WebSettings) -> str:
    """Return the cookie's name; behind TLS its prefix makes browsers hold it to this host."""
    return "__Host-guildhall" if settings.behind_tls else "guildhall"


def ports_of(request: Request) -> ApiPorts:
    """Return the replica's ports."""
    ports: ApiPorts = request.app.state.ports
    return ports


Ports = Annotated[ApiPorts, Depends(ports_of)]


async def current_session(request: Request, ports: Ports) -> Session:
    """Return the session of the request, or refuse with 401."""
    token = request.cookies.get(session_cookie_name(ports.settings))
    session = await ports.sessions.get(token) if token else None
    if session is None:
        raise no_session()
    return session


LoggedIn = Annotated[Session, Depends(current_session)]


async def changing_session(request: Request, session: LoggedIn, ports: Ports) -> Session:
    """Return the session of a request that changes something: from our own page, with its token."""
    origin = request.headers.get("origin")
    if origin is not None and origin != ports.settings.public_url:
        raise ApiError(403, "wrong_origin", "This request did not come from the dashboard.")
    if not secrets.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf_token.encode()):
        raise ApiError(403, "csrf", "The request carries no valid CSRF token. Reload the page.")
    return session


Changing = Annotated[Session, Depends(changing_session)]


def guild_id_of(guild_id: Annotated[str, Path(description="A Discord guild id")]) -> int:
    """Return the guild that the path names."""
    parsed = parse_snowflake(guild_id)
    if parsed is None:
        raise ApiError(422, "invalid_guild_id", "A server's id is a number as Discord writes it.")
    return parsed


GuildId = Annotated[int, Depends(guild_id_of)]


async def role_in(store: DashboardStore, session: Session, member: SessionGuild) -> Role | None:
    """Return the person's role in a guild of theirs. Raises ``StoreUnavailable``: then the answer is no."""
    assigned = await store.assigned_roles(session.user.user_id, [member.guild_id])
    return resolve_role(
        owns_guild=member.owns,
        discord_permissions=member.permissions,
        assigned=assigned.get(member.guild_id),
    )


class Granted(NamedTuple):
    """A request that may go on: who asks, about which guild, in which role."""

    session: Session
    guild_id: int
    role: Role | None


class Needs:
    """A dependency that lets through who holds a permission in the guild of the path."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, session: LoggedIn, guild_id: GuildId, ports: Ports) -> Granted:
        """Refuse with 403, or say who asks."""
        member = session.guild(guild_id)
        role = await role_in(ports.store, session, member) if member else None
        if not may(role, self.permission):
            raise missing_permission(self.permission)
        return Granted(session, guild_id, role)
