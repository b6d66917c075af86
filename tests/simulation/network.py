"""What lies between processes: it delays, drops and doubles calls, and tells who died.

It does what Ray does: a call is a task of its own in the callee, calls overtake each other, and a
caller whose call got lost is told "unreachable" without learning whether it was executed. A doubled
call arrives twice before its answer leaves: a connection does not outlive its caller's wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any

from actors.director import Director
from actors.fan_out import Item
from actors.host import GuildHost
from actors.routing import Routing
from domain.errors import HostUnreachable
from tests.simulation.faults import Faults
from tests.simulation.virtual_loop import PROCESS, Process, VirtualLoop

END: list[Item] = []


class Network:
    """Carries calls from process to process."""

    def __init__(self, loop: VirtualLoop, chance: random.Random, faults: Faults) -> None:
        self.loop = loop
        self.faults = faults
        self._chance = chance
        self._outside = Context()
        self._streams: list[Callable[[], None]] = []

    def delay(self) -> float:
        """Return how long the next message takes."""
        if self._chance.random() < self.faults.slow_call:
            return self._chance.random() * 2.0
        return 0.0002 + self._chance.random() * 0.004

    def later(self, after_s: float, function: Callable[..., None], *arguments: Any) -> None:
        """Do something after a while, whoever dies meanwhile."""
        self.loop.call_later(after_s, function, *arguments, context=self._outside)

    async def call(  # noqa: C901 - one closure a way in which a call may go
        self, callee: Process, method: Callable[..., Awaitable[Any]], *arguments: Any, twice: bool = False
    ) -> Any:
        """Call a method of another process's object."""
        answer = self.loop.create_future()
        draw, faults = self._chance.random, self.faults
        lost_before, lost_after = draw() < faults.dropped_before, draw() < faults.dropped_after
        twice = twice and draw() < faults.doubled

        def settle(result: Any, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        def fail() -> None:
            settle(None, HostUnreachable(f"{callee.name} does not answer"))

        def answered(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                self.later(self.delay(), fail)
            elif lost_after:
                task.exception()  # looked at, and lost
            else:
                error = task.exception()
                self.later(self.delay(), settle, None if error else task.result(), error)

        def arrive() -> None:
            if callee.dead:
                self.later(self.delay(), fail)
                return
            callee.on_death.append(lambda: self.later(self.delay(), fail))
            task = self.loop.create_task(_await(method, arguments), context=callee.context.copy())
            task.add_done_callback(answered, context=self._outside)
            if twice:
                again = self.loop.create_task(_await(method, arguments), context=callee.context.copy())
                again.add_done_callback(_ignore, context=self._outside)
            if lost_after:
                self.later(draw() * 0.2, fail)

        self.later(self.delay(), fail if lost_before else arrive)
        return await answer

    async def stream(  # noqa: C901 - likewise
        self, callee: Process, relay_id: str, host: GuildHost
    ) -> AsyncGenerator[list[Item], None]:
        """Listen to a host: its lists arrive in their order."""
        arrived: asyncio.Queue[list[Item] | Exception] = asyncio.Queue()
        listener = PROCESS.get()
        last = 0.0
        pumping: asyncio.Task[None] | None = None

        def put(item: list[Item] | Exception) -> None:
            nonlocal last
            last = max(self.loop.time() + self.delay(), last + 1e-5)
            self.later(last - self.loop.time(), arrived.put_nowait, item)

        def broke() -> None:
            put(HostUnreachable(f"the stream from {callee.name} broke"))
            if pumping is not None:
                pumping.cancel()

        async def pump() -> None:
            stream = host.stream(relay_id)
            try:
                async for items in stream:
                    put(items)
            finally:
                await stream.aclose()  # type: ignore[attr-defined]
            put(END)

        def begin() -> None:
            nonlocal pumping
            if callee.dead:
                broke()
                return
            callee.on_death.append(broke)
            pumping = self.loop.create_task(pump(), context=callee.context.copy())
            if listener is not None:
                listener.on_death.append(pumping.cancel)
            self._streams.append(broke)

        self.later(self.delay(), begin)
        try:
            while (items := await arrived.get()) is not END:
                if isinstance(items, Exception):
                    raise items
                yield items
        finally:
            if pumping is not None:
                self.later(self.delay(), pumping.cancel)

    def break_a_stream(self) -> None:
        """Cut off one relay from one host; both go on."""
        if self._streams:
            self._streams.pop(self._chance.randrange(len(self._streams)))()


async def _await(method: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
    return await method(*arguments)


def _ignore(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


class HostHandle:
    """Reaches a host's process; implements :class:`actors.routing.HostCalls`."""

    def __init__(self, network: Network, process: Process, host: GuildHost) -> None:
        self.process = process
        self.host = host
        self._network = network

    async def start(self, director: int | None = None) -> Any:
        return await self._network.call(self.process, self.host.start, director)

    async def stop(self, reason: str) -> None:
        await self._network.call(self.process, self.host.stop, reason)

    async def ping(self) -> Any:
        return await self._network.call(self.process, self.host.ping, twice=True)

    async def assign(self, placement: Any) -> None:
        await self._network.call(self.process, self.host.assign, placement, twice=True)

    async def ingest(self, payload: bytes, sender: Any = None) -> Any:
        return await self._network.call(self.process, self.host.ingest, payload, sender, twice=True)

    async def taken(self, source: str) -> Any:
        return await self._network.call(self.process, self.host.taken, source, twice=True)

    async def watch(self, *arguments: Any) -> Any:
        return await self._network.call(self.process, self.host.watch, *arguments)

    async def register(self, *arguments: Any) -> Any:
        return await self._network.call(self.process, self.host.register, *arguments)

    async def stats(self) -> Any:
        return await self._network.call(self.process, self.host.stats)

    def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        return self._network.stream(self.process, relay_id, self.host)

    async def kill(self) -> None:
        self.process.kill()


class DirectorHandle:
    """Reaches whichever life of the Director there is; implements ``RunnerDirector``."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.process: Process
        self.director: Director

    async def routing(self) -> Routing:
        found: Routing = await self.ask("routing")
        return found

    async def find_runner(self, runner_id: str) -> Any:
        return await self.ask("find_runner", runner_id)

    async def register_runner(self, *arguments: Any) -> Any:
        return await self.ask("register_runner", *arguments)

    async def note_covered(self, *arguments: Any) -> None:
        await self.ask("note_covered", *arguments)

    async def pending_deletions(self, *arguments: Any) -> Any:
        return await self.ask("pending_deletions", *arguments)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the Director."""
        return await self._network.call(self.process, getattr(self.director, method), *arguments)
