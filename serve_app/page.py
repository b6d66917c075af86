"""Serves the built page: hashed assets for ever, the page itself never from a cache."""

from __future__ import annotations

import stat
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from serve_app.errors import ApiError

ENCODINGS = {"br": ".br", "gzip": ".gz"}
"""How the build has compressed the assets, the smallest first, and what it appends to their names."""


class _HashedAssets(StaticFiles):
    """Files whose names change with their content, compressed when they were built."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path.endswith(tuple(ENCODINGS.values())):
            raise _nothing_here()  # a name of ours alone: what it holds is no file of that kind
        response = await super().get_response(path, scope)
        for encoding in accepted_encodings(Headers(scope=scope).get("accept-encoding", "")):
            smaller, found = await to_thread.run_sync(self.lookup_path, path + ENCODINGS[encoding])
            if found is not None and stat.S_ISREG(found.st_mode):
                response = self.file_response(smaller, found, scope)
                response.headers["content-encoding"] = encoding
                break
        response.headers["vary"] = "Accept-Encoding"
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response


def accepted_encodings(header: str) -> list[str]:
    """Return those of our encodings that a browser takes, the smallest first."""
    taken = set()
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        if not any(parameter.removeprefix("q=").strip("0.") == "" for parameter in parameters):
            taken.add(name)
    return [encoding for encoding in ENCODINGS if encoding in taken]


def install_page(app: FastAPI, static_dir: Path) -> None:
    """Serve the page at every path of its own; must be installed after all other routes."""
    app.mount("/assets", _HashedAssets(directory=static_dir / "assets"), name="assets")
    root_files = {path.name for path in static_dir.iterdir() if path.is_file()}

    @app.api_route("/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(path: str) -> FileResponse:
        if path in root_files and path != "index.html":
            return FileResponse(static_dir / path)
        if path == "api" or path.startswith("api/") or ("." in path and path != "index.html"):
            raise _nothing_here()  # no address of the page has a dot: this is a file that is not there
        return FileResponse(static_dir / "index.html")


def _nothing_here() -> ApiError:
    return ApiError(404, "not_found", "There is nothing here.")
