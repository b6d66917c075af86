"""What FastAPI does not say of the API by itself: how one logs in, and which headers answers carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from serve_app.access import CSRF_HEADER, changing_session, current_session

SESSION, CSRF = "session", "csrf"

_HEADERS: dict[str, dict[str, Any]] = {
    "Allow": {"description": "What may be done there.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
}
_CARRIES = {"405": "Allow", "429": "Retry-After"}


def complete(document: dict[str, Any], app: FastAPI, session_cookie: str) -> dict[str, Any]:
    """Add to a document who may ask for what, and the headers of the answers."""
    document.setdefault("components", {})["securitySchemes"] = {
        SESSION: {
            "type": "apiKey",
            "in": "cookie",
            "name": session_cookie,
            "description": "Set by logging in: `/api/auth/login`.",
        },
        CSRF: {
            "type": "apiKey",
            "in": "header",
            "name": CSRF_HEADER,
            "description": "`csrf_token` of `/api/auth/me`; every change carries it.",
        },
    }
    document["components"]["headers"] = _HEADERS
    for route in iter_route_contexts(app.routes):
        if not getattr(route, "include_in_schema", False) or not hasattr(route, "dependant"):
            continue
        needed = _needed(route.dependant)
        for method in route.methods or ():
            operation = document["paths"][route.path][method.lower()]
            operation["security"] = [{name: [] for name in needed}] if needed else []
            for status, response in operation["responses"].items():
                if (name := _CARRIES.get(status)) is not None:
                    response["headers"] = {name: {"$ref": f"#/components/headers/{name}"}}
    return document


def _needed(dependant: Any) -> list[str]:
    calls = set(_calls_of(dependant))
    return [
        *([SESSION] if current_session in calls else []),
        *([CSRF] if changing_session in calls else []),
    ]


def _calls_of(dependant: Any) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls_of(inner)
