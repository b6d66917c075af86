"""A runner's disk: it takes its time, refuses now and then, and survives the runner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from adapters.memory import MemorySpool
from domain.errors import StoreUnavailable
from domain.ports import SpoolChanges, SpoolContents
from tests.simulation.network import Network
from tests.simulation.store import run


class SimulatedSpool:
    """One life's way to its spool; implements :class:`domain.ports.Spool`."""

    def __init__(self, disk: MemorySpool, network: Network, chance: Any) -> None:
        self._disk = disk
        self._network = network
        self._chance = chance
        self._last = 0.0

    async def open(self) -> SpoolContents:
        return await self._do(lambda: run(self._disk.open()))

    async def write(self, changes: SpoolChanges) -> None:
        await self._do(lambda: run(self._disk.write(changes)))

    async def read(self, position: int) -> bytes | None:
        return await self._do(lambda: run(self._disk.read(position)))

    async def close(self) -> None:
        await self._disk.close()

    async def _do(self, operation: Callable[[], Any]) -> Any:
        """Do one thing after the other; a failure may come before it is done, or after."""
        answer = asyncio.get_running_loop().create_future()
        fails = self._chance.random() < self._network.faults.disk_fails
        before = self._chance.random() < 0.5
        loop = self._network.loop
        self._last = max(loop.time() + self._chance.random() * 0.005, self._last + 1e-5)

        def work() -> None:
            error: Exception | None = StoreUnavailable("the disk fails") if fails else None
            result = None
            if not (fails and before):
                try:
                    result = operation()
                except StoreUnavailable as problem:
                    error = problem
            if answer.done():
                return
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

        self._network.later(self._last - loop.time(), work)
        return await answer
