"""One socket: a queue bounded in bytes before its wire, and the two kinds of wire."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from domain.protocol import CloseCode
from serve_app import asgi_wire as module
from serve_app.asgi_wire import AsgiWire
from serve_app.frame import Frame
from serve_app.socket import MAX_QUEUED_BYTES, Socket
from tests.serve_app.scripted_host import RecordingWire, until


def frame(number: int) -> Frame:
    return Frame(b"%d" % number)


def big(size: int) -> Frame:
    return Frame(json.dumps("x" * (size - 2)).encode())


def opened() -> tuple[Socket, RecordingWire]:
    wire = RecordingWire()
    return Socket(1, "", wire), wire


async def test_frames_go_out_in_order_however_often_the_wire_has_to_wait() -> None:
    """What was pushed is written in its order, through the queue or past it."""
    socket, wire = opened()
    for number in range(100):
        if number % 10 == 3:
            wire.hold()
        if number % 10 == 7:
            wire.let_go()
        socket.push(frame(number))
    assert wire.frames == list(range(100))


async def test_what_waits_stops_where_the_wire_stops() -> None:
    """A wire that is ready for one frame gets one."""
    socket, wire = opened()
    wire.hold()
    for number in range(3):
        socket.push(frame(number))
    write = wire.write

    def write_one(one: Frame) -> None:
        write(one)
        wire.hold()

    wire.write = write_one  # type: ignore[method-assign]
    wire.let_go()
    assert wire.frames == [0]
    wire.let_go()
    assert wire.frames == [0, 1]


async def test_a_slow_reader_is_cut_at_the_bound() -> None:
    """So many bytes may wait and not one more; then nothing waits, and the wire is told why."""
    socket, wire = opened()
    wire.hold()
    socket.push(big(MAX_QUEUED_BYTES))
    assert wire.closed is None
    socket.push(big(2))
    assert wire.closed == (4008, "This connection was too slow to keep up.")
    assert socket.closed_with is CloseCode.TOO_SLOW
    wire.ready = True
    socket.push(frame(1))
    assert wire.frames == []


async def test_what_was_written_no_longer_counts() -> None:
    """The bound is of what waits, not of what ever went through."""
    socket, wire = opened()
    for _ in range(3):
        wire.hold()
        socket.push(big(MAX_QUEUED_BYTES))
        wire.let_go()
    assert wire.closed is None
    assert len(wire.frames) == 3


async def test_the_first_reason_counts_and_fits() -> None:
    """A close is said once; its reason is cut between characters."""
    socket, wire = opened()
    socket.close(CloseCode.BAD_MESSAGE, "é" * 100)
    socket.close(CloseCode.SERVICE_RESTART, "later")
    assert wire.closed == (4010, "é" * 61)


class Server:
    """The sending side of an ASGI server that can be held, or be broken."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.open = asyncio.Event()
        self.open.set()
        self.problem: Exception | None = None

    async def __call__(self, message: Any) -> None:
        await self.open.wait()
        if self.problem is not None:
            raise self.problem
        self.sent.append(message)

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.sent if message["type"] == "websocket.send"]


async def test_by_asgi_one_frame_is_under_way_at_a_time() -> None:
    """The others wait where they are counted; in the end all are there in order, and then the close."""
    server = Server()
    wire = AsgiWire(server)
    socket = Socket(1, "", wire)
    running = asyncio.create_task(wire.run())
    server.open.clear()
    for number in range(50):
        socket.push(frame(number))
    assert not wire.ready
    server.open.set()
    await until(lambda: len(server.sent) == 50)
    assert server.texts == [str(number) for number in range(50)]
    socket.close(CloseCode.SERVICE_RESTART, "bye")
    await asyncio.wait_for(running, 5)
    assert server.sent[-1] == {"type": "websocket.close", "code": 1012, "reason": "bye"}


async def test_by_asgi_a_stuck_reader_does_not_hold_the_end_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the frame under way nor the close is waited for any longer than so long."""
    monkeypatch.setattr(module, "CLOSE_WITHIN_S", 0.01)
    server = Server()
    wire = AsgiWire(server)
    socket = Socket(1, "", wire)
    running = asyncio.create_task(wire.run())
    server.open.clear()
    socket.push(frame(1))
    await asyncio.sleep(0)
    socket.close(CloseCode.TOO_SLOW, "slow")
    await asyncio.wait_for(running, 5)
    assert server.sent == []


async def test_by_asgi_a_broken_server_is_told_of() -> None:
    """Whoever runs the wire learns what went wrong."""
    server = Server()
    server.problem = OSError("connection reset")
    wire = AsgiWire(server)
    running = asyncio.create_task(wire.run())
    Socket(1, "", wire).push(frame(1))
    with pytest.raises(OSError, match="reset"):
        await asyncio.wait_for(running, 5)
