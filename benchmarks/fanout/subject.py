"""Guildhall as it is measured: a whole demo, one of its guilds, and who publishes there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.crowd import log_in_crowd
from benchmarks.fanout.audience import Door
from benchmarks.fanout.child import Child
from benchmarks.fanout.event import SIZE
from benchmarks.own_demo import own_demo
from domain.protocol import MAX_SOCKETS_PER_USER
from guildhall.testing import CROWD_AT_ONE_ADDRESS, DemoProcess, Sim

GUILDS = 4
MODULE = "benchmarks.fanout.publisher"
ENVIRONMENT = {
    **CROWD_AT_ONE_ADDRESS,
    "GUILDHALL_LIMIT_SOCKETS_PER_ADDRESS": "20000",
}
"""The whole audience sits at one address."""


class Subject:
    """A demo whose guilds are quiet, and a process that publishes in one of them."""

    def __init__(self, demo: DemoProcess, guild_id: int, publisher: Child) -> None:
        self._demo = demo
        self._guild_id = guild_id
        self._publisher = publisher

    async def door(self, sockets: int) -> Door:
        """Return where so many sockets can be opened: with people enough, who are logged in."""
        people = -(-sockets // MAX_SOCKETS_PER_USER)
        cookies = await log_in_crowd(self._demo.data_dir, self._guild_id, people)
        say = json.dumps({"op": "subscribe", "guild_id": str(self._guild_id)})
        return Door(self._demo.port, "/ws", say, tuple(cookies))

    async def publish(self, first: int, count: int) -> None:
        """Publish events of 250 bytes, numbered from ``first`` on."""
        await self._publisher.ask("announce", first=first, count=count)

    async def pace_violations(self, per_s: float, seconds: float) -> int:
        """Have violations committed and shown at a steady rate; return how many."""
        answer = await self._publisher.ask("pace_violations", 60.0 + seconds, per_s=per_s, seconds=seconds)
        return int(answer["events"])

    async def pace_announcements(self, per_s: float, seconds: float, size: int = SIZE) -> int:
        """Have events shown that are durable already, at a steady rate; return how many."""
        answer = await self._publisher.ask(
            "pace_announcements", 60.0 + seconds, per_s=per_s, seconds=seconds, size=size
        )
        return int(answer["events"])

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the demo, and the one that publishes."""
        return [*self._demo.descendants(), psutil.Process(self._publisher.pid)]

    def relay(self) -> psutil.Process:
        """Return the relay replica's process."""
        return next(p for p in self._demo.descendants() if "ServeReplica:relay" in " ".join(p.cmdline()))


@asynccontextmanager
async def subject(**environment: str) -> AsyncIterator[Subject]:
    """Start a demo and who publishes in it; end both."""
    async with own_demo("--guilds", str(GUILDS), **ENVIRONMENT | environment) as demo:
        async with aiohttp.ClientSession() as http:
            guild: dict[str, Any] = await Sim(demo.sim_url, http).guild(0)
        publisher = await _start_publisher(demo.data_dir, int(guild["id"]))
        try:
            yield Subject(demo, int(guild["id"]), publisher)
        finally:
            await publisher.stop()


async def _start_publisher(data_dir: Path, guild_id: int) -> Child:
    addresses = json.loads((data_dir / "addresses.json").read_text(encoding="utf-8"))
    return await Child.start(
        MODULE,
        str(guild_id),
        RAY_ADDRESS=addresses["ray_address"],
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",  # as for the cluster itself, which listens on loopback alone
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=(data_dir / "ray-token").read_text(encoding="ascii").strip(),
    )
