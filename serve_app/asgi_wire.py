"""Frames by plain ASGI sends, where the transport is not to be reached.

That is under another server, and behind Serve's fallback proxy, to which HAProxy turns when no replica takes
a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from starlette.types import Send

from serve_app.frame import Frame

CLOSE_WITHIN_S = 5.0


class AsgiWire:
    """Implements :class:`serve_app.socket.Wire`: one frame at a time is in the server's hands."""

    way = "asgi"

    def __init__(self, send: Send) -> None:
        self.ready = True
        self.on_ready: Callable[[], None] | None = None
        self._send = send
        self._frame: Frame | None = None
        self._something = asyncio.Event()
        self._close: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    @property
    def closing(self) -> bool:
        """Whether the socket was closed from this side."""
        return self._close.done()

    def write(self, frame: Frame) -> None:
        """See the protocol."""
        self.ready = False
        self._frame = frame
        self._something.set()

    def close(self, code: int, reason: str) -> None:
        """See the protocol."""
        self.ready = False
        if not self._close.done():
            self._close.set_result((code, reason))

    async def run(self) -> None:
        """Carry frames until the socket is closed from this side, then say why.

        Raises what the server raises when it takes a frame.
        """
        writing = asyncio.create_task(self._write_forever())
        try:
            either: set[asyncio.Future[Any]] = {writing, self._close}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        code, reason = self._close.result()
        with contextlib.suppress(Exception):  # whatever the server says now, the socket is over
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def _write_forever(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while (frame := self._frame) is not None:
                self._frame = None
                for text in frame.texts:
                    await self._send({"type": "websocket.send", "text": text.decode()})
                if not self.closing:
                    self.ready = True
                    if self.on_ready is not None:
                        self.on_ready()  # which writes the next frame, if one waits
