"""Logging in by Discord, and out."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from domain.audit import AuditEntry
from domain.errors import LoginFailed, StoreUnavailable
from domain.sessions import LOGIN_MS, SESSION_MS, Identity, PendingLogin
from domain.views import UserView, user_view
from serve_app.access import Changing, LoggedIn, Ports, session_token
from serve_app.cookies import own_cookies
from serve_app.errors import ApiError
from serve_app.inputs import PLAIN_TEXT
from serve_app.plain_route import PlainRoute, takes_foreign_query
from serve_app.ports import ApiPorts, WebSettings, login_cookie_name, session_cookie_name
from serve_app.whole_changes import CHANGE_WITHIN_S
from tasks import SupervisedTasks

log = structlog.get_logger()

router = APIRouter(prefix="/api/auth", tags=["auth"], route_class=PlainRoute)


class Me(BaseModel):
    """Who is logged in. ``csrf_token`` goes into the ``X-CSRF-Token`` header of every change."""

    user: UserView
    csrf_token: str
    operator: bool
    """Whether the person operates this installation."""


class OwnSession(BaseModel):
    """One of the person's own sessions. Times are Unix milliseconds."""

    id: str
    created_at: int
    used_at: int
    current: bool
    """Whether it is the one that asks."""


@router.get("/login", status_code=307, response_class=RedirectResponse)
async def login(
    request: Request,
    ports: Ports,
    next_path: Annotated[str, Query(alias="next", max_length=500, json_schema_extra=PLAIN_TEXT)] = "/",
) -> Response:
    """Send a person to Discord. ``next`` is the page to come back to."""
    settings = ports.settings
    if request.headers.get("host") != settings.host:
        # Discord comes back to the public address: the cookie below must be set there too.
        return RedirectResponse(f"{settings.public_url}/api/auth/login?next={quote(next_path, safe='')}")
    state, code_verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    await ports.sessions.remember_login(state, PendingLogin(code_verifier, _own_path(next_path)))
    response = RedirectResponse(ports.login.authorize_url(state, code_verifier))
    response.set_cookie(
        login_cookie_name(settings),
        state,
        max_age=LOGIN_MS // 1000,
        path=_login_cookie_path(settings),
        httponly=True,
        samesite="lax",
        secure=settings.behind_tls,
    )
    return response


@router.get("/callback", status_code=303, response_class=RedirectResponse)
@takes_foreign_query  # Discord adds a word of its own now and then
async def callback(
    request: Request,
    ports: Ports,
    code: Annotated[str | None, Query(max_length=500, json_schema_extra=PLAIN_TEXT)] = None,
    state: Annotated[str, Query(max_length=200, json_schema_extra=PLAIN_TEXT)] = "",
    error: Annotated[str | None, Query(max_length=200, json_schema_extra=PLAIN_TEXT)] = None,
) -> Response:
    """Take a person back from Discord, and begin their session in place of the one that the browser had."""
    settings = ports.settings
    # The state must be one of ours, used for the first time, and of this very browser.
    pending = await ports.sessions.take_login(state) if state else None
    name = login_cookie_name(settings)
    known = own_cookies(request.scope, [name]).get(name, "")
    own = secrets.compare_digest(known.encode(), state.encode())
    if pending is None or not own:
        return _back(settings, "/?login_error=expired")
    if error is not None or code is None:
        return _back(settings, f"/?login_error={'access_denied' if error == 'access_denied' else 'failed'}")
    try:
        identity = await ports.login.identify(code, pending.code_verifier)
    except LoginFailed as problem:
        log.info("login_failed", reason=str(problem))
        return _back(settings, "/?login_error=failed")
    # A login is a change too, though browsers come by GET.
    changes: SupervisedTasks = request.app.state.changes
    token = await changes.finish("login", _begin(ports, request, identity), CHANGE_WITHIN_S)
    response = _back(settings, pending.next_path)
    response.set_cookie(
        session_cookie_name(settings),
        token,
        max_age=SESSION_MS // 1000,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.behind_tls,
    )
    return response


@router.post("/logout", status_code=204)
async def logout(request: Request, session: Changing, ports: Ports) -> Response:
    """End the session."""
    await ports.sessions.end(session_token(request, ports) or "")
    await _note(ports, request, session.user.user_id, "auth.logout")
    return _logged_out(ports.settings)


@router.post("/logout-everywhere", status_code=204)
async def logout_everywhere(request: Request, session: Changing, ports: Ports) -> Response:
    """End all of the person's sessions, in every browser."""
    await ports.sessions.end_everywhere(session.user.user_id)
    await _note(ports, request, session.user.user_id, "auth.logout", everywhere=True)
    return _logged_out(ports.settings)


@router.get("/sessions")
async def list_sessions(session: LoggedIn, ports: Ports) -> list[OwnSession]:
    """List one's own sessions, in all browsers; the newest login first."""
    return [
        OwnSession(
            id=each.session_id,
            created_at=each.created_at_ms,
            used_at=each.used_at_ms,
            current=each.session_id == session.session_id,
        )
        for each in await ports.sessions.sessions_of(session.user.user_id)
    ]


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(
    request: Request,
    session: Changing,
    ports: Ports,
    session_id: Annotated[str, Path(max_length=64, description="As the list of one's own sessions names it")],
) -> Response:
    """End one of one's own sessions, in whichever browser it is."""
    if not await ports.sessions.end_one(session.user.user_id, session_id):
        raise ApiError(404, "no_such_session", "You have no such session, or it has ended already.")
    await _note(ports, request, session.user.user_id, "auth.logout", session=session_id[:8])
    return Response(status_code=204)


@router.get("/me")
async def me(session: LoggedIn, ports: Ports) -> Me:
    """Say who is logged in."""
    return Me(
        user=user_view(session.user),
        csrf_token=session.csrf_token,
        operator=session.user.user_id in ports.settings.operators,
    )


async def _begin(ports: ApiPorts, request: Request, identity: Identity) -> str:
    token = await ports.sessions.begin(identity, instead_of=session_token(request, ports))
    await _note(ports, request, identity.user.user_id, "auth.login")
    return token


async def _note(ports: ApiPorts, request: Request, user_id: int, action: str, **details: Any) -> None:
    """Write to the audit log what has happened already: the database being away undoes no login."""
    entry = AuditEntry(None, user_id, action, details=details, request_id=request.state.request_id)
    try:
        await ports.audit.record([entry])
    except StoreUnavailable:
        log.warning("not_in_the_audit_log", action=action, user_id=user_id)


def _own_path(path: str) -> str:
    """Return a path on this site; anything that a browser might read as another site becomes "/"."""
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def _back(settings: WebSettings, path: str) -> RedirectResponse:
    response = RedirectResponse(f"{settings.public_url}{path}", status_code=303)
    response.delete_cookie(
        login_cookie_name(settings),
        path=_login_cookie_path(settings),
        httponly=True,
        samesite="lax",
        secure=settings.behind_tls,
    )
    return response


def _login_cookie_path(settings: WebSettings) -> str:
    """Return where browsers send the cookie: its prefix behind TLS asks for the whole site."""
    return "/" if settings.behind_tls else "/api/auth"


def _logged_out(settings: WebSettings) -> Response:
    response = Response(status_code=204)
    response.delete_cookie(
        session_cookie_name(settings), path="/", httponly=True, samesite="lax", secure=settings.behind_tls
    )
    return response
