"""Hosts and relays of a small network in one process, as the properties need them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from actors.host import GuildHost, HostSettings
from actors.routing import GuildDirectory, HostCalls, Routing
from adapters.memory import (
    MemoryClock,
    MemoryDatabase,
    MemoryGuildStore,
    MemoryOpenSockets,
    SharedSockets,
)
from domain.events import Accepted, Batch, Event, decode_reply, encode_batch
from domain.placement import place
from domain.socket_limits import SocketLimits
from serve_app.hub import Hub
from serve_app.pacing import Pace
from serve_app.socket import Socket
from serve_app.socket_counts import SocketCounts
from tests.serve_app.scripted_host import RecordingWire

NO_TIME = Pace(used_s=lambda: 0.0)
"""Nothing takes long, so no relay ever rests."""


class Network:
    """Two hosts on one database, and relays that listen to both."""

    def __init__(self, relays: int) -> None:
        self.database = MemoryDatabase(MemoryClock())
        self.hosts: dict[str, GuildHost] = {
            host_id: GuildHost(HostSettings(host_id, tick_ms=3_600_000), self._open, self.database.now_ms)
            for host_id in ("h0", "h1")
        }
        calls: dict[str, HostCalls] = dict(self.hosts)
        self._routing = Routing(place(1, self.hosts), calls)
        self._relays = relays
        self._numbers = count(1)
        self.hubs: list[Hub] = []

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)

    async def routing(self) -> Routing:
        return self._routing

    async def start(self) -> None:
        for host in self.hosts.values():
            await host.start()
            await host.assign(self._routing.placement)
        for _ in range(self._relays):
            directory = GuildDirectory(self)
            await directory.start()
            everywhere = MemoryOpenSockets(SharedSockets(), "relay")
            self.hubs.append(Hub(directory, SocketCounts(SocketLimits(), everywhere, lambda: 0.0), NO_TIME))
            await self.hubs[-1].start()

    async def stop(self) -> None:
        for hub in self.hubs:
            await hub.stop()
        for host in self.hosts.values():
            await host.stop("the example is over")

    async def settled(self) -> None:
        """Let everything run that waits for nothing but its turn."""
        for _ in range(20):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            while under_way := {task for hub in self.hubs for task in hub._tasks._tasks}:
                await asyncio.wait(under_way)

    async def tell(self, *events: Event) -> None:
        """Let events happen, and let everything that follows from them happen too."""
        for event in events:
            host = self.hosts[self._routing.placement.owner_of(event.guild_id)]
            payload = encode_batch(Batch("s", next(self._numbers), (event,)))
            assert isinstance(decode_reply(await host.ingest(payload)), Accepted)
        await self.settled()

    def watchers(self) -> Counter[tuple[int, int]]:
        """Count, by guild and user, the places that are taken at the hosts."""
        return Counter(
            {
                (guild.state.guild_id, user_id): sockets
                for host in self.hosts.values()
                for guild in host._table.live()
                for user_id, sockets in guild.sockets_of.items()
            }
        )


@asynccontextmanager
async def network(relays: int = 1) -> AsyncIterator[Network]:
    found = Network(relays)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


def open_socket(hub: Hub, user_id: int) -> Socket:
    """Return a socket that a relay knows, and whose frames stay with it."""
    socket = Socket(user_id, "", RecordingWire())
    hub.enter(socket)
    return socket


def received(socket: Socket) -> list[dict[str, Any]]:
    return _wire(socket).frames


def close_code(socket: Socket) -> int | None:
    closed = _wire(socket).closed
    return None if closed is None else closed[0]


def _wire(socket: Socket) -> RecordingWire:
    assert isinstance(socket.wire, RecordingWire)
    return socket.wire
