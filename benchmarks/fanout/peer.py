"""What is measured beside Guildhall: a program that sends each message it is told to every socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import psutil
from websockets.asyncio.client import ClientConnection, connect

from adapters.clock import now_ms
from benchmarks.fanout.audience import Door
from benchmarks.fanout.event import KIND, event, event_data
from benchmarks.fanout.steady import send_steadily
from domain.errors import ServiceFailed
from domain.protocol import event_json, events_frame

READY_WITHIN_S = 10.0
PACED_BYTES = 600
"""About as long as a violation, which is what Guildhall sends at the same pace."""


class Peer:
    """A running peer; messages are published through a socket of their own, the cheapest way it has."""

    def __init__(self, name: str, port: int, listen: str, process: Any, publishing: ClientConnection) -> None:
        self.name = name
        self._door = Door(port, listen)
        self._process = process
        self._publishing = publishing
        self._offset = 0

    async def door(self, sockets: int) -> Door:  # noqa: ARG002 - it asks nobody who they are
        """Return where sockets can be opened."""
        return self._door

    async def publish(self, first: int, count: int) -> None:
        """Publish events of 250 bytes, numbered from ``first`` on, each a message."""
        ts_ms = now_ms()
        for number in range(first, first + count):
            await self._publishing.send(event(number, ts_ms), text=True)

    async def pace(self, per_s: float, seconds: float) -> int:
        """Publish events at a steady rate, each a frame as Guildhall sends it; return how many."""

        async def send(first: int, count: int) -> None:
            for number in range(first, first + count):
                data = event_data(number, PACED_BYTES)
                frame = events_frame(1, 1, [event_json(self._offset, KIND, now_ms(), data)])
                self._offset += 1
                await self._publishing.send(frame, text=True)

        return (await send_steadily(per_s, seconds, send))[0]

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        process = psutil.Process(self._process.pid)
        return [process, *process.children(recursive=True)]


@contextlib.asynccontextmanager
async def running_peer(
    name: str, command: list[str], port: int, *, listen: str, publish: str
) -> AsyncIterator[Peer]:
    """Start a peer and open the socket that publishes; end both."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        publishing = await _connected(name, process, f"ws://127.0.0.1:{port}{publish}")
        hearing = asyncio.create_task(_hear(publishing))
        try:
            yield Peer(name, port, listen, process, publishing)
        finally:
            hearing.cancel()
            await publishing.close()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _connected(name: str, process: Any, url: str) -> ClientConnection:
    deadline = asyncio.get_running_loop().time() + READY_WITHIN_S
    while True:
        try:
            return await connect(url, compression=None, ping_interval=None)
        except OSError as error:
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise ServiceFailed(f"{name} does not start: {error}") from error
            await asyncio.sleep(0.05)


async def _hear(publishing: ClientConnection) -> None:
    """Take what is answered to each message, so that it does not pile up."""
    async for _ in publishing:
        pass
