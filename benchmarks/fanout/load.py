"""The audience's process: opens sockets and counts what they receive. Spoken to by :mod:`.audience`.

Commands come as lines of JSON on standard input, answers go to standard output; in between it tells there how
many events the socket that is furthest behind has received.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from typing import Any

import uvloop

from benchmarks.fanout.frames import upgrade
from benchmarks.fanout.listener import CountingListener, ExactListener, Listener, Tally
from benchmarks.result import percentile
from domain.errors import GuildhallError

TELL_EVERY_S = 0.002
OPEN_AT_ONCE = 100
CLOSE_WITHIN_S = 10.0


class Load:
    """All sockets of one audience."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._listeners: list[Listener] = []
        self._slow: list[Listener] = []
        self._reading: list[Listener] = []
        self._telling: asyncio.Task[None] | None = None

    async def open(
        self,
        port: int,
        path: str,
        sockets: int,
        cookies: list[str],
        say: str,
        *,
        exact: bool,
        slow: int,
        receive_buffer: int,
    ) -> dict[str, Any]:
        """Open sockets; the first ``slow`` of them have a receive buffer of so many bytes."""
        room = asyncio.Semaphore(OPEN_AT_ONCE)
        kind = ExactListener if exact else CountingListener
        self._tally = Tally()

        async def one(number: int) -> Listener:
            cookie = cookies[number % len(cookies)] if cookies else ""
            listener = kind(upgrade(port, path, cookie), say, self._tally)
            async with room:
                connection = await _connect(port, receive_buffer if number < slow else 0)
                await asyncio.get_running_loop().create_connection(lambda: listener, sock=connection)
                await listener.opened
            return listener

        started = time.perf_counter()
        self._listeners = await asyncio.gather(*(one(number) for number in range(sockets)))
        self._reading, self._slow = self._listeners, self._listeners[:slow]
        self._telling = asyncio.create_task(self._tell_forever())
        return {"seconds": time.perf_counter() - started}

    async def begin(self) -> dict[str, Any]:
        """Count from here on."""
        self._tally.begin()
        for listener in self._listeners:
            listener.begin()
        return {}

    async def counts(self) -> dict[str, Any]:
        """Say what arrived since the beginning."""
        events = [listener.events for listener in self._reading]
        return {
            "least": min(events),
            "most": max(events),
            "out_of_order": self._tally.out_of_order,
            "unexpected": dict(self._tally.unexpected),
            "closed": {str(code): count for code, count in self._tally.closed.items()},
        }

    async def delays(self) -> dict[str, Any]:
        """Say how late events were since the beginning, in milliseconds."""
        delays_ms = list(self._tally.delays_ms)
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        return {"count": len(delays_ms)} | {
            name: round(percentile(delays_ms, share), 1) for name, share in shares.items()
        }

    async def pause(self) -> dict[str, Any]:
        """Let the slow ones stop reading."""
        for listener in self._slow:
            listener.transport.pause_reading()
        self._reading = self._listeners[len(self._slow) :]
        return {}

    async def resume(self, give_up_s: float) -> dict[str, Any]:
        """Let them read again; say with which codes they were closed, once they were or the time is over."""
        for listener in self._slow:
            if not listener.ended.done():
                listener.transport.resume_reading()
        done, still_open = await asyncio.wait([each.ended for each in self._slow], timeout=give_up_s)
        codes: dict[str, int] = {}
        for ended in done:
            code = str(ended.result())
            codes[code] = codes.get(code, 0) + 1
        return {"codes": codes, "still_open": len(still_open)}

    async def close(self) -> None:
        """Close all sockets; what does not close within some seconds is cut."""
        if self._telling is not None:
            self._telling.cancel()
        for listener in self._listeners:
            listener.leave()
        if self._listeners:
            await asyncio.wait([listener.ended for listener in self._listeners], timeout=CLOSE_WITHIN_S)
        for listener in self._listeners:
            listener.transport.abort()

    async def _tell_forever(self) -> None:
        """Tell how far the one that is furthest behind has come, and when that was, whenever it changed."""
        told = 0
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            slowest = min(listener.events for listener in self._reading)
            if slowest != told:
                told = slowest
                _say({"news": "slowest", "events": slowest, "at_s": time.perf_counter()})


async def _connect(port: int, receive_buffer: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return connection


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Do what is asked until nothing more can be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    commands = asyncio.StreamReader(limit=16 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    load = Load()
    while line := await commands.readline():
        command = json.loads(line)
        try:
            _say(await getattr(load, command.pop("do"))(**command))
        except (GuildhallError, OSError) as error:
            _say({"error": str(error)})
    await load.close()


if __name__ == "__main__":
    uvloop.run(main())
