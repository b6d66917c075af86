"""Logging in by Discord, and out."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel

from domain.errors import LoginFailed
from domain.sessions import PendingLogin, Session
from domain.views import UserView, user_view
from serve_app.access import Changing, LoggedIn, Ports, session_cookie_name
from serve_app.ports import WebSettings

router = APIRouter(prefix="/api/auth", tags=["auth"])

LOGIN_COOKIE = "guildhall_login"
LOGIN_COOKIE_PATH = "/api/auth"
LOGIN_COOKIE_S = 600
SESSION_COOKIE_S = 7 * 24 * 3600


class Me(BaseModel):
    """Who is logged in. ``csrf_token`` goes into the ``X-CSRF-Token`` header of every change."""

    user: UserView
    csrf_token: str
    operator: bool
    """Whether the person operates this installation."""


@router.get("/login", status_code=307, response_class=RedirectResponse)
async def login(
    request: Request, ports: Ports, next_path: Annotated[str, Query(alias="next", max_length=500)] = "/"
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
        LOGIN_COOKIE,
        state,
        max_age=LOGIN_COOKIE_S,
        path=LOGIN_COOKIE_PATH,
        httponly=True,
        samesite="lax",
        secure=settings.behind_tls,
    )
    return response


@router.get("/callback", status_code=303, response_class=RedirectResponse)
async def callback(
    request: Request,
    ports: Ports,
    code: Annotated[str | None, Query(max_length=500)] = None,
    state: Annotated[str, Query(max_length=200)] = "",
    error: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Take a person back from Discord, and begin their session."""
    settings = ports.settings
    # The state must be one of ours, used for the first time, and of this very browser.
    pending = await ports.sessions.take_login(state) if state else None
    own = secrets.compare_digest(request.cookies.get(LOGIN_COOKIE, "").encode(), state.encode())
    if pending is None or not own:
        return _back(settings, "/?login_error=expired")
    if error is not None or code is None:
        return _back(settings, f"/?login_error={'access_denied' if error == 'access_denied' else 'failed'}")
    try:
        identity = await ports.login.identify(code, pending.code_verifier)
    except LoginFailed:
        return _back(settings, "/?login_error=failed")
    token = await ports.sessions.create(
        Session(identity.user, identity.guilds, secrets.token_urlsafe(32), ports.now_ms())
    )
    response = _back(settings, pending.next_path)
    response.set_cookie(
        session_cookie_name(settings),
        token,
        max_age=SESSION_COOKIE_S,
        path="/",
        httponly=True,
        samesite="lax",
        secure=settings.behind_tls,
    )
    return response


@router.post("/logout", status_code=204)
async def logout(request: Request, session: Changing, ports: Ports) -> Response:
    """End the session."""
    del session
    name = session_cookie_name(ports.settings)
    await ports.sessions.end(request.cookies[name])
    response = Response(status_code=204)
    response.delete_cookie(name, path="/", httponly=True, samesite="lax", secure=ports.settings.behind_tls)
    return response


@router.get("/me")
async def me(session: LoggedIn, ports: Ports) -> Me:
    """Say who is logged in."""
    return Me(
        user=user_view(session.user),
        csrf_token=session.csrf_token,
        operator=session.user.user_id in ports.settings.operators,
    )


def _own_path(path: str) -> str:
    """Return a path on this site; anything that a browser might read as another site becomes "/"."""
    plain = path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") else "/"


def _back(settings: WebSettings, path: str) -> RedirectResponse:
    response = RedirectResponse(f"{settings.public_url}{path}", status_code=303)
    response.delete_cookie(LOGIN_COOKIE, path=LOGIN_COOKIE_PATH)
    return response
