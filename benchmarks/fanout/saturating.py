"""As fast as it goes: events are published as long as no socket is too far behind."""

from __future__ import annotations

import time
from statistics import median
from typing import Any, NamedTuple, Protocol

import psutil

from benchmarks.fanout.audience import Audience, Door
from benchmarks.fanout.cores import Cores, busy_cores

OUTSTANDING = 500
"""Events that the socket furthest behind may lack: 150 kB, of the 1 MiB that may wait for it."""
AT_ONCE = 50
"""Events that are published in one call."""


class Broadcaster(Protocol):
    """What is measured: takes events, and sends each to every socket."""

    async def door(self, sockets: int) -> Door:
        """Return where so many sockets can be opened."""
        ...

    async def publish(self, first: int, count: int) -> None:
        """Publish events, numbered from ``first`` on."""
        ...

    def processes(self) -> list[psutil.Process]:
        """Return everything that works for it."""
        ...


class Turn(NamedTuple):
    """What one turn brought: each event, once, in order, to every socket."""

    events: int
    sockets: int
    seconds: float
    cpu_s: dict[str, float]

    @property
    def per_s(self) -> float:
        """Deliveries a second."""
        return self.events * self.sockets / self.seconds


class Contender:
    """A broadcaster with its audience, and the turns it had."""

    def __init__(self, name: str, broadcaster: Broadcaster, audience: Audience, sockets: int) -> None:
        self.name = name
        self.turns: list[Turn] = []
        self._broadcaster = broadcaster
        self._audience = audience
        self._sockets = sockets

    async def take_turn(self, seconds: float, *, counts: bool = True) -> None:
        """Publish for some seconds, wait for the last event to arrive, and see that none was lost.

        Raises:
            ServiceFailed: a socket lacks an event, or got one twice or out of order, or was closed.

        """
        audience, published = self._audience, 0
        await audience.begin()
        cores = Cores([*self._broadcaster.processes(), psutil.Process(audience.pid)])
        started = time.perf_counter()
        while time.perf_counter() < started + seconds:
            await audience.until(published + AT_ONCE - OUTSTANDING)
            await self._broadcaster.publish(published, AT_ONCE)
            published += AT_ONCE
        await audience.until(published)
        turn = Turn(published, self._sockets, audience.last_at_s - started, cores.used())
        (await audience.counts()).require_exactly(published, self.name)
        if counts:
            self.turns.append(turn)

    @property
    def per_s(self) -> float:
        """Deliveries a second: the median of all turns."""
        return median(turn.per_s for turn in self.turns)

    def cores(self) -> dict[str, float]:
        """Return how many cores each kind of process kept busy."""
        kinds = {kind for turn in self.turns for kind in turn.cpu_s}
        cpu_s = {kind: sum(turn.cpu_s.get(kind, 0.0) for turn in self.turns) for kind in kinds}
        return busy_cores(cpu_s, sum(turn.seconds for turn in self.turns))

    def figures(self) -> dict[str, Any]:
        """Return what is told of it."""
        return {
            f"{self.name}_per_s": round(self.per_s),
            f"{self.name}_per_s_by_round": [round(turn.per_s) for turn in self.turns],
            f"{self.name}_cores": self.cores(),
        }
