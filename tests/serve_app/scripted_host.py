"""Hosts that say what a test tells them to say, and browsers that record what they are sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from actors.fan_out import Item
from actors.guild import Admission, Answer, Unwatch, Watch
from actors.routing import Routing
from adapters.memory.samples import NOON_MS, person
from domain.errors import HostUnreachable
from domain.placement import Placement, place
from domain.protocol import events_frame
from domain.roles import Member
from domain.sessions import Session, SessionGuild
from serve_app.frame import Frame
from serve_app.socket import Socket

GUILD = 40


async def until(true: Callable[[], Any]) -> None:
    """Let every other task run until something is so."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - passes turns, does not wait for a time
            await asyncio.sleep(0)


def item(offset: int, guild_id: int = GUILD, epoch: int = 1) -> Item:
    """Return one event."""
    return Item(guild_id, epoch, offset, [b'{"offset":%d}' % offset])


def frame_of(*items: Item) -> bytes:
    """Return the frame that carries the events of these items."""
    events = [event for item in items for event in item.events]
    return events_frame(items[0].guild_id, items[0].epoch, events)


def session_of(*guilds: SessionGuild, user_id: int = 1) -> Session:
    return Session(person(user_id), guilds, "csrf", NOON_MS)


class Call:
    """A call that a relay made and that waits for its answer."""

    def __init__(self, relay_id: str, wanted: Watch) -> None:
        self.relay_id, self.position = relay_id, wanted.position
        self.socket_id, self.guild_id = wanted.socket_id, wanted.guild_id
        self._answer: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()

    def answer(self, offset: int, *, epoch: int = 1, recovered: bool = True, replay: bytes = b"") -> None:
        self._answer.set_result(Admission(epoch, offset, recovered, replay))

    def fail(self, problem: Exception) -> None:
        self._answer.set_exception(problem)

    async def answered(self) -> Admission:
        # As over Ray: a caller that stops waiting does not stop the call.
        return await asyncio.shield(self._answer)


class ScriptedHost:
    """Implements ``HostCalls`` as far as relays go. ``registered`` is what it believes to be watched."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.said: list[tuple[str, int, int]] = []
        """Every watch and unwatch, in the order they came: what, socket, guild."""
        self.registered: set[tuple[str, int, int]] = set()
        self.streams: dict[str, asyncio.Queue[list[Item] | Exception | None]] = {}
        self.evictions: list[tuple[int, int]] = []
        """For whom room was to be made, and where."""
        self.proofs: list[str] = []
        """Relays that said that they are there."""
        self.at_once: Callable[[Call], None] | None = None
        """Answers a watch as it comes."""
        self.unwatching = asyncio.Event()
        self.unwatching.set()
        self.reachable = True

    async def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        if not self.reachable:
            raise HostUnreachable
        queue = self.streams[relay_id] = asyncio.Queue()
        try:
            yield []
            while (next_one := await queue.get()) is not None:
                if isinstance(next_one, Exception):
                    raise next_one
                yield next_one
        finally:
            self.streams.pop(relay_id, None)
            self.registered = {known for known in self.registered if known[0] != relay_id}

    def feed(self, *items: Item) -> None:
        for queue in self.streams.values():
            queue.put_nowait(list(items))

    def break_stream(self, problem: Exception | None = None) -> None:
        for queue in self.streams.values():
            queue.put_nowait(problem)

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        call = Call(relay_id, wanted)
        self.calls.append(call)
        self.said.append(("watch", wanted.socket_id, wanted.guild_id))
        if self.at_once is not None:
            self.at_once(call)
        admission = await call.answered()
        if relay_id in self.streams:
            self.registered.add((relay_id, wanted.socket_id, wanted.guild_id))
        return admission

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        """Take sockets off; who wants to watch is to ask alone, so that each has a call of its own here."""
        answers: list[Answer] = []
        for request in requests:
            if isinstance(request, Watch):
                answers.append("ask_alone")
                continue
            self.said.append(("unwatch", request.socket_id, request.guild_id))
            await self.unwatching.wait()
            self.registered.discard((relay_id, request.socket_id, request.guild_id))
            answers.append("done")
        return answers

    async def call(self, number: int) -> Call:
        """Return the n-th watch, counted from 1, once it came."""
        await until(lambda: len(self.calls) >= number)
        return self.calls[number - 1]

    async def start(self) -> Any:
        raise NotImplementedError

    async def stop(self, reason: str) -> None:
        raise NotImplementedError

    async def assign(self, placement: Placement) -> None:
        raise NotImplementedError

    async def ingest(self, payload: bytes, sender: Any = None) -> bytes:
        raise NotImplementedError

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        self.evictions.append((guild_id, user_id))

    async def prove(self, relay_id: str) -> None:
        self.proofs.append(relay_id)

    async def stats(self) -> Any:
        raise NotImplementedError


class ScriptedRouting:
    """Names one owner of every guild, and can be away."""

    def __init__(self, hosts: dict[str, Any], owner: str) -> None:
        self.hosts, self.owner, self.version = hosts, owner, 1
        self.problem: Exception | None = None

    def move(self, owner: str) -> None:
        self.owner, self.version = owner, self.version + 1

    async def routing(self) -> Routing:
        if self.problem is not None:
            raise self.problem
        return Routing(place(self.version, [self.owner]), dict(self.hosts))


class RecordingWire:
    """Carries frames to a list; held, it is not ready for more."""

    way = "test"

    def __init__(self) -> None:
        self.ready = True
        self.on_ready: Callable[[], None] | None = None
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.writes = 0

    def write(self, frame: Frame) -> None:
        assert self.ready
        self.writes += 1
        self.frames += [json.loads(text) for text in frame.texts]

    def close(self, code: int, reason: str) -> None:
        self.ready = False
        self.closed = (code, reason)

    def hold(self) -> None:
        self.ready = False

    def let_go(self) -> None:
        self.ready = True
        assert self.on_ready is not None
        self.on_ready()


def member_of(guild_id: int = GUILD, user_id: int = 1) -> Member:
    return Member(user_id, guild_id, owns=True, discord_permissions=0)


class Browser:
    """A socket, and what its browser was sent."""

    def __init__(self, user_id: int = 1) -> None:
        self.wire = RecordingWire()
        self.socket = Socket(user_id, "", self.wire)
        self.user_id = user_id

    @property
    def frames(self) -> list[dict[str, Any]]:
        return self.wire.frames

    @property
    def closed(self) -> tuple[int, str] | None:
        return self.wire.closed

    @property
    def ops(self) -> list[str]:
        return [frame["op"] for frame in self.frames]

    @property
    def offsets(self) -> list[int]:
        """The events it was sent, in order."""
        frames = [frame for frame in self.frames if frame["op"] == "events"]
        return [event["offset"] for frame in frames for event in frame["events"]]

    async def frame(self, number: int) -> dict[str, Any]:
        """Return the n-th frame, counted from 1, once it came."""
        await until(lambda: len(self.frames) >= number)
        return self.frames[number - 1]

    async def close_code(self) -> int:
        await until(lambda: self.closed)
        assert self.closed is not None
        return self.closed[0]
