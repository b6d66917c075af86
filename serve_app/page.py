"""Serves the built page: hashed assets for ever, the page itself never from a cache."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serve_app.errors import ApiError


class _HashedAssets(StaticFiles):
    """Files whose names change with their content."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def install_page(app: FastAPI, static_dir: Path) -> None:
    """Serve the page at every path of its own; must be installed after all other routes."""
    app.mount("/assets", _HashedAssets(directory=static_dir / "assets"), name="assets")
    root_files = {path.name for path in static_dir.iterdir() if path.is_file()}

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(path: str) -> FileResponse:
        if path in root_files and path != "index.html":
            return FileResponse(static_dir / path)
        if path == "api" or path.startswith("api/"):
            raise ApiError(404, "not_found", "There is nothing here.")
        return FileResponse(static_dir / "index.html")
