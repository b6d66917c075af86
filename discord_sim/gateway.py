"""The gateway's sockets: reads from and writes to the sans-I/O core, compresses, cuts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from aiohttp import WSMsgType, web

from .compression import compressor
from .protocol import API_VERSION, CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import FaultBook
    from .gateway_connection import Close, GatewayConnection
    from .simulation import Simulation

_log = logging.getLogger(__name__)
_TICK_S = 0.5
_CLOSE_TIMEOUT_S = 0.5
_MAX_READ_BYTES = 1 << 20


class Gateway:
    """The WebSocket endpoint; owns the sockets, while sessions belong to the core."""

    def __init__(self, simulation: Simulation, faults: FaultBook) -> None:
        self._core = simulation.gateway
        self._clock = simulation.clock
        self._faults = faults

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        query = request.query
        if query.get("encoding", "json") != "json":
            raise web.HTTPBadRequest(text="The local gateway speaks encoding=json only.")
        try:
            compress = compressor(query.get("compress"))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        await self._wait_until_open()
        socket = web.WebSocketResponse(
            timeout=_CLOSE_TIMEOUT_S, compress=False, max_msg_size=_MAX_READ_BYTES, autoclose=True
        )
        await socket.prepare(request)
        connection = self._core.connect(self._clock(), version=query.get("v", str(API_VERSION)))
        writer = asyncio.create_task(self._write(connection, socket, request, compress))
        code: int | None = None
        try:
            async for message in socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    connection.receive(message.data, self._clock())
            code = socket.close_code
        finally:
            connection.closed(None if code == CloseCode.ABNORMAL else code, self._clock())
            if connection.close is None:
                writer.cancel()
            # A close of ours is still on its way out: cancelling it would swallow the close frame.
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(writer, 2 * _CLOSE_TIMEOUT_S)
        return socket

    async def watch(self) -> None:
        """Run the core's timers until cancelled."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._core.tick(self._clock())

    def shut_down(self) -> None:
        """Close every connection with a code after which clients keep their session and come back."""
        for connection in tuple(self._core.connections):
            connection.end(CloseCode.SERVICE_RESTART, "The local Discord stops.")

    async def _wait_until_open(self) -> None:
        # Polled: a moment further away may be set, and all may be cleared, while one waits.
        while (wait_s := self._faults.gateway_held_until - self._clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(wait_s, 0.02))

    async def _write(
        self,
        connection: GatewayConnection,
        socket: web.WebSocketResponse,
        request: web.Request,
        compress: Callable[[bytes], bytes] | None,
    ) -> None:
        woken = asyncio.Event()
        loop = asyncio.get_running_loop()

        def wake() -> None:
            woken.set()
            if connection.close is not None:
                # A client that reads nothing blocks the writer: its close frame would never leave.
                loop.call_later(0.0 if connection.close.abort else _CLOSE_TIMEOUT_S, _cut, request)

        connection.wake = wake
        wake()
        outbox = connection.outbox
        try:
            while True:
                await woken.wait()
                woken.clear()
                while outbox and not (connection.close and connection.close.abort):
                    frame = outbox.popleft()
                    if compress is None:
                        await socket.send_str(frame.decode())
                    else:
                        await socket.send_bytes(compress(frame))
                if connection.close is not None:
                    await self._close(connection.close, socket)
                    return
        except (ConnectionError, RuntimeError):
            _log.debug("A gateway client went away while it was written to.")

    async def _close(self, close: Close, socket: web.WebSocketResponse) -> None:
        if not close.abort:
            await socket.close(code=close.code, message=close.reason.encode())


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
