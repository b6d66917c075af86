"""The connection as uvicorn speaks it, on a real server: what Guildhall leans on, and what it changes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket as sockets
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.websockets import auto
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from domain.protocol import CloseCode
from domain.socket_limits import Allowance
from serve_app import transport as module
from serve_app.frame import Frame
from serve_app.socket import MAX_QUEUED_BYTES, Socket
from serve_app.transport import EXCESS, EXTENSION, RelayProtocol, install
from tests.serve_app.scripted_host import GUILD, RecordingWire, item
from tests.serve_app.test_relay import RelayUnderTest


class Application:
    """Opens a socket on each connection, and remembers what came."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.scopes: list[Scope] = []
        self.headers: list[Any] = []
        """What stood there before the handshake was over."""
        self.heard: list[Message] = []
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = scope["headers"]
        await send({"type": "websocket.accept"})
        wire: RelayProtocol = scope["extensions"][EXTENSION]
        wire.begin()
        self.scopes.append(scope)
        self.headers.append(headers)
        self.sockets.append(Socket(1, "", wire))
        self.under_way += 1
        try:
            while True:
                message = await receive()
                self.heard.append(message)
                if message["type"] == "websocket.disconnect":
                    return
        finally:
            self.under_way -= 1


class Running:
    """A server as Serve builds it."""

    def __init__(self, asgi: ASGIApp | None = None) -> None:
        self.application = Application()
        # Loaded by name at this moment, as in a replica whose constructor has run.
        config = uvicorn.Config(asgi or self.application, lifespan="off", log_config=None, access_log=False)
        self.server = uvicorn.Server(config)
        self._listener = sockets.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"ws://127.0.0.1:{self.port}/ws"
        self.serving = asyncio.create_task(self.server.serve(sockets=[self._listener]))

    async def socket(self, number: int = 1) -> Socket:
        """Return the n-th socket, counted from 1, once it is open."""
        await self.eventually(lambda: len(self.application.sockets) >= number)
        return self.application.sockets[number - 1]

    async def silent_browser(self) -> asyncio.StreamWriter:
        """Connect somebody who asks for a socket, and then neither reads nor writes."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        return writer

    async def eventually(self, true: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not true():  # noqa: ASYNC110 - uvicorn sets no event of ours
                await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.server.should_exit = True
        await asyncio.wait_for(self.serving, 10)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "AutoWebSocketsProtocol", None)  # put back when the test is over
    monkeypatch.setattr(module, "DRAIN_S", 0.0)
    install()


@pytest.fixture
async def running(installed: None) -> AsyncIterator[Running]:
    del installed
    server = Running()
    await server.eventually(lambda: server.server.started)
    yield server
    await server.end()


async def closed(connection: ClientConnection) -> tuple[int, str]:
    """Read to the end; return the code and the reason."""
    try:
        async with asyncio.timeout(5):
            while True:
                await connection.recv()
    except ConnectionClosed:
        return connection.close_code or 0, connection.close_reason or ""


async def test_frames_arrive_as_they_were_made_and_deflate_is_off(running: Running) -> None:
    """Although the browser offers it; the same bytes go to everybody."""
    async with connect(running.address) as one, connect(running.address) as other:
        assert one.request is not None
        assert one.response is not None
        assert "Sec-WebSocket-Extensions" in one.request.headers
        assert "Sec-WebSocket-Extensions" not in one.response.headers
        await running.socket(2)
        texts = ["{}", "é" * 100, "x" * 70_000]
        for text in texts:
            frame = Frame(text.encode())
            for socket in running.application.sockets:
                socket.push(frame)
        together = Frame(*(text.encode() for text in texts))
        for socket in running.application.sockets:
            socket.push(together)
        for connection in (one, other):
            assert [await connection.recv() for _ in range(6)] == texts * 2


async def test_serve_makes_no_task_of_its_own_for_a_socket(running: Running) -> None:
    """It is told so by its own header; the tests of the whole system see that it still honours it."""
    async with connect(running.address):
        await running.socket()
        assert (b"x-request-disconnect-disabled", b"?1") in running.application.headers[0]


async def test_an_open_socket_holds_nothing_of_its_handshake(running: Running) -> None:
    """Nor a dictionary of its attributes: when uvicorn has a new one, it belongs among the slots."""
    async with connect(running.address):
        wire = (await running.socket()).wire
        assert isinstance(wire, RelayProtocol)
        assert wire.__dict__ == {}
        assert running.application.scopes == [{}]


async def test_plain_sends_wait_for_a_reader_that_is_behind(running: Running) -> None:
    """Before the handshake is over, as uvicorn does; who waits goes on when all is taken."""
    async with connect(running.address):
        wire = (await running.socket()).wire
        assert isinstance(wire, RelayProtocol)
        wire.pause_writing()
        waiting = asyncio.create_task(wire.writable.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        wire.resume_writing()
        await asyncio.wait_for(waiting, 5)
        await wire.writable.wait()


async def test_a_close_is_said_and_ends_the_reading_at_once(running: Running) -> None:
    """The application is free before the browser has answered."""
    async with connect(running.address) as browser:
        (await running.socket()).close(CloseCode.SESSION_ENDED, "Log in.")
        await running.eventually(lambda: running.application.under_way == 0)
        assert await closed(browser) == (4001, "Log in.")
    await running.eventually(lambda: not running.server.server_state.connections)


async def test_a_reader_that_stops_is_cut_off_with_its_reason(running: Running) -> None:
    """What waits for it is bounded; when it reads again it is told why, behind what was under way."""
    frame = Frame(b'"' + b"x" * 65_000 + b'"')
    async with connect(running.address, max_queue=1) as browser:
        socket = await running.socket()
        pushed = 0
        async with asyncio.timeout(20):
            while socket.closed_with is None:
                socket.push(frame)
                pushed += 1
                await asyncio.sleep(0)
        assert socket.closed_with is CloseCode.TOO_SLOW
        assert socket.wire.transport.get_write_buffer_size() < MAX_QUEUED_BYTES  # type: ignore[attr-defined]
        received = 0
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionClosed):
                async for text in browser:
                    assert text == frame.texts[0].decode()
                    received += 1
        assert browser.close_code == 4008
        assert 0 < received < pushed


async def test_a_reader_that_never_comes_back_is_let_go(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection does not stay for what it will never read."""
    monkeypatch.setattr(module, "CLOSE_WITHIN_S", 0.01)
    writer = await running.silent_browser()
    socket = await running.socket()
    while socket.closed_with is None:
        socket.push(Frame(b"x" * 100_000))
        await asyncio.sleep(0)
    await running.eventually(lambda: not running.server.server_state.connections)
    writer.transport.abort()


async def test_who_gives_no_sign_of_life_is_let_go(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping that nobody answers ends the connection and frees the application."""
    monkeypatch.setattr(module, "PING_AFTER_S", 0.01)
    monkeypatch.setattr(module, "PONG_WITHIN_S", 0.01)
    writer = await running.silent_browser()
    await running.socket()
    await running.eventually(lambda: running.application.heard and running.application.under_way == 0)
    await running.eventually(lambda: not running.server.server_state.connections)
    writer.close()


async def test_a_browser_that_leaves_frees_its_socket(running: Running) -> None:
    """By the closing handshake, or without a word."""
    async with connect(running.address):
        await running.socket()
    await running.eventually(lambda: running.application.under_way == 0)
    browser = await connect(running.address)
    socket = await running.socket(2)
    browser.transport.abort()
    await running.eventually(lambda: running.application.under_way == 0)
    socket.push(Frame(b"nobody"))
    socket.close(CloseCode.TOO_SLOW, "nobody")


async def test_a_socket_that_closed_needs_no_collector(running: Running) -> None:
    """Nothing of it is left, whoever closed it: with thousands of sockets a collection is a long pause."""
    closings: list[Callable[[ClientConnection, Socket], Any]] = [
        lambda browser, _: browser.close(),
        lambda browser, _: browser.transport.abort(),
        lambda _, socket: socket.close(CloseCode.SESSION_ENDED, "Log in."),
    ]
    gc.collect()
    gc.disable()
    try:
        for number, close in enumerate(closings, 1):
            browser = await connect(running.address)
            socket = await running.socket(number)
            gone = weakref.ref(socket.wire)
            await browser.send("hello")
            await running.eventually(lambda: len(running.application.heard) % 2)
            running.application.sockets[-1] = Socket(1, "", RecordingWire())
            leaving = close(browser, socket)
            if leaving is not None:
                await leaving
            del socket, leaving
            running.application.scopes.clear()
            await running.eventually(lambda: gone() is None)  # noqa: B023 - asked in this turn
            await browser.close()
    finally:
        gc.enable()


@pytest.mark.usefixtures("installed")
async def test_a_socket_of_the_relay_needs_no_collector_either() -> None:
    """With its session, its subscription and all that was said about it."""
    relay = await RelayUnderTest().start()
    relay.host.at_once = lambda call: call.answer(0)
    token = await relay.token(GUILD)
    server = Running(relay.relay)
    await server.eventually(lambda: server.server.started)
    gc.collect()
    gc.disable()
    try:
        browser = await connect(server.address, additional_headers={"Cookie": f"guildhall={token}"})
        await browser.send(f'{{"op":"subscribe","guild_id":"{GUILD}"}}')
        assert '"subscribed"' in await browser.recv()
        relay.host.feed(item(1))
        assert '"events"' in await browser.recv()
        [gone] = [weakref.ref(socket.wire) for socket in relay.relay._hub.sockets()]
        assert gone().way == "transport"  # type: ignore[union-attr]
        await browser.close()
        await server.eventually(lambda: gone() is None)
    finally:
        gc.enable()
        await relay.stop()
        await server.end()


async def test_a_handshake_that_is_none_is_refused(running: Running) -> None:
    """And leaves nothing behind."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    assert await reader.read()
    writer.close()
    await running.eventually(lambda: not running.server.server_state.connections)


async def test_too_much_at_once_is_cut_off(running: Running) -> None:
    """A message beyond any bound is not gathered."""
    async with connect(running.address) as browser:
        await running.socket()
        await browser.send("x" * (module.MAX_RECEIVED_BYTES + 1))
        assert (await closed(browser))[0] == 1009
    await running.eventually(lambda: running.application.under_way == 0)


async def test_a_server_that_ends_closes_its_sockets_one_by_one(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with 1012 at a moment of its own; until then it works as before."""
    moments = iter((0.0, 3_600.0))
    monkeypatch.setattr(module.random, "uniform", lambda *_: next(moments))
    async with connect(running.address) as one, connect(running.address) as other:
        await running.socket(2)
        running.server.should_exit = True
        endings = {asyncio.create_task(closed(browser)) for browser in (one, other)}
        done, [stays] = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert [task.result() for task in done] == [(1012, "The server restarts.")]
        [kept] = [socket for socket in running.application.sockets if socket.wire.ready]
        kept.push(Frame(b"still here"))
        kept.close(CloseCode.SERVICE_RESTART, "At last.")
        assert await stays == (1012, "At last.")


async def gone(writer: asyncio.StreamWriter) -> None:
    """Let a connection go, whatever was not sent on it yet."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def flood(running: Running, frame: bytes) -> asyncio.StreamWriter:
    """Send a frame very often on a socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame * 2_000)
    return writer


@pytest.mark.parametrize(
    "frame",
    [b"\x81\x80\0\0\0\0", b"\x89\x80\0\0\0\0", b"\x8a\x80\0\0\0\0", b"\x01\x80\0\0\0\0\x80\x80\0\0\0\0"],
    ids=["messages", "pings", "pongs", "pieces"],
)
async def test_who_sends_too_many_frames_is_heard_no_more(
    running: Running, monkeypatch: pytest.MonkeyPatch, frame: bytes
) -> None:
    """Of whatever kind: the application is told once, and nothing more is read from there on."""
    monkeypatch.setattr(RelayProtocol, "messages", Allowance(100, 60.0))
    monkeypatch.setattr(module, "SHOWN_OUT_WITHIN_S", 0.05)
    writer = await flood(running, frame)
    socket = await running.socket()
    heard = running.application.heard
    await running.eventually(lambda: heard and heard[-1]["type"] == EXCESS)
    assert len(heard) <= 101
    socket.close(CloseCode.TOO_MANY_MESSAGES, "Too many messages in a short time.")
    wire = socket.wire
    assert isinstance(wire, RelayProtocol)
    assert wire.read_paused
    await running.eventually(lambda: running.application.under_way == 0)
    await running.eventually(lambda: not running.server.server_state.connections)
    await gone(writer)


async def test_a_browser_that_keeps_within_bounds_is_heard(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many messages at once, and the socket lives."""
    monkeypatch.setattr(RelayProtocol, "messages", Allowance(100, 60.0))
    async with connect(running.address, compression=None, ping_interval=None) as browser:
        await running.socket()
        for number in range(100):
            await browser.send(str(number))
        await running.eventually(lambda: len(running.application.heard) == 100)
        assert [message["text"] for message in running.application.heard] == [str(n) for n in range(100)]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"X-Large: " + b"x" * 9_000, b"431"),
        (b"\r\n".join(b"X-%d: x" % number for number in range(200)), b"431"),
        (b"Sec-WebSocket-Protocol: \xff", b"400"),
    ],
    ids=["long", "many", "odd"],
)
async def test_a_handshake_that_is_not_taken_is_answered(
    running: Running, line: bytes, status: bytes
) -> None:
    """At once, with what was wrong, and the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + line + b"\r\n\r\n"
    )
    async with asyncio.timeout(5):
        answer = await reader.readline()
        assert answer.split()[1] == status
        await reader.read()
    await gone(writer)
