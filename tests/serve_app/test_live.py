"""From a shard's batch to a browser's frame, through a real host and a real relay in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.host import GuildHost, HostSettings
from adapters.memory import (
    MemoryAuditLog,
    MemoryClock,
    MemoryCounts,
    MemoryDatabase,
    MemoryEndedSessions,
    MemoryGuildStore,
    MemoryOpenSockets,
    MemoryRateLimiter,
    MemorySessions,
    SharedSockets,
)
from adapters.memory.samples import violation
from domain.events import Accepted, Batch, decode_reply, encode_batch
from domain.placement import place
from serve_app import host_links
from serve_app.ports import RelayPorts, WebSettings
from serve_app.relay import Relay
from tests.memory_rbac import memory_rbac
from tests.serve_app.scripted_host import GUILD, ScriptedRouting, session_of, until
from tests.serve_app.test_relay import Connection
from tests.serve_app.web import GENEROUS, PLAIN, membership


class House:
    """A host, a relay, and the twins below them."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.database = MemoryDatabase(self.clock)
        self.sessions = MemorySessions(self.clock)
        settings = HostSettings("h0", tick_ms=3_600_000)
        self.host = GuildHost(settings, self._store, self.clock)
        self.relay = Relay(self._ports, lambda: ScriptedRouting({"h0": self.host}, "h0"))
        self._says: asyncio.Queue[Any] = asyncio.Queue()
        self._life: asyncio.Task[None]
        self._batches = 0
        self.connections: list[Connection] = []

    async def _store(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)

    async def _ports(self) -> RelayPorts:
        async def close() -> None:
            pass

        settings = WebSettings(PLAIN, None, "")  # type: ignore[arg-type]
        roles, audit = memory_rbac(self.database), MemoryAuditLog(self.database)
        return RelayPorts(
            settings=settings,
            sessions=self.sessions,
            roles=roles,
            audit=audit,
            close=close,
            limiter=MemoryRateLimiter(GENEROUS),
            ended=MemoryEndedSessions(self.sessions),
            counts=MemoryCounts(),
            replica="relay",
            open_sockets=MemoryOpenSockets(SharedSockets(), "relay"),
        )

    async def start(self) -> House:
        async def heard(message: Any) -> None:
            del message

        await self.host.start()
        await self.host.assign(place(1, ["h0"]))
        self._says.put_nowait({})
        self._life = asyncio.create_task(self.relay({"type": "lifespan"}, self._says.get, heard))
        await until(lambda: hasattr(self.relay, "_hub") and self.relay._hub._links)
        return self

    async def stop(self) -> None:
        self._says.put_nowait({})
        await asyncio.wait_for(self._life, 5)
        await asyncio.wait_for(asyncio.gather(*(each.task for each in self.connections)), 5)
        await self.host.stop("the test is over")

    async def watch(self, user_id: int = 1, **position: int) -> Connection:
        token = await self.sessions.create(session_of(membership(GUILD, owns=True), user_id=user_id))
        connection = Connection(self.relay, [(b"cookie", f"guildhall={token}".encode())])
        self.connections.append(connection)
        connection.subscribe(GUILD, **position)
        return connection

    async def report(self, number: int) -> None:
        """Report a violation, as a shard does; return when it is durable."""
        self._batches += 1
        batch = Batch("shard", self._batches, (violation(GUILD, number),))
        answer = await asyncio.wait_for(self.host.ingest(encode_batch(batch)), 5)
        assert isinstance(decode_reply(answer), Accepted)


@pytest.fixture
async def house(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(host_links, "FIRST_RETRY_S", 0)
    house = await House().start()
    yield house
    await house.stop()


def messages(connection: Connection) -> list[str]:
    frames = [frame for frame in connection.frames if frame["op"] == "events"]
    return [event["data"]["message_id"] for frame in frames for event in frame["events"]]


async def test_what_is_durable_reaches_who_watches(house: House) -> None:
    """Every browser gets every violation once and in order, in the same words."""
    one, two = await house.watch(1), await house.watch(2)
    await one.frame(1)
    await two.frame(1)
    for number in range(1, 21):
        await house.report(number)
    await until(lambda: len(messages(one)) == len(messages(two)) == 20)
    assert messages(one) == messages(two) == [str(number) for number in range(1, 21)]
    assert one.frames[1] == two.frames[1]
    assert len(house.database.violations) == 20


async def test_who_comes_back_gets_what_was_missed(house: House) -> None:
    """A resumed place replays exactly the events behind it."""
    first = await house.watch()
    place = await first.frame(1)
    await house.report(1)
    first.leave()
    await first.task
    await house.report(2)
    again = await house.watch(epoch=place["epoch"], offset=place["offset"])
    await until(lambda: len(messages(again)) == 2)
    answer = again.frames[0]
    assert (answer["recovered"], answer["offset"]) == (True, 2)
    assert messages(again) == ["1", "2"]


async def test_a_host_that_gives_a_guild_up_and_takes_it_back(house: House) -> None:
    """Its watchers come back by themselves; a new activation says that they must read their state anew."""
    watching = await house.watch()
    first = await watching.frame(1)
    await house.host.assign(place(2, ["h1"]))
    await house.host.assign(place(3, ["h0"]))
    await until(lambda: len(watching.frames) == 2)
    second = watching.frames[1]
    assert (second["op"], second["recovered"]) == ("subscribed", False)
    assert second["epoch"] != first["epoch"]
    await house.report(1)
    await until(lambda: messages(watching) == ["1"])


async def test_five_windows_are_enough_and_closing_one_makes_room(house: House) -> None:
    """The sixth is closed with 4009; when one of the five goes, another may come."""
    windows = [await house.watch() for _ in range(5)]
    for window in windows:
        assert (await window.frame(1))["op"] == "subscribed"
    sixth = await house.watch()
    assert (await sixth.end())[0] == 4009
    windows[0].leave()
    await windows[0].task
    await until(lambda: not house.relay._hub._tasks)
    seventh = await house.watch()
    assert (await seventh.frame(1))["op"] == "subscribed"


async def test_watchers_of_a_closed_house_are_sent_elsewhere(house: House) -> None:
    """All that the relay had registered is gone from the host once the relay has stopped."""
    watching = await house.watch()
    await watching.frame(1)
    assert (await house.host.stats()).watched_guilds == 1
    await house.relay._hub.stop()
    assert (await watching.end())[0] == 1012
    assert (await house.host.stats()).watched_guilds == 0
