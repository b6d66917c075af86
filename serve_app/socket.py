"""One browser's socket: a queue bounded in bytes, and one task that writes it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from itertools import count

from starlette.types import Send

from domain.protocol import CloseCode
from domain.sessions import Session

MAX_QUEUED_BYTES = 1 << 20
"""A reader that is this far behind is cut off: it comes back and resumes."""

CLOSE_WITHIN_S = 5.0

MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, 5.5); with more it is not sent at all."""

_ids = count(1)


class Socket:
    """Writes frames in order and never makes the sender wait."""

    def __init__(self, session: Session, send: Send) -> None:
        self.socket_id = next(_ids)
        self.session = session
        self.closed = asyncio.Event()
        self._send = send
        self._frames: deque[bytes] = deque()
        self._queued_bytes = 0
        self._something = asyncio.Event()
        self._closing: tuple[CloseCode, str] | None = None

    def push(self, frame: bytes) -> None:
        """Queue a frame; a socket whose reader is too slow is closed with 4008 instead."""
        if self._closing is not None:
            return
        if self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self.close(CloseCode.TOO_SLOW, "This connection was too slow to keep up.")
            return
        self._frames.append(frame)
        self._queued_bytes += len(frame)
        self._something.set()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the socket; what is queued is not sent any more."""
        if self._closing is None:
            self._closing = (code, reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))
            self._frames.clear()
            self._queued_bytes = 0
            self._something.set()
            self.closed.set()

    async def write_forever(self) -> None:
        """Write what is queued until the socket is closed; cancelled when its reader is gone."""
        while self._closing is None:
            await self._something.wait()
            self._something.clear()
            while self._frames:
                frame = self._frames.popleft()
                self._queued_bytes -= len(frame)
                await self._send({"type": "websocket.send", "text": frame.decode()})

    async def send_close(self) -> None:
        """Tell the browser why, if it still listens."""
        if self._closing is None:
            return
        code, reason = self._closing
        with contextlib.suppress(Exception):  # whatever the transport says now, the socket is over
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._send({"type": "websocket.close", "code": int(code), "reason": reason})
