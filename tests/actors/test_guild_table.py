"""The guilds that are alive: who is loaded and when, who sleeps, and that a guild that wakes is itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.guild import Watcher
from actors.guild_table import AWAKE_AT_ONCE, GuildTable, TableSettings
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS
from domain.errors import StoreUnavailable
from domain.events import MessagesCounted
from domain.guild import GuildState, HourCounts
from domain.ports import Commit, Incarnation
from tests.actors.hosts import settled


class CountingStore(MemoryGuildStore):
    """Records each load, and lets ``during_load`` come between the question and its answer."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.loads: list[list[int]] = []
        self.during_load: Callable[[], Awaitable[None]] | None = None

    async def load_guilds(self, guild_ids: list[int], since_ms: int) -> dict[int, GuildState]:
        self.loads.append(guild_ids)
        found = await super().load_guilds(guild_ids, since_ms)
        if self.during_load is not None:
            await self.during_load()
        return found


class TableUnderTest(GuildTable):
    def __init__(self, database: MemoryDatabase, clock: MemoryClock, **changes: int) -> None:
        self.counting = CountingStore(database)
        super().__init__(TableSettings(**changes), self.counting, clock)

    async def touch(self, *guild_ids: int) -> None:
        async with self.use(guild_ids):
            pass

    @property
    def awake(self) -> list[int]:
        return [guild.state.guild_id for guild in self.live()]

    def watch(self, guild_id: int) -> None:
        guild = self.get(guild_id)
        assert guild is not None
        guild.admit(Watcher("relay", 1), 10, None)


class Gate:
    """Holds loads until it is opened."""

    def __init__(self, table: TableUnderTest) -> None:
        self.reached, self._open = asyncio.Event(), asyncio.Event()
        table.counting.during_load = self._pass

    async def _pass(self) -> None:
        self.reached.set()
        await self._open.wait()

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def table(database: MemoryDatabase, clock: MemoryClock) -> TableUnderTest:
    return TableUnderTest(database, clock)


# -- loading ------------------------------------------------------------------------------------------


async def test_a_hundred_first_uses_are_two_loads(table: TableUnderTest) -> None:
    """The first caller's, and one for all who came while it was under way; nobody is loaded twice."""
    gate = Gate(table)
    first = asyncio.create_task(table.touch(1))
    await asyncio.wait_for(gate.reached.wait(), 5)
    rest = [asyncio.create_task(table.touch(guild_id, guild_id % 7 + 1)) for guild_id in range(2, 101)]
    await settled()
    gate.open()
    await asyncio.gather(first, *rest)
    assert [len(load) for load in table.counting.loads] == [1, 99]
    assert sorted(table.awake) == list(range(1, 101))
    assert table.activations == 100
    await table.touch(*range(1, 101))
    assert len(table.counting.loads) == 2


async def test_a_large_load_goes_in_chunks(database: MemoryDatabase, clock: MemoryClock) -> None:
    """No query names more guilds than it may."""
    table = TableUnderTest(database, clock, load_at_once=4)
    await table.touch(*range(1, 11))
    assert [len(load) for load in table.counting.loads] == [4, 4, 2]
    assert len(table) == 10


async def test_a_load_that_fails_reaches_all_who_wait_and_the_next_try_works(
    table: TableUnderTest, database: MemoryDatabase
) -> None:
    """Whoever waits, for this load or for the one after, hears of it; nothing is left in use."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await over.wait()
        raise StoreUnavailable

    table.counting.during_load = fail
    waiting = [asyncio.create_task(table.touch(1))]
    await asyncio.wait_for(begun.wait(), 5)
    waiting += [asyncio.create_task(table.touch(guild_id)) for guild_id in (1, 2, 3)]
    await settled()
    over.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    assert table.awake == []
    assert not table._in_use
    table.counting.during_load = None
    await table.touch(4)
    assert table.awake == [4]  # what nobody waits for any more is not loaded
    database.available = False
    with pytest.raises(StoreUnavailable):
        await table.touch(1)
    database.available = True
    await table.touch(1)
    assert table.awake == [4, 1]


async def test_who_gives_up_takes_the_load_from_nobody(table: TableUnderTest) -> None:
    """Not even the caller that began it."""
    gate = Gate(table)
    first = asyncio.create_task(table.touch(1))
    await asyncio.wait_for(gate.reached.wait(), 5)
    other = asyncio.create_task(table.touch(1))
    await settled()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gate.open()
    await asyncio.wait_for(other, 5)
    assert table.counting.loads == [[1]]
    assert not table._in_use


async def test_rows_older_than_a_drop_are_not_used(table: TableUnderTest, database: MemoryDatabase) -> None:
    """What was asked before the drop is asked again: meanwhile somebody else may have written."""
    gate = Gate(table)
    using = asyncio.create_task(table.touch(1))
    await asyncio.wait_for(gate.reached.wait(), 5)
    assert table.ids() == {1}
    database.hours[1, NOON_MS] = HourCounts(NOON_MS, messages=5)
    table.drop([1])
    gate.open()
    await using
    assert table.counting.loads == [[1], [1]]
    guild = table.get(1)
    assert guild is not None
    assert guild.state.hours == (HourCounts(NOON_MS, messages=5),)
    assert table.ids() == {1}


# -- sleeping -----------------------------------------------------------------------------------------


async def test_the_least_recently_used_sleep_first(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Never more are alive than may be, when nothing holds them."""
    table = TableUnderTest(database, clock, max_live=3)
    for guild_id in (1, 2, 3):
        await table.touch(guild_id)
    await table.touch(1)
    await table.touch(4)
    assert table.awake == [3, 1, 4]
    await table.touch(5, 3)
    assert table.awake == [4, 5, 3]
    assert table.deactivations == 2


async def test_who_is_watched_or_in_use_stays(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Over the bound if need be; when they are let go, the table shrinks to it again."""
    table = TableUnderTest(database, clock, max_live=2)
    await table.touch(1, 2)
    table.watch(1)
    async with table.use([3, 4]) as guilds:
        await table.touch(5)
        assert set(table.awake) == {1, 3, 4}
        assert {guild_id: table.get(guild_id) for guild_id in (3, 4)} == guilds
        async with table.use([3]):
            await table.touch(6)
        assert set(table.awake) == {1, 3, 4}
    assert set(table.awake) == {1, 3}


async def test_a_use_that_fails_lets_go(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Held while it lasts, whatever ends it."""
    table = TableUnderTest(database, clock, max_live=1)

    async def fail() -> None:
        async with table.use([1]):
            await table.touch(2)
            assert table.awake == [1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await table.touch(2)
    assert table.awake == [2]


async def test_the_idle_are_put_to_sleep(database: MemoryDatabase, clock: MemoryClock) -> None:
    """After their time, and not a moment before; the watched and the used stay awake."""
    table = TableUnderTest(database, clock, idle_after_ms=1_000)
    await table.touch(1, 2, 3)
    table.watch(1)
    clock.advance(1)
    await table.touch(4)
    clock.advance(998)
    assert table.passivate_idle() == 0
    clock.advance(1)
    async with table.use([3]):
        assert table.passivate_idle() == 1
        assert set(table.awake) == {1, 3, 4}
        clock.advance(1_001)
        assert table.passivate_idle() == 1
        assert set(table.awake) == {1, 3}
    assert table.deactivations == 2


async def test_who_was_watched_a_moment_ago_stays(database: MemoryDatabase, clock: MemoryClock) -> None:
    """What is kept for a watcher that comes back is kept for its whole time, idle or too many."""
    table = TableUnderTest(database, clock, idle_after_ms=1_000, max_live=1)
    await table.touch(1)
    table.watch(1)
    clock.advance(5_000)
    guild = table.get(1)
    assert guild is not None
    assert guild.dismiss(Watcher("relay", 1))
    guild.keep_until(clock.now_ms + 2_000)
    await table.touch(2)
    assert table.passivate_idle() == 0
    assert table.awake == [1]
    clock.advance(2_000)
    await table.touch(2)
    assert table.awake == [2]


async def test_many_in_use_do_not_slow_each_other_down(table: TableUnderTest) -> None:
    """A use that ends looks at its own guilds alone: all those of twenty thousand took 17 s."""
    guild_ids = range(1, 20_001)
    async with table.use(guild_ids), asyncio.timeout(8):
        for guild_id in guild_ids:
            async with table.use([guild_id]):
                pass
    assert not table._in_use


async def test_watched_ones_are_not_looked_at_again_and_again(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Over the bound with many that must stay: each use looks at some of them, and finds who may sleep."""
    table = TableUnderTest(database, clock, max_live=100)
    watched = range(1, 1_001)
    for guild_id in watched:
        async with table.use([guild_id]):
            table.watch(guild_id)
    for guild_id in range(1_001, 1_031):
        await table.touch(guild_id)
    assert len(table) <= 1_000 + 1_000 // AWAKE_AT_ONCE + 1
    assert set(watched) <= set(table.awake)


async def test_a_round_lets_so_many_sleep_and_the_next_the_rest(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Nobody waits while a hundred thousand are put to sleep."""
    table = TableUnderTest(database, clock, idle_after_ms=1_000, sleep_at_once=2)
    await table.touch(1, 2, 3, 4, 5)
    table.watch(1)
    table.watch(2)
    clock.advance(1_000)
    assert [table.passivate_idle() for _ in range(3)] == [0, 2, 1]
    assert set(table.awake) == {1, 2}


async def test_dropping_tells_who_watched(table: TableUnderTest) -> None:
    """Whatever they do; those that sleep are no error."""
    await table.touch(1, 2)
    table.watch(1)
    assert table.drop([1, 2, 99]) == {"relay"}
    assert table.awake == []
    assert table.deactivations == 2


async def test_an_epoch_is_of_one_activation(database: MemoryDatabase, clock: MemoryClock) -> None:
    """Each time a guild wakes it has an epoch that none had before, also where everything begins anew."""
    epochs = []
    for _ in range(3):
        table = TableUnderTest(database, clock)
        for _ in range(3):
            async with table.use([1, 2]) as guilds:
                epochs += [guild.epoch for guild in guilds.values()]
            table.drop([1, 2])
    assert len(set(epochs)) == len(epochs)
    assert all(0 < epoch < 2**53 for epoch in epochs)  # a browser reads it exactly


# -- a guild that wakes is itself ---------------------------------------------------------------------

GUILDS = st.integers(1, 6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tell"), st.lists(st.tuples(GUILDS, st.integers(1, 9)), min_size=1, max_size=4)),
        st.tuples(st.just("use"), st.lists(GUILDS, min_size=1, max_size=4)),
        st.tuples(st.just("rest"), st.integers(0, 150)),
        st.tuples(st.just("drop"), st.lists(GUILDS, max_size=2)),
        st.tuples(st.just("watch"), GUILDS),
        st.tuples(st.just("leave"), GUILDS),
    ),
    max_size=30,
)


async def _tell(table: TableUnderTest, life: Incarnation, counts: Iterable[tuple[int, int]]) -> None:
    """Decide, make durable, adopt: as a commit does."""
    async with table.use(guild_id for guild_id, _ in counts) as guilds:
        for guild_id, count in counts:
            state, effects = guilds[guild_id].decide([MessagesCounted(guild_id, NOON_MS, count)])
            await table.counting.commit(life, Commit(effects, (), ()))
            guilds[guild_id].adopt(state)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_a_guild_that_wakes_is_itself(steps: list[tuple[str, object]]) -> None:
    """Whatever sleeps and wakes in between: its counts are what it was told, and the bound holds."""
    clock = MemoryClock()
    database = MemoryDatabase(clock)
    table = TableUnderTest(database, clock, max_live=3, idle_after_ms=100, load_at_once=2)
    life = await table.counting.register_host("h0")
    told = dict.fromkeys(range(1, 7), 0)
    watched: set[int] = set()
    left = 0
    for what, argument in steps:
        match what, argument:
            case "tell", list(counts):
                await _tell(table, life, counts)
                for guild_id, count in counts:
                    told[guild_id] += count
            case "use", list(guild_ids):
                await table.touch(*guild_ids)
            case "rest", int(for_ms):
                clock.advance(for_ms)
                table.passivate_idle()
            case "drop", list(guild_ids):
                table.drop(guild_ids)
                watched -= set(guild_ids)
            case "watch", int(guild_id):
                async with table.use([guild_id]):
                    table.watch(guild_id)
                watched.add(guild_id)
            case "leave", int(guild_id) if guild := table.get(guild_id):
                guild.dismiss_relay("relay")
                watched.discard(guild_id)
        assert watched <= set(table.awake)
        # Those who were left go with the next use.
        left = left + 1 if what == "leave" else left if what in {"rest", "drop"} else 0
        assert len(table) <= max(3, len(watched) + left)
        for guild in table.live():
            assert sum(hour.messages for hour in guild.state.hours) == told[guild.state.guild_id]
        assert table.activations - table.deactivations == len(table)
    async with table.use(told) as guilds:
        assert {g: sum(h.messages for h in guild.state.hours) for g, guild in guilds.items()} == told
