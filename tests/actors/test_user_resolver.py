"""The UserResolver: where it looks, what it asks Discord, and what it shows meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from actors.people import ResolvedPeople
from actors.user_resolver import PersonMemories, ResolverSettings, UserResolver
from adapters.memory import MemoryClock, MemoryPersonMemory, MemoryPersonSource
from domain.errors import DiscordBusy, DiscordUnavailable, HostUnreachable, StoreUnavailable
from domain.ids import HOUR_MS
from domain.people import FRESH_MS, Person, gone

SOON = ResolverSettings(answer_within_s=0.05, busy_at_least_s=0.0)


class World:
    """A resolver and everything that it asks."""

    def __init__(self, settings: ResolverSettings | None = None) -> None:
        self.clock = MemoryClock()
        self.redis, self.database = MemoryPersonMemory(), MemoryPersonMemory()
        self.discord = MemoryPersonSource(self.clock)
        self.opened = 0
        self.open_fault: StoreUnavailable | None = None
        self.settings = settings or ResolverSettings()
        self.resolver = self.new_resolver()

    def new_resolver(self) -> UserResolver:
        return UserResolver(self.settings, self._open, lambda: self.discord, self.clock)

    async def _open(self) -> PersonMemories:
        if self.open_fault is not None:
            raise self.open_fault
        self.opened += 1
        return PersonMemories(self.redis, self.database)

    def person(self, user_id: int, age_ms: int = 0) -> Person:
        return Person(user_id, f"u{user_id}", f"U{user_id}", None, self.clock() - age_ms)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - other tasks of this loop make it true
            await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


async def test_discord_is_asked_once_and_everybody_remembers(world: World) -> None:
    """The next question ends in memory; a restarted resolver finds the answer in Redis or the database."""
    world.discord.names[7] = "ada"
    first = await world.resolver.resolve([7])
    assert first[7].username == "ada"
    assert await world.resolver.resolve([7]) == first
    assert await world.new_resolver().resolve([7]) == first
    world.redis.people.clear()
    assert await world.new_resolver().resolve([7]) == first
    assert world.redis.people == first, "who is found in the database is remembered in Redis as well"
    assert world.discord.calls == [7]


async def test_the_nearest_place_that_knows_is_the_last_one_asked(world: World) -> None:
    """Nobody asks the database about whom Redis knows."""
    world.redis.people[7] = world.person(7)
    world.database.available = False
    assert await world.resolver.resolve([7]) == world.redis.people
    assert world.discord.calls == []


async def test_many_who_ask_at_once_share_a_question(world: World) -> None:
    """However many, and in whatever company."""
    world.discord.hold = asyncio.Event()
    asking = [asyncio.create_task(world.resolver.resolve([1, 2, n])) for n in range(3, 53)]
    await until(lambda: len(world.discord.calls) >= 10)
    world.discord.hold.set()
    await asyncio.gather(*asking)
    assert sorted(world.discord.calls) == list(range(1, 53))
    assert world.discord.most_under_way == 10


async def test_an_old_description_is_asked_about_again(world: World) -> None:
    """After a day; until then nobody is bothered."""
    world.discord.names[7] = "ada"
    world.database.people[7] = world.person(7, age_ms=FRESH_MS - HOUR_MS)
    assert (await world.resolver.resolve([7]))[7].username == "u7"
    world.clock.now_ms += 2 * HOUR_MS
    assert (await world.resolver.resolve([7]))[7].username == "ada"
    assert world.discord.calls == [7]


@pytest.mark.parametrize("fault", [DiscordBusy(retry_after_s=3600.0), DiscordUnavailable()])
async def test_while_discord_does_not_answer_the_old_description_is_shown(fault: DiscordUnavailable) -> None:
    """Within a bounded time; who was never described is missing."""
    world = World(SOON)
    old = world.database.people[7] = world.person(7, age_ms=2 * FRESH_MS)
    world.discord.fault = fault
    assert await world.resolver.resolve([7, 8]) == {7: old}


async def test_busy_quiets_every_question(world: World) -> None:
    """Discord said no once: nobody asks again until the time is over, and then everybody is answered."""
    world = World(ResolverSettings(answer_within_s=0.01, busy_at_least_s=0.0))
    world.discord.fault = DiscordBusy(retry_after_s=0.2)
    await world.resolver.resolve([1])
    calls = len(world.discord.calls)
    await world.resolver.resolve([2, 3])
    assert len(world.discord.calls) == calls == 1
    world.discord.fault = None
    world.discord.names.update({n: f"n{n}" for n in (1, 2, 3)})
    async with asyncio.timeout(10):
        while len(found := await world.resolver.resolve([1, 2, 3])) < 3:
            pass
    assert {person.username for person in found.values()} == {"n1", "n2", "n3"}


async def test_a_deleted_account_is_remembered(world: World) -> None:
    """For ever: it is not asked about again, however old the answer."""
    assert await world.resolver.resolve([7]) == {7: gone(7, seen_ms=world.clock())}
    world.clock.now_ms += 100 * FRESH_MS
    await world.new_resolver().resolve([7])
    assert world.discord.calls == [7]


async def test_places_that_are_away_cost_nothing_but_questions(world: World) -> None:
    """Discord answers alone."""
    world.discord.names[7] = "ada"
    world.redis.available = world.database.available = False
    assert (await world.resolver.resolve([7]))[7].username == "ada"


async def test_places_that_cannot_be_opened_are_opened_later(world: World) -> None:
    """The database may be away when the actor starts."""
    world.open_fault = StoreUnavailable()
    world.discord.names[7] = "ada"
    assert (await world.resolver.resolve([7]))[7].username == "ada"
    world.open_fault = None
    world.discord.names[8] = "bob"
    await world.resolver.resolve([8])
    assert world.opened == 1
    assert 8 in world.database.people


async def test_questions_that_wait_are_bounded() -> None:
    """Who comes when too many wait is not asked about this time."""
    world = World(ResolverSettings(waiting=3, at_once=1, answer_within_s=0.01))
    world.discord.hold = asyncio.Event()
    assert await world.resolver.resolve(range(1, 9)) == {}
    assert (await world.resolver.stats()).waiting == 3
    world.discord.hold.set()
    await until(lambda: not world.resolver._under_way)
    assert len(world.discord.calls) == 3


async def test_who_stops_waiting_takes_nothing_from_the_others(world: World) -> None:
    """A cancelled page leaves the question to those who share it."""
    world.discord.names[7] = "ada"
    world.discord.hold = asyncio.Event()
    leaves, stays = (asyncio.create_task(world.resolver.resolve([7])) for _ in range(2))
    await until(lambda: bool(world.discord.calls))
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    world.discord.hold.set()
    assert (await stays)[7].username == "ada"
    assert world.discord.calls == [7]


class Broken:
    """A resolver whose actor is gone, or that hangs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def resolve(self, user_ids: object) -> dict[int, Person]:
        del user_ids
        if self.error is None:
            await asyncio.Event().wait()
        raise self.error or HostUnreachable


class TestReplica:
    """A replica's way to several resolvers."""

    async def test_each_person_has_one_resolver(self) -> None:
        """By the id, so that two resolvers never ask about the same person."""
        worlds = [World(), World()]
        people = ResolvedPeople([world.resolver for world in worlds], worlds[0].clock)
        names = await people.resolve([1, 2, 3, 4])
        assert list(names) == [1, 2, 3, 4]
        assert sorted(worlds[0].discord.calls) == [2, 4]
        assert sorted(worlds[1].discord.calls) == [1, 3]

    async def test_it_remembers_for_an_hour_whom_it_knows(self) -> None:
        world = World()
        world.discord.names[7] = "ada"
        people = ResolvedPeople([world.resolver], world.clock)
        before = await people.resolve([7])
        world.resolver = UserResolver(world.settings, world._open, lambda: world.discord, world.clock)
        people._resolvers = [Broken()]  # type: ignore[list-item]
        assert await people.resolve([7]) == before

    async def test_an_old_description_is_shown_but_not_remembered(self) -> None:
        """Else a busy minute of Discord's would be shown for an hour."""
        world = World(SOON)
        world.database.people[7] = world.person(7, age_ms=2 * FRESH_MS)
        world.discord.fault = DiscordUnavailable()
        people = ResolvedPeople([world.resolver], world.clock)
        assert (await people.resolve([7]))[7].username == "u7"
        world.discord.fault = None
        world.discord.names[7] = "ada"
        assert (await people.resolve([7]))[7].username == "ada"

    async def test_a_resolver_that_is_gone_costs_names_only(self) -> None:
        """Its own people's; nobody else's."""
        world = World()
        world.discord.names[2] = "bob"
        people = ResolvedPeople([world.resolver, Broken(HostUnreachable())], world.clock)
        names = await people.resolve([1, 2])
        assert (names[1].id, names[1].username) == ("1", None)
        assert names[2].username == "bob"

    async def test_a_resolver_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("actors.people.ANSWER_WITHIN_S", 0.01)
        people = ResolvedPeople([Broken()], MemoryClock())
        assert (await people.resolve([1]))[1].username is None

    async def test_a_deleted_account_has_a_name_that_says_so(self) -> None:
        people = ResolvedPeople([World().resolver], MemoryClock())
        assert (await people.resolve([99_123_456]))[99_123_456].display_name == "Deleted User #123456"
