"""The client against a server on a free port of loopback that says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from domain.protocol import event_json, events_frame, subscribed
from guildhall.live import (
    Applied,
    Behind,
    Connecting,
    FollowingEnded,
    Limits,
    Live,
    LoadFailed,
    Reset,
    Waiting,
    follow,
)

SOON_S = 0.001
QUICK = Limits(backoff_first_s=SOON_S, backoff_most_s=SOON_S, restart_least_s=SOON_S, restart_most_s=SOON_S)

Updates = AsyncGenerator[Any, None]


class Relay:
    """Hands each connection to the test."""

    def __init__(self) -> None:
        self.visits: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.url = ""

    async def receive(self, visit: ServerConnection) -> None:
        await self.visits.put(visit)
        await visit.wait_closed()

    async def subscribed(self, epoch: int, offset: int, *, recovered: bool = False) -> ServerConnection:
        """Take the next connection and answer its question."""
        visit = await self.visits.get()
        await visit.recv()
        await visit.send(subscribed(1, epoch, offset, recovered=recovered).decode())
        return visit


class Store:
    """What is read over HTTP."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    relay = Relay()
    async with serve(relay.receive, "127.0.0.1", 0, compression="deflate") as server:
        relay.url = f"http://127.0.0.1:{port_of(server)}"
        yield relay


def port_of(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])


def frame(*offsets: int, epoch: int = 7) -> str:
    events = [event_json(offset, "bot_status", 0, {"online": True}) for offset in offsets]
    return events_frame(1, epoch, events).decode()


def offsets(update: Any) -> list[int]:
    assert isinstance(update, Applied)
    return [event.offset for event in update.events]


@asynccontextmanager
async def following(url: str, guild_id: str | int, **options: Any) -> AsyncIterator[Updates]:
    """Follow; the first step, with which it begins to connect, is taken."""
    async with aclosing(follow(url, guild_id, **options)) as updates:
        assert await anext(updates) == Connecting()
        yield updates


async def until(updates: Updates, kind: type) -> Any:
    """Return the next update of a kind."""
    async for update in updates:
        if isinstance(update, kind):
            return update
    raise AssertionError(kind)


async def test_a_state_and_what_follows_it(relay: Relay) -> None:
    """The cookie goes along, no origin does, and nothing is compressed."""
    async with following(
        f"{relay.url}/", 1, cookie="guildhall=secret", load=Store("state"), limits=QUICK
    ) as updates:
        visit = await relay.visits.get()
        assert visit.request is not None
        assert visit.request.path == "/ws"
        assert visit.request.headers["Cookie"] == "guildhall=secret"
        assert "Origin" not in visit.request.headers
        assert visit.protocol.extensions == []
        assert await visit.recv() == '{"op":"subscribe","guild_id":"1"}'
        await visit.send(subscribed(1, 7, 120, recovered=True).decode())
        assert await anext(updates) == Reset("state")
        assert await anext(updates) == Live(resumed=False)
        await visit.send("nonsense")
        await visit.send(frame(121, 122))
        assert offsets(await anext(updates)) == [121, 122]
        await (await visit.ping())  # it answers
    await visit.wait_closed()
    assert visit.close_code == 1000


async def test_it_comes_back_and_resumes(relay: Relay) -> None:
    """After a restart, after being too slow, and after a line that was cut without a word."""
    async with following(relay.url, "1", load=Store("state"), limits=QUICK) as updates:
        visit = await relay.subscribed(7, 120)
        await until(updates, Live)
        for offset, code in ((121, 1012), (122, 4008), (123, 1006)):
            await visit.send(frame(offset))
            assert offsets(await anext(updates)) == [offset]
            next_update = asyncio.ensure_future(anext(updates))  # by then it may be connecting again
            if code == 1006:
                visit.transport.abort()
            else:
                await visit.close(code)
            waiting = await next_update
            assert isinstance(waiting, Waiting)
            assert waiting.code == code
            assert 0 < waiting.retry_in_s <= SOON_S
            visit = await relay.visits.get()
            asked = await visit.recv()
            assert asked == f'{{"op":"subscribe","guild_id":"1","epoch":7,"offset":{offset}}}'
            await visit.send(subscribed(1, 7, offset, recovered=True).decode())
            assert await until(updates, Live) == Live(resumed=True)


async def test_a_gap_and_a_server_that_forgot_bring_a_new_state(relay: Relay) -> None:
    """What was given before is replaced."""
    store = Store("first", "second", "third")
    async with following(relay.url, 1, load=store, limits=QUICK) as updates:
        visit = await relay.subscribed(7, 120)
        assert await until(updates, Reset) == Reset("first")
        await visit.send(frame(130))
        assert await until(updates, Reset) == Reset("second")
        assert offsets(await anext(updates)) == [130]
        await visit.close(1012)
        await relay.subscribed(8, 3)
        assert await until(updates, Reset) == Reset("third")
        assert await anext(updates) == Live(resumed=False)


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    """What there is over HTTP is given meanwhile."""
    relay = Relay()
    async with serve(relay.receive, "127.0.0.1", 0) as server:
        port = port_of(server)
    load = Store("without a stream", "with one")
    async with following(f"http://127.0.0.1:{port}", 1, load=load, limits=QUICK) as updates:
        assert await until(updates, Reset) == Reset("without a stream")
        for _ in range(3):
            assert isinstance(await until(updates, Waiting), Waiting)
        async with serve(relay.receive, "127.0.0.1", port):
            await relay.subscribed(7, 120)
            assert await until(updates, Reset) == Reset("with one")
            assert await anext(updates) == Live(resumed=False)


async def test_a_server_that_refuses_the_handshake_is_tried_again() -> None:
    """A proxy may say so while the relay is away."""
    refusals = 0
    relay = Relay()

    def refuse(visit: ServerConnection, _: Any) -> Any:
        nonlocal refusals
        refusals += 1
        return visit.respond(503, "away") if refusals < 3 else None

    async with serve(relay.receive, "127.0.0.1", 0, process_request=refuse) as server:
        url = f"http://127.0.0.1:{port_of(server)}"
        async with following(url, 1, load=Store("early", "state"), limits=QUICK) as updates:
            await relay.subscribed(7, 120)
            await until(updates, Live)
    assert refusals == 3


async def test_a_server_that_accepts_and_says_nothing_is_given_up(relay: Relay) -> None:
    """It may be a proxy with nobody behind it."""
    limits = Limits(handshake_s=0.05, backoff_first_s=SOON_S)
    async with following(relay.url, 1, load=Store("early", "state"), limits=limits) as updates:
        assert isinstance(await until(updates, Waiting), Waiting)
        silent = await relay.visits.get()
        await relay.subscribed(7, 120)
        await until(updates, Live)
        await silent.wait_closed()


@pytest.mark.parametrize(("code", "why"), [(4001, "session_over"), (4003, "not_allowed")])
async def test_some_ends_are_for_good(relay: Relay, code: int, why: str) -> None:
    """The loop ends with the reason."""
    async with following(relay.url, 1, load=Store("state"), limits=QUICK) as updates:
        visit = await relay.subscribed(7, 120)
        await until(updates, Live)
        await visit.close(code)
        with pytest.raises(FollowingEnded) as ended:
            await until(updates, Live)
    assert ended.value.why == why
    assert relay.visits.empty()


async def test_a_load_that_fails_is_tried_again_or_ends_it(relay: Relay) -> None:
    """By what it raises."""
    store = Store(LoadFailed("unavailable"), ConnectionResetError(), TimeoutError(), "state")
    async with following(relay.url, 1, load=store, limits=QUICK) as updates:
        visit = await relay.subscribed(7, 120)
        assert await until(updates, Reset) == Reset("state")
        store.answers.append(LoadFailed("forbidden"))
        await visit.send(frame(125))
        with pytest.raises(FollowingEnded, match="may not watch"):
            await until(updates, Reset)
    await visit.wait_closed()


async def test_a_mistake_in_the_callers_load_comes_out_of_the_loop(relay: Relay) -> None:
    """It is not tried again for ever."""
    async with following(relay.url, 1, load=Store(KeyError("oh")), limits=QUICK) as updates:
        visit = await relay.subscribed(7, 120)
        with pytest.raises(KeyError, match="oh"):
            await until(updates, Reset)
    await visit.wait_closed()


async def test_a_load_of_no_use_any_more_is_cancelled(relay: Relay) -> None:
    """Here because the buffer was full, and then because nobody follows any more."""
    started: asyncio.Queue[int] = asyncio.Queue()
    ended: list[int] = []

    async def load() -> str:
        number = len(ended)
        await started.put(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)
        return ""

    limits = Limits(buffered_events=2)
    async with following(relay.url, 1, load=load, limits=limits):
        visit = await relay.subscribed(7, 120)
        assert await started.get() == 0
        await visit.send(frame(121, 122, 123))
        assert await started.get() == 1
    assert ended == [0, 1]


async def test_a_slow_consumer_lets_go_and_resumes(relay: Relay) -> None:
    """Between the two the server holds nothing for it, and it holds no more than it may."""
    limits = Limits(queued_events=3)
    async with following(relay.url, 1, load=Store("state"), limits=limits) as updates:
        visit = await relay.subscribed(7, 120)
        await until(updates, Live)
        await visit.send(frame(121, 122))
        await visit.send(frame(123, 124))
        await visit.wait_closed()
        assert visit.close_code == 1000
        assert relay.visits.empty()
        assert offsets(await anext(updates)) == [121, 122]
        assert offsets(await anext(updates)) == [123, 124]
        assert await anext(updates) == Behind()
        assert relay.visits.empty()
        resuming = asyncio.ensure_future(until(updates, Live))
        again = await relay.visits.get()
        assert await again.recv() == '{"op":"subscribe","guild_id":"1","epoch":7,"offset":124}'
        await again.send(subscribed(1, 7, 126, recovered=True).decode())
        await again.send(frame(125, 126))
        assert await resuming == Live(resumed=True)
        assert offsets(await anext(updates)) == [125, 126]


async def test_leaving_the_loop_closes_the_socket(relay: Relay) -> None:
    """Without a word about it."""

    async def first_state() -> Any:
        async for update in follow(relay.url, 1, load=Store("state"), limits=QUICK):
            if isinstance(update, Reset):
                return update.snapshot
        return None

    reading = asyncio.ensure_future(first_state())
    visit = await relay.subscribed(7, 120)
    assert await reading == "state"
    with pytest.raises(ConnectionClosed):
        await visit.recv()


@pytest.mark.parametrize("url", ["", "guildhall.example", "ws://guildhall.example", "https://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """Before anybody iterates."""
    with pytest.raises(ValueError, match="begins with http"):
        follow(url, 1, load=Store())
