"""What a replica remembers: for how long, of whom, and what makes it forget."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, get_args

import pytest

from adapters.memory import MemoryAnnouncer, MemoryClock
from domain.errors import StoreUnavailable
from serve_app.cache import BOUNDS, CACHE_NAMES, CacheName, Caches, ForgettingAnnouncer
from tests.serve_app.scripted_host import until

GUILD = 40


class ScriptedWatch:
    """Observes what a test says, and counts who asked."""

    def __init__(self) -> None:
        self.up = True
        self.asked: list[int] = []
        self.answering = asyncio.Event()
        self.answering.set()

    async def observe(self, guild_id: int) -> bool:
        self.asked.append(guild_id)
        await self.answering.wait()
        return self.up

    def observes(self, guild_id: int) -> bool:
        del guild_id
        return self.up


class Loads:
    """A database that answers when it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.value: Any = "first"
        self.problem: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> Any:
        self.count += 1
        value, problem = self.value, self.problem
        await self.open.wait()
        if problem is not None:
            raise problem
        return value


class World:
    def __init__(self) -> None:
        self.clock, self.watch, self.loads = MemoryClock(), ScriptedWatch(), Loads()
        self.caches = Caches(self.clock, self.watch)

    async def get(self, name: CacheName = "metrics", guild_id: int = GUILD, key: str = "day") -> Any:
        return await self.caches.get(name, guild_id, key, self.loads)

    def asking(self, *arguments: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.get(*arguments))


@pytest.fixture
async def world() -> World:
    return World()


@pytest.mark.parametrize("name", CACHE_NAMES)
async def test_an_answer_is_remembered_for_its_time(world: World, name: CacheName) -> None:
    """To the millisecond, by the clock it was given."""
    assert await world.get(name) == "first"
    world.loads.value = "second"
    world.clock.advance(BOUNDS[name].ttl_ms - 1)
    assert (await world.get(name), world.loads.count) == ("first", 1)
    world.clock.advance(1)
    assert (await world.get(name), world.loads.count) == ("second", 2)


def test_the_times_are_those_that_are_promised() -> None:
    """Numbers 5 minutes, people an hour, configuration 10 minutes; anything else a second."""
    minutes = {name: BOUNDS[name].ttl_ms / 60_000 for name in get_args(CacheName)}
    assert minutes == {"metrics": 5, "users": 60, "config": 10, "requests": 1 / 60}


async def test_nothing_is_an_answer_too(world: World) -> None:
    """None is remembered like any other value."""
    world.loads.value = None
    assert [await world.get(), await world.get()] == [None, None]
    assert world.loads.count == 1


@pytest.mark.parametrize(
    "other", [("users", GUILD, "day"), ("metrics", 41, "day"), ("metrics", GUILD, "week")]
)
async def test_another_question_has_another_answer(world: World, other: tuple[Any, ...]) -> None:
    """Cache, guild and key all count."""
    await world.get()
    world.loads.value = "other"
    assert await world.get(*other) == "other"
    assert await world.get() == "first"


async def test_what_is_used_stays_when_there_is_no_more_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache is bounded; the least recently used goes first."""
    monkeypatch.setitem(BOUNDS, "metrics", BOUNDS["metrics"]._replace(max_entries=2))
    world.caches = Caches(world.clock, world.watch)
    for key in ("a", "b", "a", "c", "a"):
        await world.get("metrics", GUILD, key)
    assert world.loads.count == 3
    assert world.caches.counts()["metrics"].entries == 2
    await world.get("metrics", GUILD, "b")
    assert world.loads.count == 4


# -- one load for all who ask ------------------------------------------------------------------------


async def test_all_who_ask_meanwhile_share_a_load(world: World) -> None:
    """Also those who ask while the guild is only about to be observed."""
    world.watch.answering.clear()
    world.loads.open.clear()
    early = [world.asking() for _ in range(3)]
    await until(lambda: world.watch.asked)
    world.watch.answering.set()
    await until(lambda: world.loads.count)
    late = [world.asking() for _ in range(3)]
    await asyncio.sleep(0)
    world.loads.open.set()
    assert await asyncio.gather(*early, *late) == ["first"] * 6
    assert (world.loads.count, world.watch.asked) == (1, [GUILD])
    counts = world.caches.counts()["metrics"]
    assert (counts.misses, counts.shared, counts.hits) == (1, 5, 0)


async def test_all_who_wait_get_the_failure_and_nobody_later(world: World) -> None:
    """It is the same one; the next caller tries anew."""
    world.loads.problem = StoreUnavailable("gone")
    world.loads.open.clear()
    asking = [world.asking() for _ in range(3)]
    await until(lambda: world.loads.count)
    world.loads.open.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert results == [world.loads.problem] * 3
    world.loads.problem = None
    assert (await world.get(), world.loads.count) == ("first", 2)
    assert world.caches.counts()["metrics"].failures == 1


@pytest.mark.parametrize("leaving", [0, 1])
async def test_who_leaves_takes_the_load_from_nobody(world: World, leaving: int) -> None:
    """Not even the one for whom it was begun."""
    world.loads.open.clear()
    asking = [world.asking() for _ in range(3)]
    await until(lambda: world.loads.count)
    asking[leaving].cancel()
    await asyncio.sleep(0)
    world.loads.open.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(results.pop(leaving), asyncio.CancelledError)
    assert results == ["first", "first"]
    assert (await world.get(), world.loads.count) == ("first", 1)


async def test_a_failure_that_nobody_waits_for_any_more_is_quiet(world: World) -> None:
    """No word of an exception that was never looked at."""
    heard: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    try:
        world.loads.open.clear()
        world.loads.problem = StoreUnavailable()
        asking = world.asking()
        await until(lambda: world.loads.count)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        world.loads.open.set()
        await until(lambda: world.caches.counts()["metrics"].failures)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert heard == []


# -- what makes it forget ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ("messages", {"users", "config"}),
        ("members", {"users", "config"}),
        ("bot_status", {"users", "config"}),
        ("guild", {"users", "config"}),
        ("violation", {"config"}),
        ("warning_update", {"config"}),
        ("config_update", set()),
        ("of a kind that nobody has heard of", set()),
    ],
)
async def test_a_change_forgets_what_it_may_have_made_untrue(world: World, what: str, kept: set[str]) -> None:
    """In its guild, and nothing else."""
    for guild_id in (GUILD, 41):
        for name in CACHE_NAMES:
            await world.get(name, guild_id)
    world.caches.changed(GUILD, what)
    loads = world.loads.count
    for name in CACHE_NAMES:
        await world.get(name, 41)
    assert world.loads.count == loads
    counts = world.caches.counts()
    assert {name for name in CACHE_NAMES if counts[name].entries == 2} == kept
    assert {name for name in CACHE_NAMES if not counts[name].invalidations} == kept


async def test_a_load_that_began_before_a_change_is_not_remembered(world: World) -> None:
    """Who asked before gets it; who asks after begins anew, and finds nothing of it."""
    world.loads.open.clear()
    before = world.asking()
    await until(lambda: world.loads.count == 1)
    world.caches.changed(GUILD, "config_update")
    world.loads.value = "second"
    after = world.asking()
    await until(lambda: world.loads.count == 2)
    world.loads.open.set()
    assert (await before, await after) == ("first", "second")
    assert (await world.get(), world.loads.count) == ("second", 2)


async def test_a_slow_load_does_not_end_what_began_after_it(world: World) -> None:
    """The old load ends while the new one is under way: who asks then shares the new one."""
    gates = [asyncio.Event(), asyncio.Event()]

    async def load() -> int:
        number = world.loads.count
        world.loads.count += 1
        await gates[number].wait()
        return number

    def ask() -> asyncio.Task[int]:
        return asyncio.create_task(world.caches.get("metrics", GUILD, "day", load))

    old = ask()
    await until(lambda: world.loads.count == 1)
    world.caches.forget(GUILD)
    new = ask()
    await until(lambda: world.loads.count == 2)
    gates[0].set()
    assert await old == 0
    shared = ask()
    await asyncio.sleep(0)
    gates[1].set()
    assert (await new, await shared, world.loads.count) == (1, 1, 2)


async def test_what_cannot_be_observed_is_not_remembered(world: World) -> None:
    """It is answered all the same, and still shared by those who ask at once."""
    world.watch.up = False
    world.loads.open.clear()
    asking = [world.asking() for _ in range(2)]
    await until(lambda: world.loads.count)
    world.loads.open.set()
    assert await asyncio.gather(*asking) == ["first", "first"]
    assert (await world.get(), world.loads.count) == ("first", 2)
    assert world.caches.counts()["metrics"].entries == 0


@pytest.mark.parametrize("when", ["while it loads", "while it is remembered"])
async def test_what_is_observed_no_more_is_not_believed(world: World, when: str) -> None:
    """Whenever that begins."""
    if when == "while it loads":
        world.loads.open.clear()
    asking = world.asking()
    await until(lambda: world.loads.count == 1)
    if when == "while it is remembered":
        await asking
    world.watch.up = False
    world.loads.open.set()
    await asking
    world.watch.up = when == "while it loads"
    await world.get()
    assert world.loads.count == 2


async def test_an_announcement_is_forgotten_here_before_anybody_else_hears_of_it(world: World) -> None:
    """A change through this replica is not answered for from memory, whatever becomes of the news."""
    await world.get("config")
    entries: list[int] = []
    others = MemoryAnnouncer()

    class Looking:
        async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
            entries.append(world.caches.counts()["config"].entries)
            await others.announce(guild_id, kind, data)

    await ForgettingAnnouncer(world.caches, Looking()).announce(GUILD, "config_update", {"version": 2})
    assert entries == [0]
    assert others.announced == [(GUILD, "config_update", {"version": 2})]


# -- what it holds ---------------------------------------------------------------------------------------


async def test_the_guilds_that_are_needed_are_those_of_which_something_is_there(world: World) -> None:
    """Remembered, or on its way; not what is too old, forgotten, or was never remembered."""
    await world.get("metrics", 1)
    await world.get("config", 2)
    await world.get("requests", 3)
    world.clock.advance(1_000)
    world.watch.answering.clear()
    asking = world.asking("metrics", 4)
    await asyncio.sleep(0)
    assert world.caches.guilds() == {1, 2, 4}
    world.watch.answering.set()
    await asking
    world.caches.forget(2)
    world.clock.advance(BOUNDS["metrics"].ttl_ms - 1_000)
    assert world.caches.guilds() == {4}


async def test_nothing_stays_of_what_was_forgotten(world: World) -> None:
    """However many keys a guild had, and however they went."""
    for number in range(50):
        await world.get("metrics", GUILD, str(number))
        await world.get("metrics", number, "day")
    for guild_id in range(50):
        world.caches.forget(guild_id)
    for name in CACHE_NAMES:
        cache = world.caches._caches[name]
        assert (len(cache._entries), len(cache._flights), len(cache._marks)) == (0, 0, 0)


async def test_keys_that_went_for_lack_of_room_are_not_kept_either(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guild whose keys are many and whose state is still does not grow for ever."""
    monkeypatch.setitem(BOUNDS, "metrics", BOUNDS["metrics"]._replace(max_entries=3))
    world.caches = Caches(world.clock, world.watch)
    for number in range(50):
        await world.get("metrics", GUILD, str(number))
    assert world.caches.guilds() == {GUILD}
    [mark] = world.caches._caches["metrics"]._marks.values()
    assert len(mark.keys) == 3


async def test_entries_are_those_that_still_count(world: World) -> None:
    """What is too old is not counted, even if nobody asked since."""
    await world.get()
    assert world.caches.counts()["metrics"].entries == 1
    world.clock.advance(BOUNDS["metrics"].ttl_ms)
    assert world.caches.counts()["metrics"].entries == 0
