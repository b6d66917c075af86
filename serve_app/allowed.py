"""What may be done at a path, by any of its routes: the router's own header names what one of them takes."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts


def allowed_methods(app: FastAPI, path: str) -> str:
    """Return the methods that a path takes, as ``Allow`` names them; none when there is nothing."""
    found: set[str] = set()
    for route in iter_route_contexts(app.routes):
        described = getattr(route, "include_in_schema", False)
        if hasattr(route, "path_regex") and route.path_regex.match(path):
            # The page is at every path, but those of the API are not its own.
            found |= route.methods or set() if described or not path.startswith("/api/") else set()
    return ", ".join(sorted(found | ({"HEAD"} if "GET" in found else set())))
