"""What the control API accepts: each check answers with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .faults import RestFault

if TYPE_CHECKING:
    from aiohttp import web

_MAX_COUNT, _MAX_RETRY_AFTER_S, _MAX_DELAY_MS = 100_000, 3_600.0, 60_000
_MIN_ERROR, _MAX_ERROR = 500, 599
_SCOPES = ("user", "global", "shared")
_MAX_DIGITS = 20

Json = dict[str, Any]


class BadRequest(Exception):
    """A request that makes no sense; the message says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def rest_fault(body: Json) -> RestFault:
    """Return the REST fault a body asks for."""
    path, scope = body.get("path", "/"), body.get("scope", "user")
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest('path must start with "/"; it is compared with what follows /api/v10.')
    if scope not in _SCOPES:
        raise BadRequest(f"scope must be one of {', '.join(_SCOPES)}.")
    return RestFault(
        kind=body["kind"],
        count=int(number(body, "count", 1, _MAX_COUNT, default=1)),
        path=path,
        scope=scope,
        retry_after_s=number(body, "retry_after_s", 0, _MAX_RETRY_AFTER_S, default=1.0),
        delay_ms=int(number(body, "delay_ms", 0, _MAX_DELAY_MS, default=1_000)),
        status=int(number(body, "status", _MIN_ERROR, _MAX_ERROR, default=503)),
    )


def number(body: Json, name: str, least: float, most: float, default: float | None = None) -> float:
    """Return a number of the body within its bounds."""
    value = body.get(name, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise BadRequest(f"{name} must be a number from {least:g} to {most:g}.")


def query_number(request: web.Request, name: str, least: int, most: int, *, default: int) -> int:
    """Return a whole number of the query within its bounds."""
    text = request.query.get(name, str(default))
    if not _is_digits(text) or not least <= int(text) <= most:
        raise BadRequest(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def parse_id(value: Any, name: str) -> int:
    """Return an id given as text or number."""
    text = str(value)
    if isinstance(value, bool) or not _is_digits(text):
        raise BadRequest(f"{name} must be an id, or where a person is meant one of their names.")
    return int(text)


async def json_body(request: web.Request) -> Json:
    """Return the JSON object of a request."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    return body


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
