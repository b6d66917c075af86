"""What comes in is bounded and plain before anything acts on it: whole JSON in UTF-8, each key once.

Starlette's own limit answers in another form than ours, and what is read here must be bounded anyway.
"""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote_plus

from pydantic import JsonValue
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.plain_json import JsonRefused, parse_plain_json, require_whole
from serve_app.errors import ApiError, error_answer
from serve_app.limits import SAFE_METHODS

PLAIN_TEXT: dict[str, JsonValue] = {"pattern": r"^[^\x00]*$"}
"""How a text stands in the API's description; the answer to another is given here, before any route."""
READ_WITHIN_S = 10.0
"""Nobody needs longer for so little; who sends a byte a second would hold a place for hours."""

_JSON_TYPE = re.compile(r"application/(json|[\w.!#$&^-]+\+json)\s*(;.*)?", re.IGNORECASE | re.ASCII)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)


class InputMiddleware:
    """Answers what is too large or makes no sense itself; hands on the rest with its body read."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            _require_small(headers.get("content-length", "0"), self._max_body_bytes)
            _require_whole(unquote_plus(scope["query_string"].decode("latin-1")))
            if scope["method"] not in SAFE_METHODS:
                body = await _read(receive, self._max_body_bytes)
                if body is None:
                    return  # whoever asked has gone
                if body:
                    _require_json_type(headers.get("content-type", ""))
                    require_plain_json(body)
                receive = _again(body, receive)
        except ApiError as refusal:
            await error_answer(scope["state"]["request_id"], refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def require_plain_json(body: bytes) -> None:
    """Refuse what two readers might understand differently, or what no store can take."""
    try:
        parse_plain_json(body)
    except JsonRefused as refused:
        raise _as_answer(refused) from None


def _require_small(declared: str, most: int) -> None:
    digits = declared.lstrip("0")
    if len(digits) > len(str(most)) or (digits.isdecimal() and int(digits) > most):
        raise _too_large(most)


async def _read(receive: Receive, most: int) -> bytes | None:
    """Return the body, or None when the connection is gone; refuse it when it is too large or too slow."""
    body = bytearray()
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > most:
                    raise _too_large(most)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(408, "body_too_slow", "The body did not arrive in time. Try again.") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that hands over a body that was read already."""
    handed_over = False

    async def again() -> Message:
        nonlocal handed_over
        if handed_over:
            return await receive()
        handed_over = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _require_json_type(content_type: str) -> None:
    charset = _CHARSET.search(content_type)
    if not _JSON_TYPE.fullmatch(content_type.strip()) or (
        charset and charset[1].lower() not in ("utf-8", "utf8")
    ):
        raise ApiError(
            415, "unsupported_media_type", "Send JSON in UTF-8, with `Content-Type: application/json`."
        )


def _require_whole(text: str) -> None:
    try:
        require_whole(text)
    except JsonRefused as refused:
        raise _as_answer(refused) from None


def _as_answer(refused: JsonRefused) -> ApiError:
    return ApiError(
        422, refused.code, str(refused), {"key": refused.key} if refused.key is not None else None
    )


def _too_large(most: int) -> ApiError:
    return ApiError(413, "body_too_large", f"A body may have {most >> 10} KiB at most.")
