"""The relay: a plain ASGI application that holds the sockets. See :mod:`domain.protocol` for what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from actors.routing import GuildDirectory, RoutingSource
from domain.errors import MalformedMessage, RolesUnavailable, SessionsUnavailable, StoreUnavailable
from domain.permissions import Permission, may
from domain.protocol import (
    MAX_SUBSCRIPTIONS,
    CloseCode,
    Subscribe,
    error,
    parse_client_message,
    unsubscribed,
)
from domain.sessions import Session
from serve_app.access import Gate, member_of, session_cookie_name
from serve_app.denials import Denial, Kind
from serve_app.hub import Hub
from serve_app.ports import RelayPorts
from serve_app.socket import Socket

log = structlog.get_logger()

NEEDED: Permission = "view_violations"
RECHECK_S = 1.0
RECHECKED_AT_ONCE = 1_000
"""Where more than these are watching, it takes some seconds until everybody was looked at again."""


class Relay:
    """Speaks the protocol with each browser, and lets the hub feed it."""

    def __init__(
        self, open_ports: Callable[[], Awaitable[RelayPorts]], find_routing: Callable[[], RoutingSource]
    ) -> None:
        self._open_ports = open_ports
        self._find_routing = find_routing
        self._ports: RelayPorts
        self._gate: Gate
        self._hub: Hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._serve_socket(scope, receive, send)
        else:
            headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
            await send({"type": "http.response.start", "status": 426, "headers": headers})
            await send({"type": "http.response.body", "body": b"This address speaks WebSocket only."})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._ports = await self._open_ports()
        directory = GuildDirectory(self._find_routing())
        await directory.start()
        self._hub = Hub(directory)
        await self._hub.start()
        self._gate = Gate(self._ports.roles, self._ports.audit, self._ports.monotonic_s)
        self._gate.denials.start()
        rechecking = asyncio.create_task(self._recheck_forever(), name="recheck")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        rechecking.cancel()
        await self._hub.stop()
        await self._gate.denials.stop()
        await self._ports.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        connection = HTTPConnection(scope)
        origin = connection.headers.get("origin")
        if origin is not None and origin != self._ports.settings.public_url:
            await send({"type": "websocket.close"})  # before accepting: the browser sees a 403
            return
        # A browser is told a close code only on a socket that was accepted.
        await send({"type": "websocket.accept"})
        try:
            session = await self._session(connection)
        except SessionsUnavailable:
            # Not "log in": the session may well be good, and the browser is to come back with it.
            reason = "Logins cannot be checked right now."
            await send({"type": "websocket.close", "code": int(CloseCode.SERVICE_RESTART), "reason": reason})
            return
        if session is None:
            await send({"type": "websocket.close", "code": int(CloseCode.SESSION_ENDED), "reason": "Log in."})
            return
        socket = Socket(session, send)
        self._hub.enter(socket)
        reading = asyncio.create_task(self._read_forever(socket, receive))
        writing = asyncio.create_task(socket.write_forever())
        closing = asyncio.create_task(socket.closed.wait())
        try:
            await asyncio.wait({reading, writing, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reading, writing, closing):
                task.cancel()
            for ended in await asyncio.gather(reading, writing, closing, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.info("socket_broke", socket=socket.socket_id, error=repr(ended))
            await socket.send_close()

    async def _session(self, connection: HTTPConnection) -> Session | None:
        token = connection.cookies.get(session_cookie_name(self._ports.settings))
        return await self._ports.sessions.get(token) if token else None

    async def _read_forever(self, socket: Socket, receive: Receive) -> None:
        """Do what the browser says until it leaves or talks nonsense; then free what it held."""
        try:
            while (message := await receive())["type"] == "websocket.receive":
                try:
                    said = parse_client_message(message.get("text") or message.get("bytes") or b"")
                except MalformedMessage as problem:
                    socket.close(CloseCode.BAD_MESSAGE, str(problem))
                    return
                if isinstance(said, Subscribe):
                    await self._subscribe(socket, said)
                else:
                    self._hub.unsubscribe(socket, said.guild_id)
                    socket.push(unsubscribed(said.guild_id))
        finally:
            self._hub.leave(socket)

    async def _subscribe(self, socket: Socket, wanted: Subscribe) -> None:
        watching = self._hub.guilds_of(socket)
        if len(watching) >= MAX_SUBSCRIPTIONS and wanted.guild_id not in watching:
            message = f"One connection can watch {MAX_SUBSCRIPTIONS} servers."
            socket.push(error("too_many_subscriptions", message, wanted.guild_id))
            return
        try:
            allowed = await self._may_watch(socket.session, wanted.guild_id)
        except (StoreUnavailable, RolesUnavailable):
            message = "Roles cannot be read right now. Try again in a moment."
            socket.push(error("unavailable", message, wanted.guild_id))
            return
        if not allowed:
            self._refuse(socket, wanted.guild_id)
            return
        self._hub.subscribe(socket, wanted.guild_id, wanted.position)

    async def _may_watch(self, session: Session, guild_id: int) -> bool:
        return may(await self._gate.role_in(session, guild_id), NEEDED)

    def _refuse(self, socket: Socket, guild_id: int) -> None:
        kind = Kind(socket.session.user.user_id, guild_id, "missing_permission", NEEDED)
        self._gate.denials.note(Denial(kind, "subscribe", "/ws", None))
        socket.push(error("not_allowed", "You may not watch this server.", guild_id))

    async def _recheck_forever(self) -> None:
        """Look again and again whether those who watch still may."""
        start = 0
        while True:
            await asyncio.sleep(RECHECK_S)
            watching = self._hub.watching()
            start = start if start < len(watching) else 0
            try:
                await self._recheck(watching[start : start + RECHECKED_AT_ONCE])
            except (StoreUnavailable, RolesUnavailable) as problem:
                # What takes a role away is away too: what was granted still holds.
                log.warning("roles_not_rechecked", error=str(problem))
            except Exception:
                log.exception("recheck_broke")
            start += RECHECKED_AT_ONCE

    async def _recheck(self, watching: list[tuple[Socket, int]]) -> None:
        members = {
            (socket, guild_id): member_of(socket.session, guild)
            for socket, guild_id in watching
            if (guild := socket.session.guild(guild_id)) is not None
        }
        if not members:
            return
        roles = await self._ports.roles.roles_of(set(members.values()))
        for (socket, guild_id), member in members.items():
            if not may(roles.get(member), NEEDED) and guild_id in self._hub.guilds_of(socket):
                self._gate.reader.forget(guild_id)  # it may remember better days
                self._hub.unsubscribe(socket, guild_id)
                self._refuse(socket, guild_id)
