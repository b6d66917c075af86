from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever needs Ray here is in the wrong place: nobody can import it, nobody can start it."""
    ray = sys.modules.get("ray")
    if ray is not None:

        def refuse(*_: object, **__: object) -> None:
            pytest.fail("this test started Ray")

        monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setitem(sys.modules, "ray", None)
