from __future__ import annotations

import sys
from pathlib import Path

import pytest

# What they find wrong is shown with its values, as in a test.
pytest.register_assert_rewrite("tests.properties.guild_ledger", "tests.properties.guild_world")


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs Ray here is in the wrong place: nobody can import it, nobody can start it."""
    ray = sys.modules.get("ray")
    if ray is not None:

        def refuse(*_: object, **__: object) -> None:
            pytest.fail("this test started Ray")

        monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.fixture(scope="session")
def page_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a built page that is empty."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    return folder
