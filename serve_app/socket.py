"""One browser's socket: a queue bounded in bytes before whatever carries its frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Protocol

from domain.protocol import CloseCode
from domain.sessions import Session, session_id_of
from serve_app.frame import Frame

MAX_QUEUED_BYTES = 1 << 20
"""A reader that is this far behind is cut off: it comes back and resumes. One frame may be longer, alone:
otherwise it could never be sent to anybody who is not idle."""

MAX_REASON_BYTES = 123
"""What a close frame has room for (RFC 6455, 5.5); with more it is not sent at all."""

_ids = count(1)


class Wire(Protocol):
    """What carries one socket's frames. Nobody ever waits for it."""

    way: str
    """How it writes, for the counts."""
    ready: bool
    """Whether a frame that is written now is on its way at once."""
    on_ready: Callable[[], None] | None
    """Called when it is ready again."""

    def write(self, frame: Frame) -> None:
        """Carry a frame; only called when ready, which it may then be no longer."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Say why, as soon as what was written before is through, and end; the reading ends at once."""
        ...


class Socket:
    """Passes frames on in order, and never makes who sends them wait."""

    __slots__ = (
        "_frames",
        "_queued_bytes",
        "closed_with",
        "session",
        "session_id",
        "socket_id",
        "token",
        "user_id",
        "wire",
    )

    def __init__(self, user_id: int, token: str, wire: Wire) -> None:
        self.socket_id = next(_ids)
        self.user_id = user_id
        self.token = token
        """What opens the session. A secret."""
        self.session_id = session_id_of(token)
        self.session: tuple[Session, float] | None = None
        """As it was at the beginning, for the first subscribe, and until when it is good for that. It names
        every server of the person: too much to keep for each of their sockets."""
        self.wire = wire
        self.closed_with: CloseCode | None = None
        self._frames: deque[Frame] | None = None  # made when first needed: most never need it
        self._queued_bytes = 0
        wire.on_ready = self._flush

    def push(self, frame: Frame) -> None:
        """Send a frame; a socket whose reader is too slow is closed with 4008 instead."""
        if self.closed_with is not None:
            return
        if not self._frames and self.wire.ready:
            self.wire.write(frame)
            return
        if self._queued_bytes and self._queued_bytes + len(frame) > MAX_QUEUED_BYTES:
            self.close(CloseCode.TOO_SLOW, "This connection was too slow to keep up.")
            return
        if self._frames is None:
            self._frames = deque()
        self._frames.append(frame)
        self._queued_bytes += len(frame)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the socket; what is queued is not sent any more."""
        if self.closed_with is None:
            self.closed_with = code
            self._frames = None
            self._queued_bytes = 0
            self.wire.close(int(code), reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore"))

    def _flush(self) -> None:
        while self._frames and self.wire.ready:
            frame = self._frames.popleft()
            self._queued_bytes -= len(frame)
            self.wire.write(frame)
        if not self._frames:
            self._frames = None
