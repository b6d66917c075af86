"""Who asks is found out and counted before anything of a request is read but its headers."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.errors import SessionsUnavailable
from domain.rates import RateName
from domain.sessions import Session
from serve_app.cookies import own_cookies
from serve_app.errors import ApiError, error_answer
from serve_app.limits import SAFE_METHODS, address_of, count
from serve_app.ports import ApiPorts, session_cookie_name

LOGINS = frozenset({"/api/auth/login", "/api/auth/callback"})
"""Counted by address, whoever asks."""
FREE = frozenset({"/api/ping", "/health", "/metrics"})
"""Whoever watches over us is never refused for what others at its address did. Each costs less than counting,
or is done once for all who ask at the same time."""


class CountingMiddleware:
    """Answers 429 itself. Leaves the session in the request's state, and strangers' bodies unread."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or not _counts(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        ports: ApiPorts = scope["app"].state.ports
        session = await _session_of(scope, ports)
        try:
            await count(ports.limiter, *_rate_and_who(scope, session))
        except ApiError as refusal:
            await error_answer(scope["state"]["request_id"], refusal)(scope, receive, send)
            return
        scope["state"]["session"] = session
        if session is None and scope["method"] not in SAFE_METHODS:
            receive = _without_body(receive)  # no stranger may change anything: what they sent is not parsed
        await self._app(scope, receive, send)


def _counts(method: str, path: str) -> bool:
    """Return whether a request is counted here. The page and its files are counted at the front door."""
    if method not in SAFE_METHODS:
        return True
    return (path == "/api" or path.startswith("/api/")) and path not in FREE


async def _session_of(scope: Scope, ports: ApiPorts) -> Session | None:
    name = session_cookie_name(ports.settings)
    token = own_cookies(scope, [name]).get(name)
    if token is None or scope["path"] in LOGINS:
        return None
    try:
        return await ports.sessions.get(token)
    except SessionsUnavailable:
        scope["state"]["sessions_away"] = True  # a route that needs the session says so
        return None


def _rate_and_who(scope: Scope, session: Session | None) -> tuple[RateName, str]:
    if session is not None:
        return "reads" if scope["method"] in SAFE_METHODS else "changes", str(session.user.user_id)
    return "logins" if scope["path"] in LOGINS else "strangers", address_of(HTTPConnection(scope))


def _without_body(receive: Receive) -> Receive:
    said = False

    async def nothing() -> Message:
        nonlocal said
        if said:
            return await receive()
        said = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return nothing
