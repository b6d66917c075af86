"""A replica hears of every change of what it remembers, or believes it no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from actors.announcer import WITHIN_S
from actors.director import DirectorSettings
from actors.observers import Change
from adapters.memory.samples import NOON_MS, violation
from domain.events import MessagesCounted
from serve_app import guild_watch, host_links
from serve_app.cache import Caches
from serve_app.guild_watch import LEASE_S, GuildWatch
from tests.serve_app.replicas import House, Replica, house_of
from tests.serve_app.scripted_host import until

GUILD = 1


@pytest.fixture(autouse=True, scope="module")
def at_once() -> Iterator[None]:
    """Let a broken stream be tried again without a pause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_links, "FIRST_RETRY_S", 0)
        patch.setattr(host_links, "LONGEST_RETRY_S", 0)
        yield


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with house_of(2) as house:
        yield house


class Row:
    """What the database has of a guild."""

    def __init__(self) -> None:
        self.version = 0
        self.loads = 0

    async def load(self) -> int:
        self.loads += 1
        return self.version


async def read(replica: Replica, row: Row, guild_id: int = GUILD) -> int:
    return await replica.caches.get("config", guild_id, "config", row.load)


async def test_a_change_made_elsewhere_is_forgotten_everywhere(house: House) -> None:
    """By the replica that made it at once, by the others as soon as they hear."""
    here, there = house.replicas
    row = Row()
    for replica in (here, there):
        assert [await read(replica, row), await read(replica, row)] == [0, 0]
    assert row.loads == 2
    row.version = 1
    await here.announcer.announce(GUILD, "config_update", {"version": 1})
    assert await read(here, row) == 1
    await house.settled()
    assert await read(there, row) == 1


async def test_what_happens_in_a_guild_is_forgotten(house: House) -> None:
    """What a shard reports reaches those who remember; other guilds stay remembered."""
    replica, row = house.replicas[0], Row()
    for guild_id in (GUILD, 2, 3):
        await replica.caches.get("metrics", guild_id, "day", row.load)
    await house.happen(violation(GUILD))
    await house.happen(MessagesCounted(2, NOON_MS, 5))
    await house.settled()
    assert replica.caches.counts()["metrics"].entries == 2
    house.tick()
    await house.settled()
    assert replica.caches.counts()["metrics"].entries == 1
    assert replica.caches.guilds() == {3}


async def test_a_guild_that_sleeps_is_still_heard_of(house: House) -> None:
    """To be remembered somewhere keeps no guild awake."""
    replica, row = house.replicas[0], Row()
    await house.happen(violation(GUILD))
    await read(replica, row)
    house.tick()
    assert len(house.owner(GUILD).host._table) == 0
    row.version = 1
    await house.replicas[1].announcer.announce(GUILD, "config_update", {})
    await house.settled()
    assert await read(replica, row) == 1


async def test_a_guild_that_moves_is_forgotten_and_observed_where_it_is(house: House) -> None:
    """Nothing that its new host changes is missed."""
    replica, row = house.replicas[0], Row()
    await house.move_all("h0")
    await read(replica, row)
    await house.move_all("h1")
    await house.settled()
    assert replica.caches.guilds() == set()
    assert [await read(replica, row), await read(replica, row)] == [0, 0]
    assert row.loads == 2
    row.version = 1
    await house.replicas[1].announcer.announce(GUILD, "config_update", {})
    await house.settled()
    assert await read(replica, row) == 1


async def test_with_a_host_goes_all_that_it_would_have_told_of(house: House) -> None:
    """Only of its own guilds; and its next life is observed like the last."""
    replica, rows = house.replicas[0], {guild_id: Row() for guild_id in range(1, 9)}
    for guild_id, row in rows.items():
        await read(replica, row, guild_id)
    own = {guild_id for guild_id in rows if house.owner(guild_id) is house.hosts["h0"]}
    assert 0 < len(own) < len(rows)
    await house.kill("h0")
    await house.settled()
    assert replica.caches.guilds() == rows.keys() - own
    for guild_id, row in rows.items():
        await read(replica, row, guild_id)
        await read(replica, row, guild_id)
    assert {guild_id for guild_id, row in rows.items() if row.loads == 2} == own


async def test_a_silent_host_is_believed_for_its_lease_and_no_longer(house: House) -> None:
    """Frozen, it tells of nothing: what it was to tell of is forgotten before it can be replaced."""
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    host = house.owner(GUILD)
    host.thawed.clear()
    house.clock.advance(int(LEASE_S * 1000))
    assert (await read(replica, row), row.loads) == (0, 1)
    house.clock.advance(1)
    row.version = 1
    assert (await read(replica, row), row.loads) == (1, 2)
    assert (await read(replica, row), row.loads) == (1, 3)  # nobody waits for it, nothing is remembered
    host.thawed.set()
    house.tick()
    await house.settled()
    await read(replica, row)
    assert (await read(replica, row), row.loads) == (1, 4)


async def test_a_host_that_was_silent_for_too_long_may_have_been_replaced(house: House) -> None:
    """What was remembered before it fell silent is not believed again when it speaks again."""
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    host = house.owner(GUILD)
    host.thawed.clear()
    house.clock.advance(int(LEASE_S * 1000) + 1)
    row.version = 1
    host.thawed.set()
    host.host._observers.tick()
    await house.settled()
    assert await read(replica, row) == 1


async def test_signs_of_life_keep_what_is_remembered(house: House) -> None:
    """For as long as nothing changes, over any time."""
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    for _ in range(10):
        house.tick()
        await house.settled()
    assert (await read(replica, row), row.loads) == (0, 1)


async def test_a_host_whose_news_do_not_arrive_is_not_believed(house: House) -> None:
    """The Director hears it and says how much it has told: less than that is here."""
    here, there = house.replicas
    row = Row()
    await read(here, row)
    host = house.owner(GUILD)
    host.carries.clear()
    house.tick()
    await house.settled()
    assert (await read(here, row), row.loads) == (0, 1)  # nothing was told meanwhile
    row.version = 1
    await there.announcer.announce(GUILD, "config_update", {})
    for _ in range(4):
        house.tick()
        await house.settled()
    assert await read(here, row) == 1
    host.carries.set()


async def test_hosts_that_the_director_does_not_speak_of_are_asked_themselves(house: House) -> None:
    """While it is away, and while it is busy with something else."""
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    for away in (True, False):
        house.director_away = away
        house.owner(GUILD).host._observers.tick()
        for _ in range(5):
            house.clock.advance(1_000)
            await replica.watch.ask_for_signs()
        assert (await read(replica, row), row.loads) == (0, 1)
    house.owner(GUILD).thawed.clear()
    house.clock.advance(int(LEASE_S * 1000) + 1)
    row.version = 1
    assert await read(replica, row) == 1


async def test_a_life_that_does_not_know_the_stream_ends_it(house: House) -> None:
    """The Director has replaced a host whose old life still answers: it is not asked any more."""
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    house.clock.advance(1_000)
    [host_id] = [name for name, host in house.hosts.items() if host is house.owner(GUILD)]
    house._signs.note(host_id, house.clock() / 1000, {})
    row.version = 1
    await replica.watch.ask_for_signs()
    assert await read(replica, row) == 1


async def test_who_remembers_nothing_asks_and_hears_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standing streams cost nothing, and the Director is not asked; a question wakes all of it up."""
    replica, row = house.replicas[0], Row()

    async def refuse(_: object) -> None:
        pytest.fail("the Director was asked")

    monkeypatch.setattr(house, "signs", refuse)
    for _ in range(5):
        house.tick()
        await house.settled()
    assert all(set(host.host._observers.told().values()) == {0} for host in house.hosts.values())
    monkeypatch.undo()
    await read(replica, row)
    assert (await read(replica, row), row.loads) == (0, 1)


async def test_without_the_director_everything_is_answered(house: House) -> None:
    """Nothing is remembered until it is heard of; then it is."""
    house.director_away = True
    replica, row = Replica(house), Row()
    assert [await read(replica, row), await read(replica, row)] == [0, 0]
    assert row.loads == 2
    house.director_away = False
    await replica.directory.start()
    await until(lambda: len(replica.watch._links))
    await house.settled()
    await read(replica, row)
    await read(replica, row)
    assert row.loads == 3
    await replica.close()


async def test_nobody_waits_long_for_a_host(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer delays an answer by half a second at most; its late answer still counts."""
    monkeypatch.setattr(guild_watch, "OBSERVE_WITHIN_S", 0.001)
    replica, row = house.replicas[0], Row()
    host = house.owner(GUILD)
    host.thawed.clear()
    async with asyncio.timeout(5):
        assert [await read(replica, row), await read(replica, row)] == [0, 0]
    assert row.loads == 2
    host.thawed.set()
    await house.settled()
    assert replica.watch.observes(GUILD)


async def test_what_is_not_remembered_is_not_observed(house: House) -> None:
    """After a while the host is told that nobody needs to know any more."""
    replica, row = house.replicas[0], Row()
    await read(replica, row, 1)
    await read(replica, row, 2)
    replica.caches.forget(1)
    await replica.watch.tidy()
    await house.settled()
    observed = {guild for host in house.hosts.values() for guild in host.host._observers._by_guild}
    assert observed == replica.watch._observations.keys() == {2}
    await read(replica, row, 1)
    await read(replica, row, 1)
    assert row.loads == 3


async def test_the_end_of_another_stream_ends_nothing_here(house: House) -> None:
    """A guild that moved is given up by its old host perhaps after its new one was asked."""
    await house.move_all("h0")
    replica, row = house.replicas[0], Row()
    await read(replica, row)
    replica.watch.deliver("some other stream", [Change(GUILD, "unobserved")])
    replica.watch.stream_ended("some other stream")
    assert (await read(replica, row), row.loads) == (0, 1)


async def test_a_guild_given_up_while_it_is_asked_for_is_not_observed(house: House) -> None:
    """The news may overtake the answer."""
    replica, row = house.replicas[0], Row()
    host = house.owner(GUILD)
    held = asyncio.Event()
    observe = host.observe

    async def slowly(*arguments: object) -> None:
        await observe(*arguments)  # type: ignore[arg-type]
        await held.wait()

    host.observe = slowly  # type: ignore[method-assign]
    reading = asyncio.create_task(read(replica, row))
    await until(lambda: GUILD in host.host._observers)
    host.host._observers.lose([GUILD])
    await house.settled()
    held.set()
    await reading
    assert not replica.watch.observes(GUILD)
    assert replica.caches.counts()["config"].entries == 0


async def test_a_replica_that_stops_leaves_nothing(house: House) -> None:
    """Its streams end, and with them what it observed."""
    replica, row = house.replicas[0], Row()
    for guild_id in range(1, 5):
        await read(replica, row, guild_id)
    await replica.close()
    await house.settled()
    assert all(len(host.host._observers) == 0 for host in house.hosts.values())
    assert not replica.watch._tasks


def test_the_lease_is_shorter_than_a_host_can_be_replaced() -> None:
    """The Director leaves two pings unanswered before it acts: half of the ticks between them count."""
    director = DirectorSettings()
    assert director.strikes * director.ping_within_s > LEASE_S
    assert WITHIN_S > LEASE_S


def test_a_watch_is_what_caches_need(house: House) -> None:
    """The protocol is kept."""
    watch: GuildWatch = house.replicas[0].watch
    assert Caches(house.clock, watch).watch is watch
