from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serve_app.web import PLAIN, TLS, Web, running


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs Ray here is in the wrong place: nobody can import it, nobody can start it."""
    ray = sys.modules.get("ray")
    if ray is not None:

        def refuse(*_: object, **__: object) -> None:
            pytest.fail("this test started Ray")

        monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture
def static_dir(tmp_path: Path) -> Path:
    """Lay out a built page, with something beside it that is nobody's business."""
    (tmp_path / "secret.txt").write_text("secret")
    dist = tmp_path / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<!doctype html><title>Guildhall</title>")
    (dist / "favicon.svg").write_text("<svg/>")
    (dist / "assets" / "main-ABC123.js").write_text("export {};")
    return dist


@pytest.fixture
async def web(static_dir: Path) -> AsyncIterator[Web]:
    async with running(PLAIN, static_dir) as web:
        yield web


@pytest.fixture
async def tls(static_dir: Path) -> AsyncIterator[Web]:
    """Run the application for people who come by https."""
    async with running(TLS, static_dir) as web:
        yield web
