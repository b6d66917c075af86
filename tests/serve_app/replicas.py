"""API replicas with caches, on real hosts in one process, on a network that can freeze and kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Any

from actors.announcer import HostAnnouncer
from actors.guild_table import TableSettings
from actors.host import GuildHost, HostPing, HostSettings
from actors.observers import Change
from actors.routing import GuildDirectory, HostCalls, Routing
from actors.signs import Sign, Signs
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from domain.errors import HostUnreachable
from domain.events import Accepted, Batch, Event, decode_reply, encode_batch
from domain.placement import place
from serve_app.cache import Caches, ForgettingAnnouncer
from serve_app.guild_watch import GuildWatch


class ReachedHost:
    """A host as replicas reach it: it can die, and be frozen, and then neither answers nor says a word."""

    def __init__(self, host: GuildHost) -> None:
        self.host = host
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.carries = asyncio.Event()
        """Unset, its streams hang, and nothing else does."""
        self.carries.set()
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _alive(self) -> None:
        thaw = asyncio.ensure_future(self.thawed.wait())
        await asyncio.wait({thaw, self.died}, return_when=asyncio.FIRST_COMPLETED)
        thaw.cancel()
        if self.died.done():
            raise HostUnreachable

    async def ping(self) -> HostPing:
        await self._alive()
        return await self.host.ping()

    async def changes(self, observer_id: str) -> AsyncIterator[list[Change]]:
        await self._alive()
        arrived: asyncio.Queue[list[Change] | Exception | None] = asyncio.Queue()

        async def pump() -> None:
            async with aclosing(self.host.changes(observer_id)) as stream:  # type: ignore[type-var]
                async for changes in stream:
                    await self._alive()
                    await self.carries.wait()
                    arrived.put_nowait(changes)
            arrived.put_nowait(None)

        self.died.add_done_callback(lambda _: arrived.put_nowait(HostUnreachable()))
        pumping = asyncio.create_task(pump())
        try:
            while (next_one := await arrived.get()) is not None:
                if isinstance(next_one, Exception):
                    raise next_one
                yield next_one
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)

    async def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        await self._alive()
        await self.host.observe(observer_id, guild_id, turn)
        await self._alive()

    async def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        await self._alive()
        await self.host.unobserve(observer_id, guild_id, turn)

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        await self._alive()
        await self.host.announce(guild_id, events)

    def die(self) -> None:
        if not self.died.done():
            self.died.set_result(None)


class Replica:
    """An API replica as far as it remembers."""

    def __init__(self, house: House) -> None:
        self.directory = GuildDirectory(house)
        self.watch = GuildWatch(self.directory, house, lambda: house.clock() / 1000)
        self.caches = Caches(house.clock, self.watch)
        self.announcer = ForgettingAnnouncer(self.caches, HostAnnouncer(self.directory))
        self.watch.start(self.caches)

    async def close(self) -> None:
        await self.watch.stop()


class House:
    """Two hosts, and replicas that observe them; time moves only by hand."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.database = MemoryDatabase(self.clock)
        self.hosts: dict[str, ReachedHost] = {}
        self.replicas: list[Replica] = []
        self.director_away = False
        self._routing = Routing(place(1, ["h0", "h1"]), {})
        self._signs = Signs()
        self._asking: list[asyncio.Task[None]] = []
        self._batches = count(1)

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)

    async def routing(self) -> Routing:
        if self.director_away:
            raise HostUnreachable
        return self._routing

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        if self.director_away:
            raise HostUnreachable
        return self._signs.of(streams, self.clock() / 1000)

    async def start(self, replicas: int) -> None:
        for host_id in ("h0", "h1"):
            await self.begin_life(host_id)
        self.replicas = [Replica(self) for _ in range(replicas)]
        await self.settled()

    async def stop(self) -> None:
        await asyncio.gather(*self._asking)
        for replica in self.replicas:
            await replica.close()
        for host in self.hosts.values():
            await host.host.stop("the example is over")

    def owner(self, guild_id: int) -> ReachedHost:
        return self.hosts[self._routing.placement.owner_of(guild_id)]

    async def begin_life(self, host_id: str) -> None:
        """Begin the next life of a host, as the Director does; whatever the last one believes."""
        settings = HostSettings(host_id, tick_ms=3_600_000, table=TableSettings(idle_after_ms=1))
        host = GuildHost(settings, self._open, self.clock)
        await host.start()
        await host.assign(self._routing.placement)
        self.hosts[host_id] = ReachedHost(host)
        self._publish(self._routing.placement.version + 1, self._routing.placement.owners)

    def _publish(self, version: int, owners: Any) -> None:
        calls: dict[str, HostCalls] = dict(self.hosts)  # type: ignore[arg-type]
        placement = type(self._routing.placement)(version, tuple(owners))
        self._routing = Routing(placement, calls)

    async def kill(self, host_id: str) -> None:
        """Let a host die; its next life begins, and nobody is told but those whose calls fail."""
        dead = self.hosts[host_id]
        dead.die()
        self._signs.forget(host_id)
        await self.begin_life(host_id)
        await dead.host.stop("killed")

    async def move_all(self, *owners: str) -> None:
        """Hand the guilds over: who gives up is told first, then who takes, then who asks."""
        placement = place(self._routing.placement.version + 1, owners)
        ordered = sorted(self.hosts, key=lambda host_id: host_id in owners)
        for host_id in ordered:
            await self.hosts[host_id].host.assign(placement)
        self._publish(placement.version, placement.owners)

    async def happen(self, event: Event) -> None:
        """Let a host make an event durable: the same batch again, to whoever has the guild by now."""
        batch = encode_batch(Batch(f"shard{next(self._batches)}", 1, (event,)))
        async with asyncio.timeout(5):
            while True:
                answer = decode_reply(await self.owner(event.guild_id).host.ingest(batch))
                if isinstance(answer, Accepted):
                    return
                await asyncio.sleep(0.001)  # as a shard does

    def tick(self) -> None:
        """Let a second pass on all hosts that are not frozen; the Director pings, and replicas ask it."""
        self.clock.advance(1_000)
        for host_id, host in self.hosts.items():
            if host.thawed.is_set():
                host.host._observers.tick()
                host.host._table.passivate_idle()
                self._signs.note(host_id, self.clock() / 1000, host.host._observers.told())
        self._asking += [asyncio.create_task(replica.watch.ask_for_signs()) for replica in self.replicas]

    async def settled(self) -> None:
        """Let everything run that waits for nothing but its turn."""
        for _ in range(60):
            await asyncio.sleep(0)


@asynccontextmanager
async def house_of(replicas: int = 2) -> AsyncIterator[House]:
    house = House()
    await house.start(replicas)
    try:
        yield house
    finally:
        await house.stop()
