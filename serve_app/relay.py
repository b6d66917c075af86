"""The relay: a plain ASGI application that holds the sockets. See :mod:`domain.protocol` for what is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from actors.routing import GuildDirectory, RoutingSource
from domain.errors import MalformedMessage, RolesUnavailable, SessionsUnavailable, StoreUnavailable
from domain.permissions import may
from domain.protocol import (
    MAX_SUBSCRIPTIONS,
    CloseCode,
    Subscribe,
    error,
    parse_client_message,
    unsubscribed,
)
from domain.replica_counts import RelayCounts, ReplicaCounts
from domain.sessions import Session
from serve_app.access import Gate, member_of
from serve_app.cookies import own_cookies
from serve_app.denials import Denial, Kind
from serve_app.doorkeeper import NEEDED, Doorkeeper
from serve_app.frame import Frame
from serve_app.hub import Hub
from serve_app.idle_sockets import IdleSockets
from serve_app.limits import address_of
from serve_app.metering import Meter
from serve_app.ports import RelayPorts, session_cookie_name
from serve_app.socket import Socket
from serve_app.socket_counts import SocketCounts
from serve_app.transport import EXCESS, EXTENSION, RelayProtocol

log = structlog.get_logger()

SUPERSEDED = "You unsubscribed before this was answered."
FRESH_S = 10.0
"""For so long after the handshake a session need not be looked up again for the first subscribe."""


class Relay:
    """Speaks the protocol with each browser, and lets the hub feed it."""

    def __init__(
        self,
        open_ports: Callable[[], Awaitable[RelayPorts]],
        find_routing: Callable[[], RoutingSource],
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what opens the ports and finds the hosts; ``opened`` is called for each socket."""
        self._open_ports = open_ports
        self._find_routing = find_routing
        self._opened = opened
        self._ports: RelayPorts
        self._gate: Gate
        self._taken: SocketCounts
        self._hub: Hub
        self._doorkeeper: Doorkeeper
        self._idle: IdleSockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection. A socket is served right here: what it waits in, it holds for hours."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "websocket":
            headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
            await send({"type": "http.response.start", "status": 426, "headers": headers})
            await send({"type": "http.response.body", "body": b"This address speaks WebSocket only."})
            return
        await receive()
        address = address_of(HTTPConnection(scope))
        if not self._taken.enter_address(address):
            await _refuse(send, CloseCode.TRY_AGAIN_LATER, "Too many connections from this address.")
            return
        try:
            socket = await self._open(scope, send)
            if socket is not None:
                await self._read_forever(socket, receive)
        finally:
            self._taken.leave_address(address)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._ports = await self._open_ports()
        directory = GuildDirectory(self._find_routing())
        await directory.start()
        limits = self._ports.socket_limits
        self._taken = SocketCounts(limits, self._ports.open_sockets, self._ports.monotonic_s)
        await self._taken.start()
        self._hub = Hub(directory, self._taken, self._ports.pace)
        await self._hub.start()
        self._idle = IdleSockets(self._hub, limits.idle_s, self._ports.monotonic_s)
        self._idle.start()
        self._gate = Gate(self._ports.roles, self._ports.audit, self._ports.monotonic_s)
        ports = self._ports
        self._doorkeeper = Doorkeeper(
            self._hub,
            ports.roles,
            ports.sessions,
            ports.ended,
            self._lost_the_role,
            ports.monotonic_s,
            ports.now_ms,
        )
        self._doorkeeper.start()
        self._gate.watch.add(self._doorkeeper)
        self._gate.start()
        meter = Meter(ports.replica, self._counts, ports.counts)
        meter.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await meter.stop()
        await self._idle.stop()
        await self._doorkeeper.stop()
        await self._hub.stop()
        await self._taken.stop()
        await self._gate.stop()
        await self._ports.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self, scope: Scope, send: Send) -> Socket | None:
        """Accept a connection and find out whose it is; return None when it was closed instead.

        Done apart from the rest: what a coroutine has in its hands it keeps, here for the socket's life.
        """
        connection = HTTPConnection(scope)
        origin = connection.headers.get("origin")
        if origin is not None and origin != self._ports.settings.public_url:
            await send({"type": "websocket.close"})  # before accepting: the browser sees a 403
            return None
        transport: RelayProtocol | None = scope.get("extensions", {}).get(EXTENSION)
        if transport is None:
            # By Serve's fallback proxy, to which HAProxy turns while no relay takes a connection. There
            # frames are compressed for each socket, and nobody would tell it when this relay ends.
            await _refuse(send, CloseCode.SERVICE_RESTART, "The server restarts.")
            return None
        name = session_cookie_name(self._ports.settings)
        token = own_cookies(scope, [name]).get(name, "")
        try:
            session = await self._ports.sessions.get(token) if token else None
        except SessionsUnavailable:
            # Not "log in": the session may well be good, and the browser is to come back with it.
            await _refuse(send, CloseCode.SERVICE_RESTART, "Logins cannot be checked right now.")
            return None
        if await self._too_often(connection, session):
            await _refuse(send, CloseCode.TRY_AGAIN_LATER, "Too many connections in a short time.")
            return None
        if session is None:
            await _refuse(send, CloseCode.SESSION_ENDED, "Log in.")
            return None
        if not await self._taken.enter(session.user.user_id):
            await _refuse(send, CloseCode.TRY_AGAIN_LATER, "You have too many connections open.")
            return None
        try:
            await send({"type": "websocket.accept"})
        except BaseException:
            self._taken.leave(session.user.user_id)
            raise
        transport.begin()
        socket = Socket(session.user.user_id, token, transport)
        socket.session = session, self._ports.monotonic_s() + FRESH_S
        self._hub.enter(socket)
        self._opened()
        return socket

    async def _too_often(self, connection: HTTPConnection, session: Session | None) -> bool:
        limiter = self._ports.limiter
        if session is None:
            return await limiter.hit("strangers", address_of(connection)) is not None
        return await limiter.hit("handshakes", str(session.user.user_id)) is not None

    async def _read_forever(self, socket: Socket, receive: Receive) -> None:
        """Do what the browser says until it leaves or talks nonsense; then free what it held."""
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                if message["type"] == EXCESS:
                    socket.close(CloseCode.TOO_MANY_MESSAGES, "Too many messages in a short time.")
                    return
                try:
                    said = parse_client_message(message.get("text") or message.get("bytes") or b"")
                except MalformedMessage as problem:
                    socket.close(CloseCode.BAD_MESSAGE, str(problem))
                    return
                if isinstance(said, Subscribe):
                    await self._subscribe(socket, said)
                else:
                    for _ in range(self._hub.unsubscribe(socket, said.guild_id)):
                        socket.push(Frame(error("superseded", SUPERSEDED, said.guild_id)))
                    socket.push(Frame(unsubscribed(said.guild_id)))
        finally:
            self._hub.leave(socket)
            self._taken.leave(socket.user_id)

    async def _subscribe(self, socket: Socket, wanted: Subscribe) -> None:
        if not self._taken.may_subscribe(socket.user_id):
            message = "That was too often. Try again in a moment."
            socket.push(Frame(error("too_many_requests", message, wanted.guild_id)))
            return
        watching = self._hub.guilds_of(socket)
        if len(watching) >= MAX_SUBSCRIPTIONS and wanted.guild_id not in watching:
            message = f"One connection can watch {MAX_SUBSCRIPTIONS} servers."
            socket.push(Frame(error("too_many_subscriptions", message, wanted.guild_id)))
            return
        try:
            session = await self._session_of(socket)
            if session is None:
                socket.close(CloseCode.SESSION_ENDED, "Log in.")
                return
            role = await self._gate.role_in(session, wanted.guild_id)
        except (StoreUnavailable, RolesUnavailable, SessionsUnavailable):
            message = "Roles cannot be read right now. Try again in a moment."
            socket.push(Frame(error("unavailable", message, wanted.guild_id)))
            return
        guild = session.guild(wanted.guild_id)
        if guild is None or not may(role, NEEDED):
            self._refuse(socket, wanted.guild_id)
            return
        self._hub.subscribe(socket, member_of(session, guild), wanted.position)

    async def _session_of(self, socket: Socket) -> Session | None:
        """Return the session as it is now; for the first subscribe as it was a moment ago."""
        known, socket.session = socket.session, None
        if known is not None and self._ports.monotonic_s() < known[1]:
            return known[0]
        return await self._ports.sessions.get(socket.token)

    def _lost_the_role(self, socket: Socket, guild_id: int) -> None:
        self._gate.reader.forget(guild_id)  # it may remember better days
        self._refuse(socket, guild_id)

    def _refuse(self, socket: Socket, guild_id: int) -> None:
        kind = Kind(socket.user_id, guild_id, "missing_permission", NEEDED)
        self._gate.denials.note(Denial(kind, "subscribe", "/ws", None))
        socket.push(Frame(error("not_allowed", "You may not watch this server.", guild_id)))

    def _counts(self) -> ReplicaCounts:
        sockets, looked = self._hub.sockets(), self._doorkeeper.stats()
        relay = RelayCounts(
            sockets=dict(Counter(socket.wire.way for socket in sockets)),
            subscriptions=len(self._hub.watching()),
            frames=self._hub.frames,
            bytes=self._hub.bytes,
            closed=dict(self._hub.closed),
            hosts=self._hub.hosts,
            authority_changes=self._gate.watch.changes,
            authority_looks=looked.looks,
            authority_unknown=looked.unknown,
            revocations=looked.revoked,
            slowest_revocation_ms=looked.slowest_ms,
        )
        return ReplicaCounts(relay=relay)


async def _refuse(send: Send, code: CloseCode, reason: str) -> None:
    """Close a connection that becomes no socket; a browser is told a code only where it was accepted."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": int(code), "reason": reason})
