"""Where a guild is: the cached placement, and the calls one can make to a host."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

from actors.fan_out import Item
from actors.guild import Admission, Answer, Unwatch, Watch
from actors.host import HostPing, HostStats
from actors.observers import Change
from domain.errors import Fenced, HostUnreachable, StoreUnavailable
from domain.events import Sender
from domain.placement import Placement
from domain.ports import Incarnation

START_TRIES, START_RETRY_S = 60, 1.0


class HostCalls(Protocol):
    """A guild host as others see it; every call may raise ``HostUnreachable``. See ``GuildHost``."""

    async def start(self, director: int | None = None) -> Incarnation:
        """Begin the host's life, for a Director."""
        ...

    async def stop(self, reason: str) -> None:
        """End the host's life."""
        ...

    async def ping(self) -> HostPing:
        """Ask for a sign of life."""
        ...

    async def assign(self, placement: Placement) -> None:
        """Tell the host what it owns; return when it has let go of everything else."""
        ...

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        """Hand over a batch."""
        ...

    async def taken(self, source: str) -> int:
        """Ask for the highest batch number that is durable of a source."""
        ...

    def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        """Listen to the guilds that a relay watches."""
        ...

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        """Register sockets on guilds that are awake, and take others off."""
        ...

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        """Register a socket on a guild, asleep or not."""
        ...

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        """Make room for a person, if relays that hold sockets of theirs are gone."""
        ...

    async def prove(self, relay_id: str) -> None:
        """Say that a relay is there, which was asked on its stream."""
        ...

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        """Publish on a guild's stream what was made durable elsewhere: kinds and data."""
        ...

    def changes(self, observer_id: str) -> AsyncIterator[list[Change]]:
        """Listen to what changes in the guilds that a replica observes."""
        ...

    async def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Let a replica hear what changes in a guild."""
        ...

    async def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Let it hear no more."""
        ...

    async def stats(self) -> HostStats:
        """Ask what the host holds."""
        ...

    async def kill(self) -> None:
        """End the host's process, whatever it does."""
        ...


class Routing(NamedTuple):
    """A placement together with the hosts it names."""

    placement: Placement
    hosts: dict[str, HostCalls]


class RoutingSource(Protocol):
    """Who knows the placement: the Director."""

    async def routing(self) -> Routing:
        """Return the newest placement and its hosts."""
        ...


class GuildDirectory:
    """Answers "which host has this guild?" from memory; asks the Director only to refresh."""

    def __init__(self, source: RoutingSource) -> None:
        self._source = source
        self._routing: Routing | None = None
        self._refreshing = asyncio.Lock()

    async def start(self) -> None:
        """Learn the placement for the first time; a Director that is just being restarted is waited for."""
        for _ in range(START_TRIES):
            try:
                self._routing = await self._source.routing()
                return  # noqa: TRY300 - an else would part it from its try
            except (HostUnreachable, StoreUnavailable, Fenced) as error:  # the last by one that was replaced
                last = error
                await asyncio.sleep(START_RETRY_S)
        raise last

    @property
    def known(self) -> bool:
        """Whether the placement was heard of at all."""
        return self._routing is not None

    @property
    def routing(self) -> Routing:
        """The placement as it was last heard of."""
        if self._routing is None:
            message = "the directory was not started"
            raise RuntimeError(message)
        return self._routing

    def host_of(self, guild_id: int) -> tuple[str, HostCalls]:
        """Return the id and the calls of the host that owns a guild."""
        host_id = self.routing.placement.owner_of(guild_id)
        return host_id, self.routing.hosts[host_id]

    async def refresh(self, seen_version: int) -> None:
        """Ask for a placement newer than ``seen_version``, unless somebody else just did."""
        async with self._refreshing:
            if self.routing.placement.version <= seen_version:
                self._routing = await self._source.routing()
