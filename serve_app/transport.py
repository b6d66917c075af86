"""Frames by the transport itself: the same bytes to every socket, without an ASGI send for each.

Ray Serve builds uvicorn's configuration itself and leaves no way to say how WebSockets are spoken. But
uvicorn looks its WebSocket class up by name, when a replica's server starts, and that is after the
replica's constructor: :func:`install` puts ours there. It differs from uvicorn's own in this:

- deflate is off: compressing for each socket costs more than everything else together, and the same bytes
  could not go to all;
- the application finds the connection in ``scope["extensions"]`` and may write ready-made frames to it;
- Serve makes no task of its own for a socket (its header for that, which it honours without being asked);
- what a browser sends is counted frame by frame, pings and pieces of messages too, before it is looked at;
- a handshake that the parser does not take is answered;
- when the server is told to end, the sockets end spread over some seconds, each with 1012.

``tests/serve_app/test_transport.py`` fails when uvicorn changes what this leans on, and
``tests/integration/test_relays.py`` when Serve does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGIReceiveEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets import auto
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import InvalidState
from websockets.http11 import Request

from domain.protocol import CloseCode
from domain.socket_limits import Allowance, SocketLimits
from serve_app.frame import Frame

EXTENSION = "guildhall.transport"
EXCESS = "guildhall.excess"
"""What the application receives, once and last, when a browser sent too many frames."""

MAX_RECEIVED_BYTES = 64 << 10
"""More than any message that makes sense (:data:`domain.protocol.MAX_MESSAGE_BYTES`), so that a client that
says too much is told so; beyond this it is cut off with 1009."""

PING_AFTER_S = PONG_WITHIN_S = 30.0
CLOSE_WITHIN_S = 30.0
"""A reader that was too slow gets so long for what is under way to it, and then the close frame."""
SHOWN_OUT_WITHIN_S = 1.0
"""Whoever talks nonsense, or too much, is read no more: it gets so long to take the close frame."""
_SHOWN_OUT = {CloseCode.BAD_MESSAGE, CloseCode.TOO_MANY_MESSAGES}
DRAIN_S = 15.0
"""Over so long the sockets of a server that ends are closed, so that not everybody comes back at once."""

_BAD_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_EXCESS: Any = {"type": EXCESS}
_NO_TASK_FOR_DISCONNECTS = (b"x-request-disconnect-disabled", b"?1")
_KEPT_HEADERS = {b"host", b"origin", b"cookie", b"x-forwarded-for"}
"""All that is asked for. What a request carries is held for as long as it lasts, here for hours."""


class _Inbox:
    """What came from the browser and was not taken yet: as much of a queue as one taker needs.

    Of a relay's memory for a socket that is quiet, :class:`asyncio.Queue` would be an eighth.
    """

    __slots__ = ("_messages", "_taker")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._taker: asyncio.Future[None] | None = None

    def empty(self) -> bool:
        return not self._messages

    def put_nowait(self, message: Any) -> None:
        self._messages.append(message)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)

    def expect(self) -> asyncio.Future[None]:
        """Return what is done when there is something to take."""
        self._taker = asyncio.get_running_loop().create_future()
        return self._taker

    def forget(self) -> None:
        self._taker = None

    def take(self) -> Any:
        return self._messages.pop(0)


class _Writable:
    """Whether the operating system takes more: as much of an :class:`asyncio.Event` as is needed here.

    Asked for by ASGI sends alone, which are over with the handshake; an event would keep a deque for that.
    """

    __slots__ = ("_opening",)

    def __init__(self) -> None:
        self._opening: asyncio.Future[None] | None = None

    def set(self) -> None:
        if self._opening is not None and not self._opening.done():
            self._opening.set_result(None)
        self._opening = None

    def clear(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        while self._opening is not None:
            await asyncio.shield(self._opening)


class RelayProtocol(WebSocketsSansIOProtocol):
    """A connection as uvicorn speaks it; implements :class:`serve_app.socket.Wire`."""

    # uvicorn's own, too: in slots they take a fifth of what a dictionary of so many takes.
    __slots__ = (
        "_before",
        "_whole_at_s",
        "app",
        "app_state",
        "asgi_version",
        "client",
        "close_sent",
        "close_timeout",
        "close_timer",
        "config",
        "conn",
        "connections",
        "curr_msg_data_type",
        "default_headers",
        "disconnected",
        "frames",
        "handshake_complete",
        "handshake_initiated",
        "initial_response",
        "last_ping_rtt",
        "logger",
        "loop",
        "on_ready",
        "pending_ping_payload",
        "ping_interval",
        "ping_sent_at",
        "ping_timeout",
        "ping_timer",
        "pong_timer",
        "queue",
        "read_paused",
        "ready",
        "request",
        "response",
        "root_path",
        "scheme",
        "scope",
        "server",
        "tasks",
        "transport",
        "writable",
    )

    way = "transport"
    messages = SocketLimits().messages

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        config.ws_per_message_deflate = False
        config.ws_max_size = MAX_RECEIVED_BYTES
        config.ws_ping_interval, config.ws_ping_timeout = PING_AFTER_S, PONG_WITHIN_S
        super().__init__(config, server_state, app_state, _loop)
        self.queue = _Inbox()  # type: ignore[assignment]
        self.writable = _Writable()  # type: ignore[assignment]
        self.ready = False
        self.on_ready: Callable[[], None] | None = None
        self._whole_at_s = 0.0

    # -- what the application calls --------------------------------------------------------------------

    def begin(self) -> None:
        """Know that the handshake is over: from here on frames may be written.

        What was said in it is let go, whoever still holds on to it: it would be there for hours.
        """
        self.request.headers.clear()
        self.scope.clear()  # type: ignore[attr-defined]
        self.server = self.client = None
        del self.request, self.response
        # It would stay, in a cycle with its parser, until the collector runs.
        self._before.parser = None
        del self._before
        self.ready = not self.transport.is_closing()

    def write(self, frame: Frame) -> None:
        """See the protocol."""
        self.transport.write(frame.wire)

    def close(self, code: int, reason: str) -> None:
        """See the protocol."""
        self.ready = False
        if self.close_sent or self.transport.is_closing():
            return
        try:
            self.conn.send_close(code, reason)
        except InvalidState:  # the browser said goodbye a moment ago
            return
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        listens = code not in _SHOWN_OUT
        if self.read_paused and listens:  # the browser's answer is to be read
            self.read_paused = False
            self.transport.resume_reading()
        elif not self.read_paused and not listens:
            self.read_paused = True
            self.transport.pause_reading()
        # uvicorn's way here would wait for a reader that does not read.
        within_s = CLOSE_WITHIN_S if listens else SHOWN_OUT_WITHIN_S
        self.close_timer = self.loop.call_later(within_s, self.transport.abort)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    # -- what uvicorn calls ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over from the protocol that has read the request."""
        self._before: Any = transport.get_protocol()
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take what was read; answer also a handshake that the parser does not take."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.handshake_initiated = True
            self.transport.write(b"".join(self.conn.data_to_send()) or _BAD_HANDSHAKE)
            self.transport.close()

    def handle_events(self) -> None:
        """Act on what was read, as long as it is not too much."""
        if self.handshake_complete and not self._may_say(len(self.conn.events)):
            self.conn.events.clear()
            if not self.close_sent:
                self.read_paused = True
                self.transport.pause_reading()
                self.queue.put_nowait(_EXCESS)
            return
        super().handle_events()

    def _may_say(self, frames: int) -> bool:
        whole_at_s = self.messages.spend(self._whole_at_s, self.loop.time(), frames)
        if whole_at_s is not None:
            self._whole_at_s = whole_at_s
        return whole_at_s is not None

    def handle_connect(self, event: Request) -> None:
        """Begin the handshake; the application finds this connection in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:  # noqa: PLR2004 - otherwise there is no application
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]
            kept = [header for header in self.scope["headers"] if header[0] in _KEPT_HEADERS]
            self.scope["headers"] = [*kept, _NO_TASK_FOR_DISCONNECTS]

    def pause_writing(self) -> None:
        """Let frames wait where they are counted."""
        super().pause_writing()
        self.ready = False

    def resume_writing(self) -> None:
        """Take the frames that waited."""
        super().resume_writing()
        if self.on_ready is not None and not self.close_sent:
            self.ready = True
            self.on_ready()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let everything go, and no cycle stay: a full collection stops everybody's frames.

        With 5,000 sockets it took half a second, and those that had closed brought it about.
        """
        self.ready, self.on_ready = False, None
        super().connection_lost(exc)
        self.conn.parser.close()
        if (scope := getattr(self, "scope", None)) is not None:  # there is none after a bad handshake
            scope.get("extensions", {}).pop(EXTENSION, None)

    async def receive(self) -> ASGIReceiveEvent:
        """Return what the browser said next."""
        inbox: Any = self.queue
        while inbox.empty():  # without a coroutine of the inbox's own, which would wait for hours
            try:
                await inbox.expect()
            finally:
                inbox.forget()
        message: ASGIReceiveEvent = inbox.take()
        if self.read_paused and inbox.empty():
            self.read_paused = False
            self.transport.resume_reading()
        return message

    def keepalive_timeout(self) -> None:
        """End a connection that gives no sign of life, whatever still waits to be written to it."""
        super().keepalive_timeout()
        self.transport.abort()

    def shutdown(self) -> None:
        """End this connection because the server ends: at a moment of its own."""
        if not self.handshake_complete:
            super().shutdown()
            return
        delay_s = random.uniform(0, DRAIN_S)  # noqa: S311 - spreads load, keeps no secret
        self.loop.call_later(delay_s, self.close, int(CloseCode.SERVICE_RESTART), "The server restarts.")


def install(messages: Allowance | None = None) -> None:
    """Let servers that begin in this process from now on speak WebSocket this way.

    Each socket may send so many frames.
    """
    RelayProtocol.messages = messages or SocketLimits().messages
    auto.AutoWebSocketsProtocol = RelayProtocol
