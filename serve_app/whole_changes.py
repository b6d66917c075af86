"""A change is made whole: with all that follows its commit, whether or not somebody waits for the answer.

Serve cancels a request's task when its browser leaves. Between a commit and its announcement that would leave
the other replicas with what was before, and those who watch untold.
"""

from __future__ import annotations

import asyncio

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.errors import ApiError, error_answer
from serve_app.limits import SAFE_METHODS
from tasks import SupervisedTasks

log = structlog.get_logger()

MAX_CHANGES = 500
"""Changes under way at a replica: half of the requests that Serve gives it."""
CHANGE_WITHIN_S = 60.0
"""Longer than all that a change waits for; each of its steps has a limit of its own."""
DRAIN_S = 10.0
"""Serve waits 20 seconds for a replica that ends."""


class ChangeMiddleware:
    """Runs requests that change something in tasks that the requests do not own."""

    def __init__(self, app: ASGIApp, *, changes: SupervisedTasks) -> None:
        self._app = app
        self._changes = changes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
            return
        if len(self._changes) >= MAX_CHANGES:
            await error_answer(scope["state"]["request_id"], _busy())(scope, receive, send)
            return
        awaited = True

        async def send_if_awaited(message: Message) -> None:
            if awaited:
                await send(message)
            elif message["type"] == "http.response.start":
                log.info("answer_not_awaited", path=scope["path"], status=message["status"])

        try:
            work = self._app(scope, receive, send_if_awaited)
            await self._changes.finish("change", work, CHANGE_WITHIN_S)  # type: ignore[arg-type]
        except asyncio.CancelledError:
            awaited = False
            raise


def _busy() -> ApiError:
    return ApiError(
        503,
        "too_many_changes",
        "Too many changes are being made. Try again in a moment.",
        headers={"retry-after": "1"},
    )
