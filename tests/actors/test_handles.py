"""Handles: what goes over the wire when a host is told a placement."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from actors.handles import HostHandle
from domain.errors import HostUnreachable
from domain.ids import SLOTS
from domain.placement import place
from tests.actors.hosts import HostUnderTest

HOSTS = [f"h{number}" for number in range(256)]


class RemoteMethod:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class RemoteActor:
    """A host as Ray hands it out; it notes what it is sent, and can lose an answer."""

    def __init__(self, host: HostUnderTest) -> None:
        self._host = host
        self.sent: list[tuple[str, int]] = []
        self.loses_answer = False

    def __getattr__(self, name: str) -> RemoteMethod:
        async def call(argument: Any) -> Any:
            self.sent.append((name, len(pickle.dumps(argument))))
            answer = await getattr(self._host.actor, name)(pickle.loads(pickle.dumps(argument)))
            if self.loses_answer:
                raise HostUnreachable
            return answer

        return RemoteMethod(call)


async def test_a_host_is_told_only_what_is_new(host: HostUnderTest) -> None:
    """After the first time; it owns the same as if it had been told everything."""
    actor = RemoteActor(host)
    handle = HostHandle(actor)
    await handle.assign(place(2, HOSTS))
    await handle.assign(place(4, [*HOSTS, "h256"]))
    assert host.actor._placement == place(4, [*HOSTS, "h256"])
    assert [name for name, _ in actor.sent] == ["assign", "assign_changes"]
    whole, new = (size for _, size in actor.sent)
    assert whole > SLOTS
    assert new < 600


async def test_a_host_that_knows_another_placement_is_told_everything(host: HostUnderTest) -> None:
    """Whoever told it meanwhile, and also where the last answer was lost."""
    actor = RemoteActor(host)
    handle = HostHandle(actor)
    await handle.assign(place(2, HOSTS))
    await host.actor.assign(place(3, ["another"]))
    await handle.assign(place(4, HOSTS))
    assert host.actor._placement == place(4, HOSTS)
    actor.loses_answer = True
    with pytest.raises(HostUnreachable):
        await handle.assign(place(6, ["another"]))
    actor.loses_answer = False
    await handle.assign(place(8, HOSTS))
    assert host.actor._placement == place(8, HOSTS)
    assert [name for name, _ in actor.sent] == [
        "assign",
        "assign_changes",
        "assign",
        "assign_changes",
        "assign",
    ]
