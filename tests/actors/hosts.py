"""What tests of a host and of those who talk to it share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from actors.fan_out import Item
from actors.guild import Admission, Answer, Unwatch, Watch
from actors.host import GuildHost, HostPing, HostSettings
from actors.observers import Change
from actors.routing import HostCalls, Routing
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from domain.events import (
    Accepted,
    Batch,
    Event,
    Gap,
    Reply,
    Sender,
    decode_batch,
    decode_reply,
    encode_batch,
    encode_reply,
)
from domain.placement import Placement, place
from domain.ports import Commit, Incarnation
from domain.protocol import events_frame


class HostUnderTest:
    """A plain host with every slot, on the twin of the database."""

    def __init__(
        self, database: MemoryDatabase, clock: MemoryClock, host_id: str = "h0", **settings: Any
    ) -> None:
        self.database = database
        self.host_id = host_id
        self.actor = GuildHost(HostSettings(host_id, **settings), self._open, clock)
        self._listeners: list[Listener] = []

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)

    async def start(self) -> HostUnderTest:
        await self.actor.start()
        await self.actor.assign(place(1, [self.host_id]))
        return self

    async def send(
        self, *events: Event, source: str = "s", number: int = 1, gaps: tuple[Gap, ...] = ()
    ) -> Reply:
        return await self.send_bytes(encode_batch(Batch(source, number, events, gaps)))

    async def send_bytes(self, payload: bytes) -> Reply:
        return decode_reply(await asyncio.wait_for(self.actor.ingest(payload), 5))

    async def listen(self, relay_id: str = "relay") -> Listener:
        listener = Listener(self.actor.stream(relay_id))
        self._listeners.append(listener)
        assert await listener.next() == []
        return listener

    async def stop(self) -> None:
        await self.actor.stop("the test is over")
        for listener in self._listeners:
            await listener.close()


class Held:
    """Commits that wait until they are let go; ``error`` is then raised in their place."""

    def __init__(self, database: MemoryDatabase) -> None:
        self.begun = asyncio.Event()
        self.let_go = asyncio.Event()
        self.error: Exception | None = None
        self.seen: list[Commit] = []
        database.before_commit = self._hold

    async def _hold(self, commit: Commit) -> None:
        self.seen.append(commit)
        self.begun.set()
        await self.let_go.wait()
        if self.error is not None:
            raise self.error


class Listener:
    """A relay's end of a stream."""

    def __init__(self, stream: AsyncIterator[list[Item]]) -> None:
        self._stream = stream
        self._items: list[Item] = []

    async def next(self) -> list[Item]:
        """Return the next list; raise StopAsyncIteration at the end."""
        return await asyncio.wait_for(anext(self._stream), 5)

    async def frame(self) -> dict[str, Any]:
        """Return what was published together next, as a frame."""
        while not self._items:
            self._items = await self.next()
        item = self._items.pop(0)
        found: dict[str, Any] = json.loads(events_frame(item.guild_id, item.epoch, item.events))
        assert found["events"][-1]["offset"] == item.offset
        return found

    async def events(self, count: int) -> list[dict[str, Any]]:
        """Return the next events, in however many frames they come."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.frame())["events"]
        return found

    async def ended(self) -> bool:
        try:
            await self.next()
        except StopAsyncIteration:
            return True
        return False

    async def close(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


class RecordingHost:
    """A host that only takes batches: it records them, and answers by ``script``, then accepts."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.senders: list[Sender | None] = []
        self.in_flight = self.most_in_flight = 0
        self.open = asyncio.Event()
        self.open.set()
        self.received = asyncio.Condition()
        self.assigned: list[Placement] = []
        self.life: list[str] = []
        self.script: list[Reply | Exception] = []
        self.marks: dict[str, int] = {}

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        batch = decode_batch(payload)
        self.senders.append(sender)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with self.received:
                self.batches.append(batch)
                self.received.notify_all()
            await self.open.wait()
            answer = self.script.pop(0) if self.script else Accepted(batch.number, 1_000)
            if isinstance(answer, Exception):
                raise answer
            return encode_reply(answer)
        finally:
            self.in_flight -= 1

    async def got(self, batches: int) -> list[Batch]:
        """Return when so many batches have come."""
        async with asyncio.timeout(5), self.received:
            await self.received.wait_for(lambda: len(self.batches) >= batches)
        return self.batches

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch.events]

    async def start(self, director: int | None = None) -> Incarnation:
        del director
        self.life.append("start")
        return Incarnation("", 0)

    async def stop(self, reason: str) -> None:
        self.life.append(f"stop: {reason}")

    async def ping(self) -> HostPing:
        raise NotImplementedError

    async def assign(self, placement: Placement) -> None:
        self.life.append("assign")
        self.assigned.append(placement)

    async def taken(self, source: str) -> int:
        return self.marks.get(source, 0)

    async def kill(self) -> None:
        self.life.append("kill")

    def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        raise NotImplementedError

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        raise NotImplementedError

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        raise NotImplementedError

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        raise NotImplementedError

    def changes(self, observer_id: str) -> AsyncIterator[list[Change]]:
        raise NotImplementedError

    async def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        raise NotImplementedError

    async def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        raise NotImplementedError

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        raise NotImplementedError

    async def prove(self, relay_id: str) -> None:
        raise NotImplementedError

    async def stats(self) -> Any:
        raise NotImplementedError


class Director:
    """Knows one placement at a time, and can be away; of runners it knows what its store does."""

    def __init__(
        self, hosts: dict[str, HostCalls], version: int = 1, store: MemoryGuildStore | None = None
    ) -> None:
        self.store = store or MemoryGuildStore(MemoryDatabase())
        self.find_runner, self.note_covered = self.store.find_runner, self.store.note_covered
        self.register_runner = self.store.register_runner
        self.pending_deletions = self.store.pending_deletions
        self.now = Routing(place(version, hosts), hosts)
        self.error: Exception | None = None
        self.asked = 0

    def place(self, version: int, *owners: str) -> None:
        """Let only ``owners`` have slots from now on."""
        self.now = Routing(place(version, owners), self.now.hosts)

    async def routing(self) -> Routing:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.now


async def settled() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(10):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool], within_s: float = 5) -> None:
    """Return when something has become so; nothing tells of it but looking."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)
