"""What very many hosts cost their Director and each other: placing, and the messages of a quiet network.

The Director, hosts, relays and replicas are the real classes, all in this process; between them, what would
be a message of Ray is counted: a call, and each list that a stream yields.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from actors.director import Director, DirectorSettings, HostAccess
from actors.host import GuildHost, HostSettings
from actors.routing import GuildDirectory, Routing
from actors.signs import Sign
from adapters.clock import now_ms
from adapters.memory import MemoryDatabase, MemoryGuildStore, MemoryOpenSockets, SharedSockets
from benchmarks.result import part
from benchmarks.scale_guilds import LoopMeter
from domain.placement import place, weigh
from domain.socket_limits import SocketLimits
from serve_app.cache import Caches
from serve_app.guild_watch import GuildWatch
from serve_app.hub import Hub
from serve_app.socket_counts import SocketCounts

MANY_HOSTS = 256
MOST_BLOCKED_S = 0.1
MOST_MESSAGES_PER_S = 200.0
SETTLE_S = 3.0


class _Host:
    """A host as others reach it; calls and what streams yield are counted."""

    def __init__(self, host_id: str, database: MemoryDatabase, sent: Counter[str]) -> None:
        self._database, self._sent = database, sent
        self._host = GuildHost(HostSettings(host_id, host_id), self._open, now_ms)

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self._database)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._host, name)

        async def call(*arguments: Any) -> Any:
            self._sent[name] += 1
            return await method(*arguments)

        return call

    def stream(self, relay_id: str) -> AsyncIterator[Any]:
        return self._counted("relay streams", self._host.stream(relay_id))

    def changes(self, observer_id: str) -> AsyncIterator[Any]:
        return self._counted("streams of changes", self._host.changes(observer_id))

    async def _counted(self, name: str, lists: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for items in lists:
            self._sent[name] += 1
            yield items

    async def kill(self) -> None:
        await self._host.stop("killed")


class _Network:
    """A Director and its hosts, and whoever listens to them."""

    def __init__(self, hosts: int) -> None:
        self.sent: Counter[str] = Counter()
        self._database = MemoryDatabase(now_ms)
        self._hosts: dict[str, _Host] = {}
        access = HostAccess(self._create, self._find)
        self.director = Director(DirectorSettings(hosts=hosts), access, self._open, now_ms)

    async def routing(self) -> Routing:
        self.sent["routing"] += 1
        return await self.director.routing()

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        self.sent["signs"] += 1
        return await self.director.signs(streams)

    def _create(self, host_id: str, actor_name: str) -> _Host:
        self._hosts[actor_name] = _Host(host_id, self._database, self.sent)
        return self._hosts[actor_name]

    async def _find(self, actor_name: str) -> _Host | None:
        return self._hosts.get(actor_name)

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self._database)


@asynccontextmanager
async def _network(hosts: int) -> AsyncIterator[_Network]:
    network = _Network(hosts)
    await network.director.start()
    try:
        yield network
    finally:
        await network.director.stop("the benchmark is over")


async def placing(hosts: int) -> dict[str, Any]:
    """Let a Director begin with so many hosts, and add one; watch its loop meanwhile."""
    network = _Network(hosts)
    weigh.cache_clear()
    start = LoopMeter()
    await network.director.start()
    await start.stop()
    one_more = LoopMeter()
    await network.director.add_host()
    await one_more.stop()
    await network.director.stop("the benchmark is over")
    began_s = time.perf_counter()
    place(1, [f"h{number}" for number in range(hosts)])
    alone_s = time.perf_counter() - began_s
    busy_s = max(start.longest_busy_s, one_more.longest_busy_s)
    return part(
        bound=f"{hosts} hosts are placed with the loop blocked for at most {MOST_BLOCKED_S * 1000:.0f} ms",
        met=busy_s <= MOST_BLOCKED_S,
        hosts=hosts,
        longest_blocked_at_start_ms=round(start.longest_s * 1000, 1),
        longest_blocked_by_one_more_ms=round(one_more.longest_s * 1000, 1),
        of_it_busy_ms=round(busy_s * 1000, 1),
        place_ms=round(alone_s * 1000, 1),
    )


class _Replica:
    """What an API replica and a relay keep up towards the hosts, whatever their browsers do."""

    def __init__(self, network: _Network) -> None:
        self.directory = GuildDirectory(network)
        self.watch = GuildWatch(self.directory, network)
        self.caches = Caches(now_ms, self.watch)
        everywhere = MemoryOpenSockets(SharedSockets(), "relay")
        self.hub = Hub(self.directory, SocketCounts(SocketLimits(), everywhere, time.monotonic))

    async def start(self) -> None:
        await self.directory.start()
        self.watch.start(self.caches)
        await self.hub.start()

    async def stop(self) -> None:
        await self.watch.stop()
        await self.hub.stop()


async def chatter(hosts: int, replicas: int, seconds: float) -> dict[str, Any]:
    """Count what a network says while nothing happens: nothing remembered, and something of each host."""
    async with _network(hosts) as network:
        listening = [_Replica(network) for _ in range(replicas)]
        await asyncio.gather(*(replica.start() for replica in listening))
        await asyncio.sleep(SETTLE_S)
        idle = await _count(network, seconds)
        guild_ids = await _one_of_each(network, hosts)
        for replica in listening:
            await asyncio.gather(*(_remember(replica, guild_id) for guild_id in guild_ids))
        await asyncio.sleep(SETTLE_S)
        remembering = await _count(network, seconds)
        loads = Counter[int]()
        for replica in listening:
            for guild_id in guild_ids:
                await _remember(replica, guild_id, loads)
        await asyncio.gather(*(replica.stop() for replica in listening))
    idle_per_s, remembering_per_s = (sum(sent.values()) / seconds for sent in (idle, remembering))
    return part(
        bound=f"{hosts} hosts and {replicas} replicas: {MOST_MESSAGES_PER_S:.0f} messages/s while idle",
        met=max(idle_per_s, remembering_per_s) <= MOST_MESSAGES_PER_S,
        hosts=hosts,
        replicas=replicas,
        idle_per_s=round(idle_per_s, 1),
        remembering_of_each_host_per_s=round(remembering_per_s, 1),
        still_believed=round(1 - sum(loads.values()) / (replicas * len(guild_ids)), 3),
        kinds={name: round(number / seconds, 1) for name, number in remembering.most_common()},
    )


async def _count(network: _Network, seconds: float) -> Counter[str]:
    before = Counter(network.sent)
    await asyncio.sleep(seconds)
    return Counter(network.sent) - before


async def _one_of_each(network: _Network, hosts: int) -> list[int]:
    placement = (await network.director.routing()).placement
    found: dict[str, int] = {}
    for guild_id in count(10**17):
        found.setdefault(placement.owner_of(guild_id), guild_id)
        if len(found) == hosts:
            break
    return list(found.values())


async def _remember(replica: _Replica, guild_id: int, loads: Counter[int] | None = None) -> None:
    async def load() -> int:
        if loads is not None:
            loads[guild_id] += 1
        return guild_id

    await replica.caches.get("config", guild_id, "config", load)
