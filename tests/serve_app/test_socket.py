"""One socket: a bounded queue and one writer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from domain.protocol import CloseCode
from serve_app import socket as module
from serve_app.socket import MAX_QUEUED_BYTES, Socket
from tests.serve_app.scripted_host import session_of, until


class Recorder:
    """A transport that can be held, or be broken."""

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


def texts(recorder: Recorder) -> list[str]:
    return [message["text"] for message in recorder.sent if message["type"] == "websocket.send"]


async def test_frames_go_out_in_order_until_the_close() -> None:
    """What was pushed is written in its order; the writer ends with the socket."""
    recorder = Recorder()
    socket = Socket(session_of(), recorder)
    writing = asyncio.create_task(socket.write_forever())
    for number in range(100):
        socket.push(b"%d" % number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    await until(lambda: len(recorder.sent) == 100)
    assert texts(recorder) == [str(number) for number in range(100)]
    socket.close(CloseCode.SERVICE_RESTART, "bye")
    await asyncio.wait_for(writing, 5)


async def test_a_slow_reader_is_cut_at_the_bound() -> None:
    """So many bytes may wait and not one more; what is already written does not count."""
    recorder = Recorder()
    socket = Socket(session_of(), recorder)
    writing = asyncio.create_task(socket.write_forever())
    socket.push(b"x" * MAX_QUEUED_BYTES)
    await until(lambda: recorder.sent)
    recorder.open.clear()
    socket.push(b"in the writer's hands")
    await asyncio.sleep(0)
    socket.push(b"x" * MAX_QUEUED_BYTES)
    assert not socket.closed.is_set()
    socket.push(b"x")
    assert socket.closed.is_set()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    recorder.open.set()
    await socket.send_close()
    assert recorder.sent[-1]["code"] == 4008


async def test_a_socket_closes_once() -> None:
    """The first reason stays; what was queued and what comes later is not sent."""
    recorder = Recorder()
    socket = Socket(session_of(), recorder)
    socket.push(b"queued")
    socket.close(CloseCode.BAD_MESSAGE, "first")
    socket.close(CloseCode.TOO_SLOW, "second")
    socket.push(b"late")
    await asyncio.wait_for(socket.write_forever(), 5)
    await socket.send_close()
    assert recorder.sent == [{"type": "websocket.close", "code": 4010, "reason": "first"}]


async def test_a_socket_that_was_not_closed_says_nothing() -> None:
    """When the browser left by itself there is nobody to tell."""
    recorder = Recorder()
    await Socket(session_of(), recorder).send_close()
    assert recorder.sent == []


@pytest.mark.parametrize("reason", ["x" * 200, "\N{SNOWMAN}" * 60, "x\N{SNOWMAN}" * 60])
async def test_a_reason_fits_into_a_close_frame(reason: str) -> None:
    """A longer one is cut at a character: with more than 123 bytes the frame would not be sent."""
    recorder = Recorder()
    socket = Socket(session_of(), recorder)
    socket.close(CloseCode.BAD_MESSAGE, reason)
    await socket.send_close()
    sent = recorder.sent[0]["reason"]
    assert 120 <= len(sent.encode()) <= 123
    assert reason.startswith(sent)


async def test_a_send_that_never_returns_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushing never waits for it, its writer can be cancelled, and the farewell has a limit."""
    monkeypatch.setattr(module, "CLOSE_WITHIN_S", 0)
    recorder = Recorder()
    recorder.open.clear()
    socket = Socket(session_of(), recorder)
    writing = asyncio.create_task(socket.write_forever())
    socket.push(b"stuck")
    await asyncio.sleep(0)
    socket.close(CloseCode.TOO_SLOW, "slow")
    writing.cancel()
    await asyncio.wait_for(asyncio.gather(writing, return_exceptions=True), 5)
    await asyncio.wait_for(socket.send_close(), 5)
    assert recorder.sent == []


async def test_a_broken_transport_ends_the_writer() -> None:
    """The error is told to whoever runs the writer; the farewell of a broken socket is quiet."""
    recorder = Recorder()
    recorder.problem = OSError("connection reset")
    socket = Socket(session_of(), recorder)
    socket.push(b"lost")
    with pytest.raises(OSError, match="reset"):
        await asyncio.wait_for(socket.write_forever(), 5)
    socket.close(CloseCode.SERVICE_RESTART, "bye")
    await socket.send_close()
