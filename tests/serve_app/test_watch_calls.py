"""Calls about many sockets at once: gathered while one is under way, each answered for itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.guild import Admission, Answer, Unwatch, Watch
from domain.errors import HostUnreachable, TooManySockets
from serve_app.watch_calls import WatchCalls
from tasks import SupervisedTasks
from tests.actors.hosts import RecordingHost
from tests.serve_app.scripted_host import until

ADMITTED = Admission(1, 2, recovered=True, replay=b"")


class Host(RecordingHost):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[Watch | Unwatch]] = []
        self.alone: list[Watch] = []
        self.let_go = asyncio.Event()
        self.problem: Exception | None = None
        self.answer: Answer = ADMITTED
        self.full = self.makes_room = False
        self.evictions: list[tuple[int, int]] = []
        self.proofs: list[str] = []

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        assert relay_id == "r"
        self.requests.append(requests)
        await self.let_go.wait()
        if self.problem is not None:
            raise self.problem
        return ["done" if isinstance(request, Unwatch) else self.answer for request in requests]

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        assert relay_id == "r"
        self.alone.append(wanted)
        if self.full:
            raise TooManySockets
        return ADMITTED

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        self.evictions.append((guild_id, user_id))
        self.full = self.full and not self.makes_room

    async def prove(self, relay_id: str) -> None:
        self.proofs.append(relay_id)
        if self.problem is not None:
            raise self.problem


def spawn(work: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(work)


def wanted(socket_id: int) -> Watch:
    return Watch(socket_id, 40, 1, None)


async def test_what_comes_while_a_call_is_under_way_shares_the_next() -> None:
    """In the order in which it came, watching and leaving alike."""
    host = Host()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    first = spawn(calls.watch(wanted(1)))
    await until(lambda: host.requests)
    others = [spawn(calls.watch(wanted(number))) for number in (2, 3)]
    leaving = spawn(calls.unwatch(1, 40))
    await asyncio.sleep(0)
    assert len(host.requests) == 1
    host.let_go.set()
    assert await asyncio.gather(first, *others) == [ADMITTED] * 3
    await leaving
    assert host.requests == [[wanted(1)], [wanted(2), wanted(3), Unwatch(1, 40)]]
    assert await calls.watch(wanted(4)) == ADMITTED


async def test_each_is_told_its_own_answer() -> None:
    """One that takes longer is asked for alone, and delays nobody."""
    host = Host()
    host.let_go.set()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    host.answer = "ask_alone"
    assert await calls.watch(wanted(2)) == ADMITTED
    assert host.alone == [wanted(2)]
    assert host.evictions == []


@pytest.mark.parametrize("answer", ["too_many_sockets", "ask_alone"])
async def test_where_there_is_no_room_some_is_made(answer: Answer) -> None:
    """By relays that are gone; if there still is none, the socket is one too many."""
    host = Host()
    host.let_go.set()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    host.answer, host.full = answer, True
    host.makes_room = True
    assert await calls.watch(wanted(1)) == ADMITTED
    assert host.evictions == [(40, 1)]
    host.makes_room, host.full = False, True
    with pytest.raises(TooManySockets):
        await calls.watch(wanted(1))
    assert host.evictions == [(40, 1)] * 2


async def test_a_relay_says_that_it_is_there() -> None:
    """Once each time that it is asked; a host that is gone asks no more."""
    host = Host()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    calls.prove()
    await until(lambda: host.proofs == ["r"])
    host.problem = HostUnreachable("gone")
    calls.prove()
    await until(lambda: host.proofs == ["r", "r"])


async def test_a_call_that_fails_fails_for_all_in_it_and_for_nobody_else() -> None:
    """Who comes later is asked for in a call of their own."""
    host = Host()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    host.problem = HostUnreachable("gone")
    failing = [spawn(calls.watch(wanted(number))) for number in (1, 2)]
    host.let_go.set()
    for each in failing:
        with pytest.raises(HostUnreachable):
            await each
    host.problem = None
    assert await calls.watch(wanted(3)) == ADMITTED


async def test_one_that_is_not_waited_for_any_more_disturbs_nobody() -> None:
    """Its answer goes nowhere."""
    host = Host()
    calls = WatchCalls(host, "r", SupervisedTasks("test"))
    impatient, patient = spawn(calls.watch(wanted(1))), spawn(calls.watch(wanted(2)))
    await until(lambda: host.requests)
    impatient.cancel()
    host.let_go.set()
    assert await patient == ADMITTED
