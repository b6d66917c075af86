"""Routes as this API has them: what a query says is known and said once, and HEAD is GET without its body."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import ApiError

MAX_SHOWN = 10
MAX_SHOWN_NAME = 100

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def takes_foreign_query(endpoint: Endpoint) -> Endpoint:
    """Mark an endpoint whose query somebody else writes: what it does not know is passed over."""
    endpoint.__dict__["takes_foreign_query"] = True
    return endpoint


class PlainRoute(APIRoute):
    """Refuses a query that it would understand only in part: a typing error must not look like an answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See the base class."""
        handle = super().get_route_handler()
        known = frozenset(_query_names(self.dependant))
        foreign = getattr(self.endpoint, "takes_foreign_query", False)

        async def handle_plain(request: Request) -> Response:
            if request.scope["query_string"]:
                _require_known_once(request, known, foreign=foreign)
            return await handle(request)

        return handle_plain


class HeadMiddleware:
    """Answers HEAD as GET would be answered, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or not _of_the_api(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app({**scope, "method": "GET"}, receive, send_without_body)


def _of_the_api(path: str) -> bool:
    return path.startswith("/api/") or path in {"/health", "/metrics"}


def _query_names(dependant: Any) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for inner in dependant.dependencies:
        yield from _query_names(inner)


def _require_known_once(request: Request, known: frozenset[str], *, foreign: bool) -> None:
    said = Counter(name for name, _ in request.query_params.multi_items())
    unknown = [] if foreign else [name for name in said if name not in known]
    twice = [name for name, times in said.items() if times > 1]
    if unknown or twice:
        raise ApiError(
            422,
            "invalid_query",
            "The query says something that is not known here."
            if unknown
            else "The query says something twice.",
            {
                "unknown": _shown(unknown),
                "twice": _shown(twice),
                "known": sorted(known),
            },
        )


def _shown(names: list[str]) -> list[str]:
    return [name[:MAX_SHOWN_NAME] for name in names[:MAX_SHOWN]]
