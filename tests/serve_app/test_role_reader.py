"""Roles as a replica knows them: asked once, remembered for a second, never longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

import pytest

from adapters.memory import MemoryClock
from domain.errors import RolesUnavailable, StoreUnavailable
from domain.permissions import Role
from domain.roles import Assignment, AuthorityChange, Mapping, Member, RoleChange
from serve_app.role_reader import RoleReader
from tests.serve_app.scripted_host import until

ONE, TWO = Member(1, 40, False, 0), Member(2, 40, False, 0)
ELSEWHERE = Member(1, 41, False, 0)


class ScriptedRoles:
    """Implements ``Roles`` as far as readers go: answers when it is told to, with what holds then."""

    def __init__(self) -> None:
        self.roles: dict[Member, Role] = {}
        self.unknown: set[Member] = set()
        self.asked: list[list[Member]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.problem: Exception | None = None

    async def roles_of(self, members: Collection[Member], *, wait: bool = True) -> dict[Member, Role | None]:
        assert wait
        self.asked.append(list(members))
        found = {member: self.roles.get(member) for member in members if member not in self.unknown}
        await self.answering.wait()
        if self.problem is not None:
            raise self.problem
        return found

    async def changes(self, listener_id: str) -> AsyncIterator[list[AuthorityChange]]:
        raise NotImplementedError(listener_id)
        yield

    async def change(self, change: RoleChange, by: Member, request_id: str | None = None) -> int:
        raise NotImplementedError

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        raise NotImplementedError

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        raise NotImplementedError


class Rig:
    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.actor = ScriptedRoles()
        self.hears = False
        self.reader = RoleReader(self.actor, lambda: self.clock() / 1000, lambda: self.hears)

    async def role(self, member: Member) -> Role | None:
        return (await asyncio.wait_for(self.reader.roles_of([member]), 5)).get(member)

    def ask(self, *members: Member) -> asyncio.Task[dict[Member, Role | None]]:
        return asyncio.create_task(self.reader.roles_of(members))


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_second_of_requests_costs_one_question(rig: Rig) -> None:
    """Whether they come at once or one after the other, and whether there is a role or none."""
    rig.actor.roles[ONE] = "viewer"
    rig.actor.answering.clear()
    asking = [rig.ask(ONE, TWO) for _ in range(100)]
    await until(lambda: rig.actor.asked)
    rig.actor.answering.set()
    assert await asyncio.gather(*asking) == [{ONE: "viewer", TWO: None}] * 100
    rig.clock.advance(999)
    assert (await rig.role(ONE), await rig.role(TWO)) == ("viewer", None)
    assert rig.actor.asked == [[ONE, TWO]]
    rig.clock.advance(1)
    assert await rig.role(ONE) == "viewer"
    assert rig.actor.asked == [[ONE, TWO], [ONE]]


async def test_only_what_is_not_known_is_asked(rig: Rig) -> None:
    """Of a batch, some are remembered, some are being asked about, and the rest is one question."""
    rig.actor.roles = {ONE: "viewer", TWO: "admin", ELSEWHERE: "owner"}
    assert await rig.role(ONE) == "viewer"
    rig.actor.answering.clear()
    first = rig.ask(TWO)
    await until(lambda: len(rig.actor.asked) == 2)
    batch = rig.ask(ONE, TWO, ELSEWHERE)
    await until(lambda: len(rig.actor.asked) == 3)
    rig.actor.answering.set()
    assert await batch == rig.actor.roles
    assert await first == {TWO: "admin"}
    assert rig.actor.asked == [[ONE], [TWO], [ELSEWHERE]]
    assert await rig.reader.roles_of([]) == {}


async def test_the_second_begins_with_the_question(rig: Rig) -> None:
    """A slow answer is as old as its question: it is not remembered on top, and late comers ask anew."""
    rig.actor.roles[ONE] = "viewer"
    rig.actor.answering.clear()
    slow = rig.ask(ONE)
    await until(lambda: rig.actor.asked)
    rig.actor.roles.clear()
    rig.clock.advance(1_000)
    late = rig.ask(ONE)
    await until(lambda: len(rig.actor.asked) == 2)
    rig.actor.answering.set()
    assert await slow == {ONE: "viewer"}
    assert await late == {ONE: None}
    assert await rig.role(ONE) is None
    assert len(rig.actor.asked) == 2


async def test_an_answer_that_took_its_time_is_remembered_for_less(rig: Rig) -> None:
    """What is left of the second."""
    rig.actor.answering.clear()
    slow = rig.ask(ONE)
    await until(lambda: rig.actor.asked)
    rig.clock.advance(600)
    rig.actor.answering.set()
    assert await slow == {ONE: None}
    rig.actor.roles[ONE] = "viewer"
    rig.clock.advance(399)
    assert await rig.role(ONE) is None
    rig.clock.advance(1)
    assert await rig.role(ONE) == "viewer"


@pytest.mark.parametrize("problem", [StoreUnavailable(), RolesUnavailable()])
async def test_a_failure_goes_to_all_who_wait_and_is_not_remembered(rig: Rig, problem: Exception) -> None:
    """The next one asks anew."""
    rig.actor.problem = problem
    rig.actor.answering.clear()
    asking = [rig.ask(ONE), rig.ask(ONE, TWO)]
    await until(lambda: len(rig.actor.asked) == 2)
    rig.actor.answering.set()
    for outcome in await asyncio.gather(*asking, return_exceptions=True):
        assert outcome is problem
    rig.actor.problem = None
    rig.actor.roles[ONE] = "viewer"
    assert await rig.role(ONE) == "viewer"


async def test_what_could_not_be_asked_is_no_answer_and_is_asked_again(rig: Rig) -> None:
    """It is missing, which is neither a role nor none, and nothing of it is remembered."""
    rig.actor.roles, rig.actor.unknown = {ONE: "viewer", TWO: "admin"}, {TWO}
    assert await rig.reader.roles_of([ONE, TWO]) == {ONE: "viewer"}
    rig.actor.unknown.clear()
    assert await rig.reader.roles_of([ONE, TWO]) == {ONE: "viewer", TWO: "admin"}
    assert rig.actor.asked == [[ONE, TWO], [TWO]]


async def test_who_stops_waiting_ends_nothing_for_the_others(rig: Rig) -> None:
    """The answer still comes, for them and for who asks next."""
    rig.actor.roles[ONE] = "viewer"
    rig.actor.answering.clear()
    first, second = rig.ask(ONE), rig.ask(ONE)
    await until(lambda: rig.actor.asked)
    first.cancel()
    await until(first.done)
    rig.actor.answering.set()
    assert await second == {ONE: "viewer"}
    assert await rig.role(ONE) == "viewer"
    assert len(rig.actor.asked) == 1


async def test_what_was_changed_is_forgotten(rig: Rig) -> None:
    """In its guild only; a question from before the change is answered, and not remembered."""
    rig.actor.roles = {ONE: "viewer", TWO: "viewer", ELSEWHERE: "viewer"}
    await rig.reader.roles_of([ONE, ELSEWHERE])
    rig.actor.answering.clear()
    before = rig.ask(TWO)
    await until(lambda: len(rig.actor.asked) == 2)
    rig.actor.roles = {}
    rig.reader.forget(40)
    after = rig.ask(TWO)
    await until(lambda: len(rig.actor.asked) == 3)
    rig.actor.answering.set()
    assert (await before, await after) == ({TWO: "viewer"}, {TWO: None})
    assert (await rig.role(ONE), await rig.role(TWO), await rig.role(ELSEWHERE)) == (None, None, "viewer")
    assert len(rig.actor.asked) == 4


async def test_an_answer_from_before_a_change_is_not_remembered(rig: Rig) -> None:
    """Though it comes after it, to who asked before it."""
    rig.actor.roles = {ONE: "viewer"}
    rig.actor.answering.clear()
    before = rig.ask(ONE)
    await until(lambda: rig.actor.asked)
    rig.actor.roles = {}
    rig.reader.forget(40)
    rig.actor.answering.set()
    assert await before == {ONE: "viewer"}
    assert await rig.role(ONE) is None


async def test_while_changes_are_heard_an_answer_counts_for_a_minute(rig: Rig) -> None:
    """Unless it is told that it changed: that person's, or everybody's in the guild; or nothing is heard."""
    rig.hears = True
    rig.actor.roles = {ONE: "viewer", TWO: "viewer", ELSEWHERE: "viewer"}
    everybody = [ONE, TWO, ELSEWHERE]
    await rig.reader.roles_of(everybody)
    rig.clock.advance(59_999)
    await rig.reader.roles_of(everybody)
    assert len(rig.actor.asked) == 1
    rig.reader.changed([AuthorityChange(40, 1, 0)])
    await rig.reader.roles_of(everybody)
    assert rig.actor.asked[1:] == [[ONE]]
    rig.reader.changed([AuthorityChange(40, None, 0)])
    await rig.reader.roles_of(everybody)
    assert rig.actor.asked[2:] == [[ONE, TWO]]
    rig.clock.advance(1)
    await rig.reader.roles_of(everybody)
    assert rig.actor.asked[3:] == [[ELSEWHERE]]
    rig.reader.missed()
    await rig.reader.roles_of(everybody)
    assert rig.actor.asked[4:] == [everybody]
    rig.hears = False
    rig.clock.advance(1_000)
    await rig.reader.roles_of(everybody)
    assert rig.actor.asked[5:] == [everybody]


async def test_what_discord_said_belongs_to_the_question(rig: Rig) -> None:
    """A person who logged in anew, as Discord's owner, is not told what was true of them before."""
    owner = Member(1, 40, True, 0)
    rig.actor.roles[owner] = "owner"
    assert await rig.role(ONE) is None
    assert await rig.role(owner) == "owner"
