"""The API's description, as `/api/openapi.json` serves it and as the page's types are made from."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from serve_app.app import create_app
from serve_app.ports import ApiPorts, WebSettings


def describe_api() -> dict[str, Any]:
    """Return the OpenAPI document of this release, the same wherever it runs."""

    async def never() -> ApiPorts:
        raise RuntimeError("an application that only describes itself opens nothing")

    with tempfile.TemporaryDirectory() as folder:
        assets = Path(folder) / "assets"
        assets.mkdir()
        settings = WebSettings(public_url="http://localhost", static_dir=Path(folder), invite_url="")
        return create_app(settings, never).openapi()
