"""What every request meets first: an id, the security headers, a line in the log, an answer if it breaks."""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.cookies import drop_foreign_cookies
from serve_app.errors import internal_error
from serve_app.ports import WebSettings, login_cookie_name, session_cookie_name

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' https://cdn.discordapp.com data:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
PERMISSIONS_POLICY = (
    "accelerometer=(), browsing-topics=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
    "hid=(), magnetometer=(), microphone=(), midi=(), payment=(), publickey-credentials-get=(), "
    "screen-wake-lock=(), serial=(), usb=(), xr-spatial-tracking=()"
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "permissions-policy": PERMISSIONS_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STAY_ON_TLS = {"strict-transport-security": "max-age=31536000; includeSubDomains"}


class RequestMiddleware:
    """Plain ASGI, so that it costs a request microseconds."""

    def __init__(self, app: ASGIApp, *, settings: WebSettings) -> None:
        self._app = app
        self._headers = SECURITY_HEADERS | (STAY_ON_TLS if settings.behind_tls else {})
        self._cookies = session_cookie_name(settings), login_cookie_name(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        drop_foreign_cookies(scope, self._cookies)
        # Every line that is written on behalf of this request names it, whoever writes it.
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._handle(scope, receive, send, request_id)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = time.perf_counter()
        status: int | None = None
        body_comes = _declares_body(scope)

        async def receive_noting() -> Message:
            nonlocal body_comes
            message = await receive()
            if not message.get("more_body", False):
                body_comes = False
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                self._add_headers(headers, request_id, scope["path"])
                if body_comes:
                    headers["connection"] = "close"  # or a client could send the rest of it for days
            await send(message)

        try:
            await self._app(scope, receive_noting if body_comes else receive, send_with_headers)
        except Exception:
            # Starlette's own last resort lies outside of this one: its answer would carry no headers.
            log.exception("request_broke", method=scope["method"], path=scope["path"])
            if status is not None:
                raise  # half an answer is out: the server must cut the connection
            await internal_error(request_id)(scope, receive, send_with_headers)
        finally:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],  # never the query: codes and states of logins travel there
                status=status,
                ms=round((time.perf_counter() - started) * 1000, 1),
            )

    def _add_headers(self, headers: MutableHeaders, request_id: str, path: str) -> None:
        headers["x-request-id"] = request_id
        for name, value in self._headers.items():
            headers[name] = value
        # Compressed beside what a stranger can place, a secret could be guessed by the answer's length.
        keeps_secrets = path.startswith("/api/auth/")
        headers.setdefault("cache-control", "no-store, no-transform" if keeps_secrets else "no-store")


def _declares_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
        for name, value in scope["headers"]
    )
