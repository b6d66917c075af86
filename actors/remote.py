"""Where plain classes become Ray actors: all their options can be seen here.

The composition root hands in functions that build the plain object inside the actor's own process, so
that this package needs no adapter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ray

from actors.director import Director
from actors.fan_out import Item
from actors.guild import Admission
from actors.handles import DIRECTOR_NAME, NAMESPACE, DirectorHandle, HostHandle, RunnerHandle
from actors.host import GuildHost, HostStats
from actors.routing import Routing
from actors.shard_runner import RunnerStats, ShardRunner
from domain.ports import Incarnation

MAX_CONCURRENT_CALLS = 10_000
"""Calls that wait in an actor cost a coroutine each; what they carry is bounded by the actors themselves."""

_OPTIONS: dict[str, Any] = {
    # The actors wait more than they compute, and are placed by count, not by a core each.
    "num_cpus": 0,
    "max_concurrency": MAX_CONCURRENT_CALLS,
}


class HostActor:
    """A :class:`GuildHost` in a process of its own."""

    def __init__(self, build: Callable[[], Awaitable[GuildHost]]) -> None:
        self._build = build
        self._host: GuildHost

    async def start(self) -> Incarnation:
        self._host = await self._build()
        return await self._host.start()

    async def stop(self, reason: str) -> None:
        await self._host.stop(reason)

    async def assign(self, placement_version: int, slots: frozenset[int]) -> None:
        await self._host.assign(placement_version, slots)

    async def ingest(self, payload: bytes) -> bytes:
        return await self._host.ingest(payload)

    async def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        async for items in self._host.stream(relay_id):
            yield items

    async def watch(
        self, relay_id: str, socket_id: int, guild_id: int, user_id: int, position: tuple[int, int] | None
    ) -> Admission:
        return await self._host.watch(relay_id, socket_id, guild_id, user_id, position)

    async def unwatch(self, relay_id: str, socket_id: int, guild_id: int) -> None:
        await self._host.unwatch(relay_id, socket_id, guild_id)

    async def stats(self) -> HostStats:
        return await self._host.stats()


class RunnerActor:
    """A :class:`ShardRunner` in a process of its own."""

    def __init__(self, build: Callable[[], Awaitable[ShardRunner]]) -> None:
        self._build = build
        self._runner: ShardRunner

    async def start(self) -> None:
        self._runner = await self._build()
        await self._runner.start()

    async def stop(self, reason: str) -> None:
        await self._runner.stop(reason)

    async def stats(self) -> RunnerStats:
        return await self._runner.stats()


class DirectorActor:
    """The :class:`Director` in a process of its own."""

    def __init__(self, build: Callable[[], Awaitable[Director]]) -> None:
        self._build = build
        self._director: Director

    async def start(self) -> None:
        self._director = await self._build()
        await self._director.start()

    async def stop(self, reason: str) -> None:
        await self._director.stop(reason)

    async def routing(self) -> Routing:
        return await self._director.routing()


def create_host(host_id: str, build: Callable[[], Awaitable[GuildHost]]) -> HostHandle:
    """Create a host's actor; it begins its life with ``start``."""
    actor = ray.remote(HostActor).options(
        name=f"guildhall-host-{host_id}",
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=-1,
        **_OPTIONS,
    )
    return HostHandle(actor.remote(build))


def create_runner(runner_id: str, build: Callable[[], Awaitable[ShardRunner]]) -> RunnerHandle:
    """Create a shard runner's actor; it connects with ``start``."""
    actor = ray.remote(RunnerActor).options(
        name=f"guildhall-runner-{runner_id}", namespace=NAMESPACE, lifetime="detached", **_OPTIONS
    )
    return RunnerHandle(actor.remote(build))


def create_director(build: Callable[[], Awaitable[Director]]) -> DirectorHandle:
    """Create the Director's actor; it creates the hosts with ``start``."""
    actor = ray.remote(DirectorActor).options(
        name=DIRECTOR_NAME, namespace=NAMESPACE, lifetime="detached", **_OPTIONS
    )
    return DirectorHandle(actor.remote(build))
