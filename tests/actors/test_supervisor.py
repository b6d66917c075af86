"""The supervisor: what is lost is noticed, ended and begun anew, each by itself, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from itertools import pairwise

import pytest

from actors.supervisor import Child, ChildEnded, ChildPolicy, Complaint, Supervisor
from domain.errors import ActorEnded, BotRefused, HostUnreachable, ServiceFailed
from tests.simulation.virtual_loop import VirtualLoop

NOTICED_WITHIN_S = 15.0


Start = BaseException | Callable[[], Awaitable[None]]
"""How one goes that does not go well at once."""


class Names:
    """Names as Ray keeps them: taken while an actor lives, started or not."""

    def __init__(self) -> None:
        self.taken: set[str] = set()


class Actor:
    """A child whose lives hold a name; each script entry tells how one start goes, then all go well."""

    def __init__(
        self, names: Names, name: str, *starts: BaseException | Callable[[], Awaitable[None]]
    ) -> None:
        self.names, self.name, self.script = names, name, list(starts)
        self.starts: list[float] = []
        self.kills = 0
        self.alive = self.hangs = False
        self.complaint: Complaint | None = None
        self.problem: Exception | None = None
        self.so_far: Hashable = None

    async def start(self) -> None:
        self.starts.append(asyncio.get_running_loop().time())
        if self.name in self.names.taken:
            raise ValueError(f"The name {self.name} is already taken.")
        self.names.taken.add(self.name)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, BaseException):
            raise step
        if step is not None:
            await step()
        self.alive, self.problem = True, None

    async def progress(self) -> Hashable:
        return self.so_far

    async def probe(self) -> Complaint | None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.problem is not None:
            raise self.problem
        if not self.alive:
            raise HostUnreachable("The actor died.")
        return self.complaint

    async def kill(self) -> None:
        self.kills += 1
        self.names.taken.discard(self.name)
        self.alive = self.hangs = False


async def _forever() -> None:
    await asyncio.Event().wait()


def run(scenario: Callable[[Supervisor], Awaitable[None]]) -> None:
    """Let a supervisor and a scenario live on a virtual clock."""
    loop = VirtualLoop(random.Random(1))
    loop.ends_at = 100_000.0

    async def play() -> None:
        supervisor = Supervisor(lambda: int(loop.time() * 1000), lambda: 1.0)
        await scenario(supervisor)

    try:
        loop.run_until_complete(play())
        assert loop.broken == []
    finally:
        loop.close()


class Supervised:
    """Children that have started and are looked after."""

    def __init__(self, supervisor: Supervisor, policy: ChildPolicy | None = None, **children: Child) -> None:
        self.supervisor, self.policy, self.children = supervisor, policy, children

    async def __aenter__(self) -> None:
        for name, child in self.children.items():
            self.supervisor.own(name, child, self.policy)
            await self.supervisor.start(name)
        self.running = asyncio.ensure_future(self.supervisor.run())

    async def __aexit__(self, *_: object) -> None:
        assert not self.running.done(), self.running
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.mark.parametrize(
    "problem", [HostUnreachable("gone"), TimeoutError(), RuntimeError("no error of ours")]
)
def test_a_failed_start_does_not_hold_the_name(problem: Exception) -> None:
    """Whatever a start raised, the next one finds its name free, until one goes well."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            actor.script = [BotRefused("Discord is away."), problem, ValueError("name taken")]
            actor.alive = False
            await asyncio.sleep(60)
            assert actor.alive
            assert len(actor.starts) == 5
            assert [(it.state, it.restarts) for it in supervisor.board()] == [("healthy", 4)]

    run(scenario)


@pytest.mark.parametrize("how", ["dies", "hangs", "breaks"])
def test_a_loss_is_noticed_in_time(how: str) -> None:
    """A child that ended, hangs, or answers with an error of any kind has a new life within 15 seconds."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            await asyncio.sleep(7)
            actor.alive, actor.hangs = how != "dies", how == "hangs"
            actor.problem = TimeoutError() if how == "breaks" else None
            await asyncio.sleep(NOTICED_WITHIN_S)
            assert actor.kills == 1
            assert actor.alive
            [state] = supervisor.board()
            assert (state.state, state.restarts) == ("healthy", 1)
            assert state.error

    run(scenario)


def test_a_patient_policy_still_tells_and_still_sees_an_end() -> None:
    """One that hangs keeps its life for as long as the policy says, and is called unhealthy meanwhile."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "redis")
        async with Supervised(supervisor, ChildPolicy(missed_probes=20), redis=actor):
            actor.hangs = True
            await asyncio.sleep(NOTICED_WITHIN_S)
            [state] = supervisor.board()
            assert (state.state, actor.kills) == ("unhealthy", 0)
            actor.hangs, actor.problem = False, ChildEnded("Redis ended.")
            await asyncio.sleep(5)
            [state] = supervisor.board()
            assert (state.error, actor.kills, state.restarts) == ("Redis ended.", 1, 1)

    run(scenario)


def test_one_that_has_ended_for_good_is_replaced_at_once() -> None:
    """A second look would find the same."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            actor.problem = ActorEnded()
            await asyncio.sleep(ChildPolicy().probe_every_s + ChildPolicy().backoff.first_s * 2 + 0.1)
            assert len(actor.starts) == 2

    run(scenario)


def test_one_slip_is_no_loss() -> None:
    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            actor.problem = HostUnreachable()
            await asyncio.sleep(3)
            actor.problem = None
            await asyncio.sleep(60)
            assert actor.kills == 0

    run(scenario)


def test_none_waits_for_another() -> None:
    """One that hangs at every step holds up nobody: ten are lost at once, nine are back as if alone."""

    async def scenario(supervisor: Supervisor) -> None:
        names = Names()
        actors = {f"r{number}": Actor(names, f"r{number}") for number in range(10)}
        async with Supervised(supervisor, **actors):
            for actor in actors.values():
                actor.alive = False
            actors["r0"].script = [_forever]
            lost_at = asyncio.get_running_loop().time()
            await asyncio.sleep(NOTICED_WITHIN_S)
            assert all(actor.alive for name, actor in actors.items() if name != "r0")
            assert all(actor.starts[-1] - lost_at < 6 for actor in actors.values())
            assert {it.name: it.state for it in supervisor.board()}["r0"] == "starting"

    run(scenario)


def test_a_start_takes_as_long_as_it_gets_on() -> None:
    """Hours, if it must; without progress it fails, is ended, and is tried again."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")

        async def slowly() -> None:
            for step in range(100):
                actor.so_far = step
                await asyncio.sleep(50)

        async with Supervised(supervisor, r0=actor):
            actor.script, actor.alive = [slowly], False
            await asyncio.sleep(5_100)
            assert actor.alive
            assert len(actor.starts) == 2
            actor.script, actor.alive = [_forever], False
            await asyncio.sleep(90)
            assert actor.alive
            assert len(actor.starts) == 4

    run(scenario)


def test_tries_grow_apart_until_a_life_lasts() -> None:
    """The pause doubles up to its most; a life that was well for a minute makes it short again."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            await asyncio.sleep(100)
            actor.script, actor.alive = [BotRefused("no")] * 9, False
            await asyncio.sleep(300)
            tries = actor.starts[1:]
            pauses = [round(after - before, 1) for before, after in pairwise(tries)]
            assert pauses == [1, 2, 4, 8, 16, 30, 30, 30, 30]
            assert actor.alive
            await asyncio.sleep(100)
            before, actor.alive = asyncio.get_running_loop().time(), False
            await asyncio.sleep(10)
            assert actor.starts[-1] - before < 6
            # One that answered for long and was never well has not proved anything.
            for pause in (1, 2, 4):
                actor.complaint = Complaint("0 of 2 shards are connected.", waits=True)
                await asyncio.sleep(100)
                before, actor.alive = asyncio.get_running_loop().time(), False
                await asyncio.sleep(20)
                assert pause < actor.starts[-1] - before < pause + 5

    run(scenario)


def test_one_that_says_it_is_not_well_is_shown_and_at_last_replaced() -> None:
    """A blind child is called unhealthy within 15 seconds, and left alone while it may recover by itself."""

    async def scenario(supervisor: Supervisor) -> None:
        actor = Actor(Names(), "r0")
        async with Supervised(supervisor, ChildPolicy(unhealthy_for_s=100), r0=actor):
            actor.complaint = Complaint("blind: shard 3")
            await asyncio.sleep(5)
            [state] = supervisor.board()
            assert (state.state, state.error) == ("unhealthy", "blind: shard 3")
            await asyncio.sleep(80)
            assert actor.kills == 0
            actor.complaint = Complaint("it has to wait", waits=True)
            await asyncio.sleep(300)
            assert actor.kills == 0
            actor.complaint = Complaint("blind: shard 3")
            await asyncio.sleep(110)
            assert actor.kills == 1
            actor.complaint = None
            await asyncio.sleep(5)
            assert supervisor.board()[0].state == "healthy"

    run(scenario)


def test_a_kill_that_hangs_is_given_up() -> None:
    """Then the next start says whether it mattered."""

    async def scenario(supervisor: Supervisor) -> None:
        class Stuck(Actor):
            async def kill(self) -> None:
                self.names.taken.discard(self.name)
                await _forever()

        actor = Stuck(Names(), "r0")
        async with Supervised(supervisor, r0=actor):
            actor.alive = False
            await asyncio.sleep(20)
            assert actor.alive

    run(scenario)


def test_the_first_start_tells_what_went_wrong() -> None:
    """And leaves nothing behind."""

    async def scenario(supervisor: Supervisor) -> None:
        names = Names()
        supervisor.own("r0", Actor(names, "r0", BotRefused("Discord does not know this bot token.")))
        with pytest.raises(BotRefused):
            await supervisor.start("r0")
        supervisor.own("r1", Actor(names, "r1", _forever))
        with pytest.raises(ServiceFailed, match="r1 made no progress for 60 s"):
            await supervisor.start("r1")
        assert names.taken == set()

    run(scenario)
