from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest

from actors.group_commit import CommitSettings
from adapters.memory import MemoryClock, MemoryDatabase
from tests.actors.hosts import HostUnderTest


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
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def database(clock: MemoryClock) -> MemoryDatabase:
    return MemoryDatabase(clock)


@pytest.fixture
async def host(database: MemoryDatabase, clock: MemoryClock) -> AsyncIterator[HostUnderTest]:
    """Give a host that does not push metrics by itself within a test."""
    commit = CommitSettings(retry_after_ms=1)
    host = await HostUnderTest(database, clock, tick_ms=3_600_000, commit=commit).start()
    yield host
    await host.stop()
