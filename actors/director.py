"""The Director: creates the hosts and places the guilds. It is not on the data path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from actors.routing import HostCalls, Routing
from domain.errors import StoreUnavailable
from domain.placement import Placement, place
from domain.ports import GuildStore

log = structlog.get_logger()

TICK_EVERY_S = 3600.0


class Director:
    """Owns the placement. Killed, it loses nothing: hosts and shards go on with the one they have."""

    def __init__(
        self,
        host_ids: tuple[str, ...],
        create_host: Callable[[str], HostCalls],
        open_store: Callable[[], Awaitable[GuildStore]],
        now_ms: Callable[[], int],
    ) -> None:
        self._host_ids = host_ids
        self._create_host = create_host
        self._open_store = open_store
        self._now_ms = now_ms
        self._store: GuildStore
        self._hosts: dict[str, HostCalls] = {}
        self._placement: Placement | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Create the hosts, place the guilds, and tell every host what is its own."""
        self._store = await self._open_store()
        await self._store.ensure_partitions(self._now_ms())
        self._hosts = {host_id: self._create_host(host_id) for host_id in self._host_ids}
        await asyncio.gather(*(host.start() for host in self._hosts.values()))
        placement = place(await self._store.last_placement_version() + 1, self._host_ids)
        await self._store.write_placement(placement)
        await asyncio.gather(
            *(
                host.assign(placement.version, placement.slots_of(host_id))
                for host_id, host in self._hosts.items()
            )
        )
        self._placement = placement
        self._ticking = asyncio.create_task(self._tick_forever(), name="director-tick")

    async def stop(self, reason: str) -> None:
        """Stop the hosts, then rest."""
        if self._ticking is not None:
            self._ticking.cancel()
        await asyncio.gather(*(host.stop(reason) for host in self._hosts.values()), return_exceptions=True)

    async def routing(self) -> Routing:
        """Return the newest placement and its hosts."""
        if self._placement is None:
            message = "the director was not started"
            raise RuntimeError(message)
        return Routing(self._placement, self._hosts)

    async def tick(self) -> None:
        """Do what is due now and then: make the coming months ready for violations."""
        try:
            await self._store.ensure_partitions(self._now_ms())
        except StoreUnavailable as error:
            log.warning("partitions_not_made", error=str(error))

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK_EVERY_S)
            await self.tick()
