"""A replica's streams from hosts: kept up whatever breaks, and given up with the host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from actors.routing import GuildDirectory, HostCalls, Routing
from domain.errors import HostUnreachable
from domain.placement import place
from serve_app import host_links
from serve_app.host_links import HostLinks
from tests.waiting import eventually


class Director:
    """Says which hosts there are."""

    def __init__(self) -> None:
        self.version = 1
        self.hosts: dict[str, Any] = {"h0": "h0", "h1": "h1"}

    async def routing(self) -> Routing:
        return Routing(place(self.version, tuple(self.hosts)), dict(self.hosts))


class Listener:
    """Breaks on the first stream that ends."""

    def __init__(self) -> None:
        self.ended = 0

    def deliver(self, listener_id: str, items: list[int]) -> None:
        pass

    def stream_ended(self, listener_id: str) -> None:
        del listener_id
        self.ended += 1
        if self.ended == 1:
            raise RuntimeError


async def test_a_stream_is_kept_up_until_its_host_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when what listens to it breaks; nothing is left of the link to a host that was drained."""
    before = asyncio.all_tasks()
    monkeypatch.setattr(host_links, "FIRST_RETRY_S", 0.01)
    director, listener = Director(), Listener()
    break_off = {"h0": asyncio.Event(), "h1": asyncio.Event()}

    async def open_stream(host: HostCalls, _: str) -> AsyncIterator[list[int]]:
        yield []
        await break_off[str(host)].wait()
        break_off[str(host)].clear()
        raise HostUnreachable

    directory = GuildDirectory(director)
    await directory.start()
    links = HostLinks(directory, open_stream, listener)
    links.start()

    async def all_stand() -> bool:
        return links.standing == len(director.hosts)

    await eventually(all_stand)
    for ended in (1, 2):
        break_off["h0"].set()

        async def is_broken(ended: int = ended) -> bool:
            return listener.ended == ended

        await eventually(is_broken)
        await eventually(all_stand)

    del director.hosts["h1"]
    director.version = 2
    break_off["h1"].set()

    async def is_gone() -> bool:
        return len(links) == 1

    await eventually(is_gone)
    assert cast("str", links.link_of(1).host) == "h0"
    await links.stop()
    assert asyncio.all_tasks() <= before
