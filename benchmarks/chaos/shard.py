"""A shard without Discord: it makes events, sends them by the real outbox, and writes down every answer.

The history is written before a batch goes and after it is answered, line by line, so that it holds
whatever happened when the process is killed between the two.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path
from typing import Any

from actors.handles import find_director
from actors.outbox import Outbox, OutboxStats
from actors.routing import GuildDirectory, HostCalls, Routing
from adapters.clock import now_ms
from adapters.sqlite_spool import SqliteSpool
from domain.events import (
    Accepted,
    Batch,
    MessagesCounted,
    NotMine,
    Sender,
    UserRef,
    ViolationDetected,
    decode_batch,
    decode_reply,
)
from domain.ids import DISCORD_EPOCH_MS, violation_id

TICK_S = 0.02
VIOLATION_SHARE = 0.3


class History:
    """An append-only file: ``S source number messages ids`` sent, ``A`` accepted, ``N`` not taken."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._sent: set[tuple[str, int]] = set()

    def sent(self, batch: Batch) -> None:
        """Note a batch, the first time it goes."""
        if (batch.source, batch.number) in self._sent:
            return
        self._sent.add((batch.source, batch.number))
        messages = sum(event.count for event in batch.events if isinstance(event, MessagesCounted))
        ids = ",".join(e.event_id.hex for e in batch.events if isinstance(e, ViolationDetected))
        self._write(f"S {batch.source} {batch.number} {messages} {ids or '-'}")

    def answered(self, kind: str, batch: Batch, host_id: str) -> None:
        """Note what became of a batch."""
        self._write(f"{kind} {batch.source} {batch.number} {host_id} {time.time():.3f}")

    def _write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


class RecordingHost:
    """A host whose answers are written down."""

    def __init__(self, host_id: str, host: HostCalls, history: History) -> None:
        self._host_id = host_id
        self._host = host
        self._history = history

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        """Hand over a batch."""
        batch = decode_batch(payload)
        self._history.sent(batch)
        answer = await self._host.ingest(payload, sender)
        reply = decode_reply(answer)
        if isinstance(reply, Accepted):
            self._history.answered("A", batch, self._host_id)
        elif isinstance(reply, NotMine):
            self._history.answered("N", batch, self._host_id)
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)


class RecordingRouting:
    """The Director's routing, with hosts whose answers are written down."""

    def __init__(self, history: History) -> None:
        self._director = find_director()
        self._history = history

    async def routing(self) -> Routing:
        """Return the newest placement."""
        placement, hosts = await self._director.routing()
        wrapped: dict[str, Any] = {
            host_id: RecordingHost(host_id, host, self._history) for host_id, host in hosts.items()
        }
        return Routing(placement, wrapped)


class ChaosShard:
    """Makes ``rate`` events a second for some guilds, until it is told to stop or killed."""

    def __init__(self, shard: int, guild_ids: list[int], rate: float, folder: Path) -> None:
        self._shard = shard
        self._guild_ids = guild_ids
        self._rate = rate
        self._folder = folder
        self._serial = 0
        self._random = random.Random(shard)  # noqa: S311 - made-up events
        self._outbox: Outbox
        self._emitting: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Take up the spool of an earlier life, and begin; return the process id."""
        history = History(self._folder / f"shard-{self._shard}.history")
        directory = GuildDirectory(RecordingRouting(history))
        await directory.start()
        spool = SqliteSpool(self._folder / f"shard-{self._shard}.sqlite")
        self._outbox = Outbox(f"c{self._shard}@{now_ms()}", directory, spool, now_ms)
        await self._outbox.start()
        self._outbox.listening()
        self._emitting = asyncio.create_task(self._emit_forever())
        return os.getpid()

    async def hush(self) -> None:
        """Make no more events."""
        if self._emitting is not None:
            self._emitting.cancel()

    async def stats(self) -> OutboxStats:
        """Return what is on its way."""
        return self._outbox.stats()

    async def _emit_forever(self) -> None:
        owed = 0.0
        last = time.monotonic()
        while True:
            await asyncio.sleep(TICK_S)
            now = time.monotonic()
            owed += (now - last) * self._rate
            last = now
            while owed >= 1:
                owed -= 1
                self._emit()

    def _emit(self) -> None:
        guild_id = self._random.choice(self._guild_ids)
        ts_ms = now_ms()
        if self._random.random() >= VIOLATION_SHARE:
            self._outbox.count_message(guild_id, ts_ms)
            return
        self._serial = (self._serial + 1) % (1 << 12)
        message_id = ((ts_ms - DISCORD_EPOCH_MS) << 22) | (self._shard << 12) | self._serial
        user_id = self._random.randrange(1, 500)
        self._outbox.add(
            ViolationDetected(
                guild_id=guild_id,
                event_id=violation_id(guild_id, message_id, "chaos"),
                channel_id=guild_id + 1,
                channel_name="general",
                message_id=message_id,
                user=UserRef(user_id, f"user{user_id}", f"User {user_id}"),
                detection="banned_word",
                rule="chaos",
                severity=self._random.choice(("low", "medium", "high", "critical")),
                action="none",
                action_status="none",
                excerpt="chaos",
                content_hash=b"\0" * 16,
                ts_ms=ts_ms,
            )
        )
