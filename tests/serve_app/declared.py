"""What every route declares about who may call it, read from its dependencies and from nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from domain.permissions import Permission
from serve_app.access import Needs, changing_session, current_session, operator_session

PARAMETERS = {
    "guild_id": "40",
    "user_id": "9",
    "discord_role_id": "77",
    "rule": "invite-links",
    "violation_id": "00000000-0000-4000-8000-000000000000",
}
"""What stands in paths for their parameters; any other is 1."""

OPEN = {
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/api/ping"),
    ("GET", "/api/auth/login"),
    ("GET", "/api/auth/callback"),
}
"""Routes that need no session."""
OF_ANYBODY = {
    ("GET", "/api/auth/me"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/logout-everywhere"),
    ("GET", "/api/servers"),
    ("GET", "/api/auth/sessions"),
    ("DELETE", "/api/auth/sessions/{session_id}"),
}
"""Routes about the person themselves: a session is enough."""


class Declared(NamedTuple):
    """A route, and whom it lets through."""

    method: str
    path: str
    session: bool
    permission: Permission | None
    operator: bool
    changes: bool
    """Whether it asks for the CSRF token."""

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.path

    @property
    def url(self) -> str:
        return self.url_in(int(PARAMETERS["guild_id"]))

    def url_in(self, guild_id: int) -> str:
        values = PARAMETERS | {"guild_id": str(guild_id)}
        parts = self.path.split("/")
        return "/".join(values.get(part[1:-1], "1") if part.startswith("{") else part for part in parts)


def declared(app: FastAPI) -> list[Declared]:
    """Return every route of the API's description."""
    return sorted(
        Declared(
            method=method,
            path=route.path,
            session=current_session in calls,
            permission=next((call.permission for call in calls if isinstance(call, Needs)), None),
            operator=operator_session in calls,
            changes=changing_session in calls,
        )
        for route in iter_route_contexts(app.routes)
        if hasattr(route, "dependant") and route.include_in_schema
        for calls in [list(calls_of(route.dependant))]
        for method in route.methods or ()
    )


def calls_of(dependant: Any) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from calls_of(inner)
