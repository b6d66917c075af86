"""One socket of the audience: it counts what arrives at the speed of C, or reads every frame exactly.

All sockets are read into one buffer, one after the other. In front of what was just read stands the end of
what the socket had received before, so that what is cut in two there is found as if it were not.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from typing import Any, NamedTuple, cast

import msgspec

from benchmarks.fanout.event import DIGITS, MARKER
from benchmarks.fanout.frames import CLOSE, PING, PONG, TEXT, client_frame
from domain.errors import ServiceFailed

_READ_BYTES = 1 << 18
_CARRY = 512
"""Longer than any frame but those with events, and than their heads."""
_BUFFER = bytearray(_CARRY + _READ_BYTES)
_READ_INTO = memoryview(_BUFFER)[_CARRY:]

_COMPRESSED = 0x40
_SHORT, _MEDIUM = 126, 127
ABNORMAL = 1006
"""RFC 6455's name for a connection that ended without a close frame."""


class Tally:
    """What all sockets of an audience saw."""

    def __init__(self) -> None:
        self.delays_ms = array("d")
        self.out_of_order = 0
        self.unexpected: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()

    def begin(self) -> None:
        """Forget what was seen so far, except which sockets were closed."""
        self.delays_ms = array("d")
        self.out_of_order = 0
        self.unexpected.clear()


class Listener(asyncio.BufferedProtocol):
    """A socket, from its upgrade to its end."""

    def __init__(self, upgrade: bytes, say: str, tally: Tally) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        """Done when it stands, and follows what it said it wants to."""
        self.ended: asyncio.Future[int] = loop.create_future()
        """How it ended: a close code."""
        self.events = 0
        self.leaving = False
        self.transport: asyncio.Transport
        self._upgrade = upgrade
        self._say = say
        self._tally = tally
        self._head = b""
        self._upgraded = False
        self._close_code = ABNORMAL

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._upgrade)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Return the buffer of all."""
        return _READ_INTO

    def buffer_updated(self, size: int) -> None:
        """Take what was read."""
        if self._upgraded:
            self._received(size)
        else:
            self._answered(size)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Note how it ended."""
        if not self.opened.done():
            self.opened.set_exception(ServiceFailed(f"A socket was closed with {self._close_code}."))
        self.ended.set_result(self._close_code)
        if not self.leaving:
            self._tally.closed[self._close_code] += 1

    def leave(self) -> None:
        """Close it from this side."""
        if not self.leaving and not self.ended.done():
            self.leaving = True
            self.transport.write(client_frame(CLOSE, (1000).to_bytes(2, "big")))
            self.transport.resume_reading()

    def begin(self) -> None:
        """Count from here on."""
        self.events = 0

    def _received(self, size: int) -> None:
        """Take what was read into the shared buffer."""
        raise NotImplementedError

    def _answered(self, size: int) -> None:
        """Take the answer to the upgrade; frames may follow it at once."""
        self._head += bytes(_READ_INTO[:size])
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 101"):
            self.opened.set_exception(ServiceFailed(f"A socket was refused: {head[:200]!r}"))
            self.leaving = True
            self.transport.close()
            return
        self._upgraded = True
        if self._say:
            self.transport.write(client_frame(TEXT, self._say.encode()))
        else:
            self.opened.set_result(None)
        if rest:
            _READ_INTO[: len(rest)] = rest
            self._received(len(rest))

    def _control(self, first_byte: int, payload: bytes) -> None:
        """Answer a ping, and honour a close."""
        if first_byte == PING:
            self.transport.write(client_frame(PONG, payload))
        elif first_byte == CLOSE:
            self._close_code = int.from_bytes(payload[:2], "big") if payload else 1005
            if not self.leaving:
                self.transport.write(client_frame(CLOSE, payload[:2]))
            self.transport.close()
        elif first_byte != PONG:
            what = (
                "a compressed frame" if first_byte & _COMPRESSED else f"a frame that begins {first_byte:#x}"
            )
            self._tally.unexpected[what] += 1
            if not self.opened.done():
                self.opened.set_exception(ServiceFailed(f"A socket received {what}."))


class CountingListener(Listener):
    """Counts events and looks at the number of the last one in what was read; steps over frames."""

    def __init__(self, upgrade: bytes, say: str, tally: Tally) -> None:
        super().__init__(upgrade, say, tally)
        self._tail = bytes(_CARRY)
        self._next_frame = 0
        """Where the next frame begins, from the end of what was read; negative when it was cut in two."""
        self._first = 0

    def begin(self) -> None:
        """Count from here on; events are numbered anew."""
        super().begin()
        self._first = -1

    def _received(self, size: int) -> None:
        end = _CARRY + size
        _BUFFER[:_CARRY] = self._tail
        start = _CARRY + 1 - len(MARKER)
        found = _BUFFER.count(MARKER, start, end)
        if found:
            self.events += found
            self._check_order(_BUFFER.rfind(MARKER, start, end) + len(MARKER), end)
        if self._next_frame < size:
            self._step_over_frames(end)
        else:
            self._next_frame -= size
        self._tail = bytes(_BUFFER[size:end])

    def _check_order(self, at: int, end: int) -> None:
        """Hold the last event's number against the count; a number that was cut is passed over."""
        if at + DIGITS > end:
            return
        first = int(_BUFFER[at : at + DIGITS]) + 1 - self.events
        if first != self._first:
            if self._first >= 0:
                self._tally.out_of_order += 1
            self._first = first

    def _step_over_frames(self, end: int) -> None:
        at = _CARRY + self._next_frame
        while at + 2 <= end:
            first_byte, length = _BUFFER[at], _BUFFER[at + 1]
            start = at + 2
            if length == _SHORT:
                start = at + 4
                length = _BUFFER[at + 2] << 8 | _BUFFER[at + 3]
            elif length == _MEDIUM:
                start = at + 10
                length = int.from_bytes(_BUFFER[at + 2 : at + 10], "big")
            if start > end:
                break
            if first_byte != TEXT or not self.opened.done():
                if start + length > end:
                    break  # short ones: it will stand in the buffer as a whole
                self._look_at(first_byte, bytes(_BUFFER[start : start + length]))
            at = start + length
        self._next_frame = at - end

    def _look_at(self, first_byte: int, payload: bytes) -> None:
        if first_byte != TEXT:
            self._control(first_byte, payload)
        elif b'"op":"subscribed"' in payload:
            self.opened.set_result(None)
        else:
            self.opened.set_exception(ServiceFailed(payload.decode()))


class _Frame(NamedTuple):
    """What stands in a text frame."""

    op: str
    first: int
    last: int
    times_ms: list[int]
    """Of the events that are timed: when they were committed, or published where nothing was committed."""


class _Read(NamedTuple):
    """What was read at once and was a few whole text frames: with an audience, the next reads the same."""

    raw: bytes
    frames: list[_Frame]


_last_read = _Read(b"", [])


class ExactListener(Listener):
    """Looks into every frame, and at the time of every event."""

    def __init__(self, upgrade: bytes, say: str, tally: Tally) -> None:
        super().__init__(upgrade, say, tally)
        self._pending = b""
        self._next_offset = 0

    def _received(self, size: int) -> None:
        now_ms = time.time() * 1000
        raw, frames = _last_read
        if self._pending or size != len(raw) or not _BUFFER.startswith(raw, _CARRY):
            frames = self._read(size)
        for frame in frames:
            self._take(frame, now_ms)

    def _read(self, size: int) -> list[_Frame]:
        """Return the text frames that are complete now, and remember the rest; act on others."""
        global _last_read  # noqa: PLW0603 - of all sockets, like the buffer
        data = self._pending + bytes(_READ_INTO[:size])
        at, end = 0, len(data)
        frames, texts_alone = [], True
        while at + 2 <= end:
            length, start = data[at + 1], at + 2
            if length == _SHORT:
                start = at + 4
                length = int.from_bytes(data[at + 2 : start], "big")
            elif length == _MEDIUM:
                start = at + 10
                length = int.from_bytes(data[at + 2 : start], "big")
            if start + length > end or start > end:
                break
            payload = data[start : start + length]
            if data[at] == TEXT:
                frames.append(_frame_of(payload))
            else:
                texts_alone = False
                self._control(data[at], payload)
            at = start + length
        self._pending = data[at:]
        if texts_alone and frames and end == at == size:
            _last_read = _Read(data, frames)
        return frames

    def _take(self, frame: _Frame, now_ms: float) -> None:
        if frame.op == "events":
            if frame.first != self._next_offset:
                self._tally.out_of_order += 1
            self._next_offset = frame.last + 1
            self.events += len(frame.times_ms)
            self._tally.delays_ms.extend(now_ms - at_ms for at_ms in frame.times_ms)
        elif frame.op == "subscribed":
            self._next_offset = frame.last + 1
            self.opened.set_result(None)
        elif not self.opened.done():
            self.opened.set_exception(ServiceFailed(frame.op))
        else:
            self._tally.unexpected[frame.op] += 1


_FRAMES_REMEMBERED = 64
_frames: dict[bytes, _Frame] = {}
"""What stood in the frames that came last; most come once a socket."""


def _frame_of(payload: bytes) -> _Frame:
    frame = _frames.get(payload)
    if frame is None:
        if len(_frames) >= _FRAMES_REMEMBERED:
            del _frames[next(iter(_frames))]
        frame = _frames[payload] = _parsed(payload)
    return frame


def _parsed(payload: bytes) -> _Frame:
    said: dict[str, Any] = msgspec.json.decode(payload)
    if said["op"] == "subscribed":
        return _Frame("subscribed", 0, said["offset"], [])
    if said["op"] != "events":
        return _Frame(payload.decode(), 0, 0, [])
    events = said["events"]
    offsets = [event["offset"] for event in events]
    first, last = offsets[0], offsets[-1]
    if offsets != list(range(first, last + 1)):
        raise ServiceFailed(f"A frame has a gap or is out of order: {offsets}")
    times_ms = [
        event["data"].get("committed_at", event["ts"])
        for event in events
        if event["type"] in ("violation", "notification")
    ]
    return _Frame("events", first, last, times_ms)
