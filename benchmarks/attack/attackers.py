"""Attackers, in a process of their own and from addresses of their own, at a pace that costs them little.

What they send is the worst that the front door lets through, or a little more. Run as
``python -m benchmarks.attack.attackers NAME PORT SECONDS``, with a :class:`Target` as JSON on standard input;
it prints how the attempts ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

ADDRESSES = tuple(f"127.0.0.{last}" for last in range(2, 6))
"""Where they come from; the people who go on working come from 127.0.0.1."""
MOST_AT_ONCE = 2_000
FLOOD_EVERY_S = 0.02
BURST_CONNECTIONS = 100
BURST_REQUESTS = 11
"""On each connection, one after the other: together just below what an address may ask in ten seconds."""
BURST_EVERY_S = 11.0
ANSWER_WITHIN_S = 30.0
NICENESS = 10
"""Real attackers take no time from our processors."""

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")
HOSTILE_VALUE = 'x="' + '\\"' * 3_400 + '"'
BOMB = b"[" + b"[]," * 21_000 + b"[]]"


class Target(msgspec.Struct, frozen=True):
    """What an attacker knows: the cookie of somebody who is logged in, and a place in a server's stream."""

    cookie: str
    guild_id: str = ""
    epoch: int | str = 0


class Attack(NamedTuple):
    """So many new connections a second; what is said on each, and what is done then."""

    per_s: float
    say: Callable[[Target], bytes]
    then: Literal["read the answer", "hold", "flood", "burst"]
    most: int = MOST_AT_ONCE
    addresses: int = len(ADDRESSES)


def _request(head: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{head} HTTP/1.1", "Host: guildhall.test", *headers, "", ""]).encode() + body


def _handshake(target: Target) -> bytes:
    return _request(
        "GET /ws",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        f"Cookie: {target.cookie}",
    )


def _subscribe(target: Target) -> bytes:
    """Return a frame that asks for all of a server's stream that its host remembers."""
    place = {"op": "subscribe", "guild_id": target.guild_id, "epoch": target.epoch, "offset": 0}
    text = msgspec.json.encode(place)
    # A mask of zeros leaves the text as it is.
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


def _burst(path: str) -> Attack:
    """Ask all that one address may in ten seconds within one, again and again."""
    return Attack(
        BURST_CONNECTIONS,
        lambda _: _request(f"GET {path}"),
        "burst",
        most=BURST_CONNECTIONS,
        addresses=1,
    )


ATTACKS = {
    "burst_page": _burst("/"),
    "burst_unknown": _burst("/api/nothing"),
    "burst_health": _burst("/health"),
    "cookie": Attack(
        60, lambda _: _request("GET /api/servers", f"Cookie: {HOSTILE_VALUE}"), "read the answer"
    ),
    "cookie_handshake": Attack(40, lambda _: _handshake(Target(HOSTILE_VALUE)), "read the answer"),
    "slow_idle": Attack(60, lambda _: b"", "hold"),
    "slow_headers": Attack(60, lambda _: _request("GET /")[:-2], "hold"),
    "slow_handshake": Attack(60, lambda target: _handshake(target)[:-2], "hold"),
    "slow_body": Attack(60, lambda _: _request("GET /", "Content-Length: 100", body=b"a"), "hold"),
    "body": Attack(
        40,
        lambda _: _request(
            "POST /api/nothing", "Content-Type: application/json", f"Content-Length: {len(BOMB)}", body=BOMB
        ),
        "read the answer",
    ),
    "subscribe_flood": Attack(5, _handshake, "flood"),
    "idle_sockets": Attack(10, _handshake, "hold"),
}


class Attackers:
    """All connections of one attack, and how they ended."""

    def __init__(self, attack: Attack, target: Target, port: int) -> None:
        self.ended: Counter[str] = Counter()
        """By the status that was answered, or by what happened instead; of a burst each answer."""
        self.held_most_s = 0.0
        self.held_most = 0
        self._attack, self._target, self._port = attack, target, port
        self._tasks: set[asyncio.Task[None]] = set()

    async def attack_until(self, end_s: float) -> None:
        """Open one connection after the other until then (``monotonic``); then let go of all."""
        number = 0
        while time.monotonic() < end_s:
            if len(self._tasks) < self._attack.most:
                number += 1
                task = asyncio.create_task(self._connect(ADDRESSES[number % self._attack.addresses]))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                self.held_most = max(self.held_most, len(self._tasks))
            await asyncio.sleep(1 / self._attack.per_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, address: str) -> None:
        began = time.monotonic()
        outcome = "held to the end"
        writer: asyncio.StreamWriter | None = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
            if self._attack.then == "burst":
                outcome = await self._burst(reader, writer)
            else:
                writer.write(self._attack.say(self._target))
                outcome = await self._go_on(reader, writer)
            self.held_most_s = max(self.held_most_s, time.monotonic() - began)
        except (OSError, EOFError, TimeoutError) as problem:
            outcome = type(problem).__name__
        except asyncio.CancelledError:
            self.held_most_s = max(self.held_most_s, time.monotonic() - began)
            raise
        finally:
            self.ended[outcome] += 1
            if writer is not None:
                writer.transport.abort()

    async def _go_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        flooding = asyncio.create_task(self._flood(writer)) if self._attack.then == "flood" else None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S if self._attack.then == "read the answer" else None):
                line = await reader.readline()
                status = line[9:12].decode("latin-1") or "closed without a word"
                if self._attack.then != "read the answer":
                    while await reader.read(1 << 16):
                        pass
            return status
        finally:
            if flooding is not None:
                flooding.cancel()
                await asyncio.gather(flooding, return_exceptions=True)

    async def _burst(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Ask again and again, and rest until one may again; counts each answer."""
        while True:
            due = time.monotonic() + BURST_EVERY_S
            for _ in range(BURST_REQUESTS):
                writer.write(self._attack.say(self._target))
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    head = (await reader.readuntil(b"\r\n\r\n")).lower()
                    self.ended[head[9:12].decode("latin-1")] += 1
                    if length := _LENGTH.search(head):
                        await reader.readexactly(int(length[1]))
                if b"connection: close" in head:
                    return "closed"
            await asyncio.sleep(due - time.monotonic())

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        frame = _subscribe(self._target)
        while True:
            await asyncio.sleep(FLOOD_EVERY_S)
            writer.write(frame)
            await writer.drain()


async def _main(name: str, port: int, seconds: float) -> None:
    target = msgspec.json.decode(sys.stdin.buffer.read(), type=Target)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    attackers = Attackers(ATTACKS[name], target, port)
    await attackers.attack_until(time.monotonic() + seconds)
    told = {
        "ended": dict(sorted(attackers.ended.items())),
        "held_most": attackers.held_most,
        "held_most_s": round(attackers.held_most_s, 1),
    }
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
