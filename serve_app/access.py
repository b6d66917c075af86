"""Who is asking, and may they? Declared on a route in one line; denied when unsure, and noted when denied."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, NamedTuple

from fastapi import Depends, Path, Request
from pydantic import JsonValue

from domain.audit import AuditLog
from domain.errors import RolesUnavailable, SessionsUnavailable
from domain.ids import SNOWFLAKE_PATTERN, parse_snowflake
from domain.permissions import Permission, Role, may
from domain.roles import Member, Roles
from domain.sessions import Session, SessionGuild
from serve_app.authority_watch import AuthorityWatch
from serve_app.cookies import own_cookies
from serve_app.denials import Denial, Denials, Kind
from serve_app.errors import ApiError, missing_permission, no_session
from serve_app.limits import SAFE_METHODS
from serve_app.ports import ApiPorts, session_cookie_name
from serve_app.role_reader import RoleReader

CSRF_HEADER = "x-csrf-token"


def session_token(request: Request, ports: ApiPorts) -> str | None:
    """Return what the browser says opens its session, if it says anything."""
    name = session_cookie_name(ports.settings)
    return own_cookies(request.scope, [name]).get(name)


async def ports_of(request: Request) -> ApiPorts:
    """Return the replica's ports."""
    ports: ApiPorts = request.app.state.ports
    return ports


Ports = Annotated[ApiPorts, Depends(ports_of)]


class Gate:
    """Knows at one replica who has which role, and notes whom it turned away."""

    def __init__(self, roles: Roles, audit: AuditLog, monotonic_s: Callable[[], float]) -> None:
        self.reader = RoleReader(roles, monotonic_s, lambda: self.watch.hears)
        self.watch = AuthorityWatch(roles, [self.reader], monotonic_s)
        self.denials = Denials(audit, monotonic_s)

    def start(self) -> None:
        """Begin to hear of changes, and to write down whom it turned away."""
        self.watch.start()
        self.denials.start()

    async def stop(self) -> None:
        """Hear no more, and write down what is left."""
        await self.watch.stop()
        await self.denials.stop()

    async def role_in(self, session: Session, guild_id: int) -> Role | None:
        """Return the person's role in a guild, or None when they have none.

        Raises:
            StoreUnavailable, RolesUnavailable: it could not be asked. Then they are to come back.

        """
        _require_list(session)
        guild = session.guild(guild_id)
        if guild is None:
            return None
        member = member_of(session, guild)
        roles = await self.reader.roles_of([member])
        if member not in roles:
            raise RolesUnavailable
        return roles[member]

    async def roles_of(self, session: Session) -> dict[int, Role | None]:
        """Return the person's roles in all guilds of theirs, None where they have none.

        A guild that is missing could not be asked about. Raises as ``role_in`` when no guild could.
        """
        _require_list(session)
        members = [member_of(session, guild) for guild in session.guilds]
        roles = await self.reader.roles_of(members)
        if members and not roles:
            raise RolesUnavailable
        return {member.guild_id: role for member, role in roles.items()}

    def refuse(
        self, request: Request, session: Session, error: ApiError, guild_id: int | None = None
    ) -> ApiError:
        """Note that somebody who is logged in is turned away; return the error to raise."""
        permission = error.details["permission"] if error.details else None
        route = request.scope.get("route")
        self.denials.note(
            Denial(
                Kind(session.user.user_id, guild_id, error.error_code, permission),
                request.method,
                getattr(route, "path", ""),
                getattr(request.state, "request_id", None),
            )
        )
        return error


def member_of(session: Session, guild: SessionGuild) -> Member:
    """Return the person as a member of one of their guilds."""
    user_id = session.user.user_id
    return Member(user_id, guild.guild_id, guild.owns, guild.permissions, session.guilds_as_of_ms)


def _require_list(session: Session) -> None:
    """Take no list for no answer, not for a person who is nowhere a member."""
    if session.guilds_as_of_ms == 0:
        raise RolesUnavailable


async def gate_of(request: Request) -> Gate:
    """Return the replica's gate."""
    gate: Gate = request.app.state.gate
    return gate


OfGate = Annotated[Gate, Depends(gate_of)]


async def current_session(request: Request) -> Session:
    """Return the session that was found and counted before the body was read, or refuse with 401.

    Raises:
        SessionsUnavailable: it could not be looked up, or is only remembered, and something is to be changed.

    """
    session: Session | None = request.scope["state"]["session"]
    if session is None:
        raise SessionsUnavailable if request.scope["state"].get("sessions_away") else no_session()
    if not session.confirmed and request.method not in SAFE_METHODS:
        raise SessionsUnavailable
    return session


LoggedIn = Annotated[Session, Depends(current_session)]


async def changing_session(request: Request, session: LoggedIn, ports: Ports, gate: OfGate) -> Session:
    """Return the session of a request that changes something: from our own page, with its token."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    if (origin is not None and origin != ports.settings.public_url) or site not in (None, "same-origin"):
        error = ApiError(403, "wrong_origin", "This request did not come from the dashboard.")
        raise gate.refuse(request, session, error)
    if not secrets.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf_token.encode()):
        error = ApiError(403, "csrf", "The request carries no valid CSRF token. Reload the page.")
        raise gate.refuse(request, session, error)
    return session


Changing = Annotated[Session, Depends(changing_session)]


async def operator_session(request: Request, session: LoggedIn, ports: Ports, gate: OfGate) -> Session:
    """Return the session of somebody who operates this installation, or refuse with 403."""
    if session.user.user_id not in ports.settings.operators:
        error = ApiError(403, "not_operator", "Only who operates this installation may do this.")
        raise gate.refuse(request, session, error)
    return session


Operator = Annotated[Session, Depends(operator_session)]


ID_SCHEMA: dict[str, JsonValue] = {"pattern": SNOWFLAKE_PATTERN}
"""How an id of Discord's stands in the API's description; the answer to another is ours to word."""


def snowflake_of(text: str, error_code: str, whose: str) -> int:
    """Return the id that somebody wrote, or refuse with 422."""
    parsed = parse_snowflake(text)
    if parsed is None:
        raise ApiError(422, error_code, f"{whose} id is a number as Discord writes it.")
    return parsed


async def user_id_of(
    user_id: Annotated[str, Path(description="A Discord user id", json_schema_extra=ID_SCHEMA)],
) -> int:
    """Return the person whom the path names."""
    return snowflake_of(user_id, "invalid_user_id", "A person's")


UserId = Annotated[int, Depends(user_id_of)]


InPath = Annotated[str, Path(description="A Discord guild id", json_schema_extra=ID_SCHEMA)]


class Granted(NamedTuple):
    """A request that may go on: who asks, about which guild, in which role."""

    session: Session
    guild_id: int
    role: Role | None
    ports: ApiPorts
    """For routes that are asked for often: one dependency less."""


class Needs:
    """A dependency that lets through who holds a permission in the guild of the path."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self, request: Request, session: LoggedIn, guild_id: InPath) -> Granted:
        """Refuse with 403, or say who asks."""
        guild = snowflake_of(guild_id, "invalid_guild_id", "A server's")
        gate = await gate_of(request)
        role = await gate.role_in(session, guild)
        if not may(role, self.permission):
            raise gate.refuse(request, session, missing_permission(self.permission), guild)
        return Granted(session, guild, role, await ports_of(request))
