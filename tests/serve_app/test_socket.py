"""One socket: a queue bounded in bytes before its wire, and the two kinds of wire."""

from __future__ import annotations

import json

from domain.protocol import CloseCode
from serve_app.frame import Frame
from serve_app.socket import MAX_QUEUED_BYTES, Socket
from tests.serve_app.scripted_host import RecordingWire


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
