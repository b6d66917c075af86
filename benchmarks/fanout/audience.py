"""An audience: many sockets on one address, held by a process of its own (:mod:`.load`)."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Self

import msgspec

from benchmarks.fanout.child import Child
from domain.errors import ServiceFailed

OPEN_WITHIN_S = 300.0
STALLED_AFTER_S = 30.0
MODULE = "benchmarks.fanout.load"


class Door(NamedTuple):
    """Where sockets are opened, and what each says first."""

    port: int
    path: str
    say: str = ""
    cookies: tuple[str, ...] = ()
    """Of so many people, who take turns."""


class Counts(msgspec.Struct, frozen=True):
    """What sockets received since the beginning."""

    least: int
    most: int
    out_of_order: int
    unexpected: dict[str, int]
    closed: dict[str, int]
    """Sockets that were closed by the other side, by code."""

    def require_exactly(self, events: int, who: str) -> None:
        """Raise ``ServiceFailed`` unless every socket lives and had every event once and in order."""
        wrong = self.out_of_order or self.unexpected or self.closed
        if wrong or not self.least == self.most == events:
            raise ServiceFailed(f"{who}: not every socket had each of {events} events once: {self}")


class Delays(msgspec.Struct, frozen=True):
    """How late events were, in milliseconds."""

    count: int
    p50: float
    p99: float
    max: float


class Audience:
    """Sockets that are opened together and count together; leaving the context closes them."""

    def __init__(self) -> None:
        self.slowest = 0
        """Events that every reading socket has received since the beginning."""
        self.last_at_s = 0.0
        """When that became true (``perf_counter``)."""
        self._child: Child
        self._progress = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._child = await Child.start(MODULE, on_news=self._hear)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._child.stop()

    @property
    def pid(self) -> int:
        """The process that holds the sockets."""
        return self._child.pid

    async def open(
        self,
        door: Door,
        sockets: int,
        *,
        exact: bool = False,
        slow: int = 0,
        receive_buffer: int = 0,
    ) -> float:
        """Open sockets; return how many seconds it took."""
        answer = await self._child.ask(
            "open",
            OPEN_WITHIN_S,
            **door._asdict(),
            sockets=sockets,
            exact=exact,
            slow=slow,
            receive_buffer=receive_buffer,
        )
        return float(answer["seconds"])

    async def begin(self) -> None:
        """Count from here on."""
        await self._child.ask("begin")
        self.slowest = 0

    async def until(self, events: int) -> None:
        """Wait until every reading socket has so many events.

        Raises:
            ServiceFailed: for a long time none came.

        """
        while self.slowest < events:
            self._progress.clear()
            try:
                async with asyncio.timeout(STALLED_AFTER_S):
                    await self._progress.wait()
            except TimeoutError:
                counts = await self.counts()
                raise ServiceFailed(f"Of {events} events some do not come: {counts}") from None

    async def counts(self) -> Counts:
        """Return what arrived."""
        return msgspec.convert(await self._child.ask("counts"), Counts)

    async def delays(self) -> Delays:
        """Return how late it was."""
        return msgspec.convert(await self._child.ask("delays"), Delays)

    async def pause(self) -> None:
        """Let the slow ones stop reading."""
        await self._child.ask("pause")

    async def resume(self, within_s: float) -> dict[str, Any]:
        """Let them read on to their end; return their close codes, and how many were not closed."""
        return await self._child.ask("resume", within_s + 30.0, give_up_s=within_s)

    def _hear(self, news: dict[str, Any]) -> None:
        self.slowest, self.last_at_s = news["events"], news["at_s"]
        self._progress.set()
