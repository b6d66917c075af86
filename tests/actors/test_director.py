"""The Director: who gets which guilds, and that no guild ever has two owners that can write."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.backoff import Backoff, Lives
from actors.director import AT_ONCE, Director, DirectorSettings, HostAccess
from actors.host import HostPing
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS
from domain.errors import Fenced, GuildhallError, HostUnreachable, NoSuchHost, StoreUnavailable
from domain.events import Accepted, Batch, Busy, MessagesCounted, decode_batch, encode_event
from domain.ids import SLOTS, slot_of
from domain.placement import NOBODY, Placement, place
from domain.ports import BatchMark, Commit, Incarnation, PoisonEvent
from tests.actors.hosts import RecordingHost, settled, until

GUILDS = (1, 2, 3, 4, 5, 6, 7, 8)


class PlacedHost(RecordingHost):
    """A host that can die, hang and be fenced, and tells its network whenever it begins to own."""

    def __init__(self, network: Network, host_id: str, actor_name: str) -> None:
        super().__init__()
        self.network, self.host_id, self.actor_name = network, host_id, actor_name
        self.incarnation = self.director = 0
        self.owns: set[int] = set()
        self.version = 0
        self.dead = self.hangs = self.says_fenced = False
        self.ailing: tuple[str, ...] = ()
        self.told: dict[str, int] = {}

    async def _reach(self) -> None:
        if self.dead:
            raise HostUnreachable
        if self.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    @property
    def can_write(self) -> bool:
        """Whether the database would take a commit of this life."""
        return not self.dead and self.network.database.hosts.get(self.host_id) == self.incarnation != 0

    async def start(self, director: int | None = None) -> Incarnation:
        self.life.append("start")
        await self._reach()
        store = MemoryGuildStore(self.network.database)
        begun = await store.register_host(self.host_id, self.actor_name, director)
        self.incarnation = begun.number
        return begun

    async def stop(self, reason: str) -> None:
        await self._reach()
        await super().stop(reason)

    async def ping(self) -> HostPing:
        await self._reach()
        return HostPing(
            self.incarnation,
            self.version,
            self.says_fenced,
            director=self.director,
            ailing=self.ailing,
            told=self.told,
        )

    async def assign(self, placement: Placement) -> None:
        await self._reach()
        await super().assign(placement)
        if placement.director < self.director:
            raise Fenced
        if placement.director > self.director:
            self.director, self.version = placement.director, 0
        if placement.version < self.version:
            return
        self.version = placement.version
        given = {guild_id for guild_id in GUILDS if placement.owner_of(guild_id) == self.host_id}
        # What is new is taken at once, what goes is held until the commit in flight is over: the worst case.
        self.owns |= given
        self.network.check()
        for _ in range(3):
            await asyncio.sleep(0)
        if placement.version == self.version:
            self.owns = given
        self.network.check()

    async def stats(self) -> Any:
        await self._reach()
        return self.host_id

    async def kill(self) -> None:
        self.dead = True
        await super().kill()


class Network:
    """Every host that ever lived, on one database."""

    def __init__(self, database: MemoryDatabase, clock: MemoryClock, **changes: Any) -> None:
        self.database, self.clock = database, clock
        self.settings = DirectorSettings(
            **({"hosts": 3, "tick_s": 3_600.0, "backoff": Backoff(first_s=0.0)} | changes)
        )
        self.all: list[PlacedHost] = []
        self.stores = 0
        self.director = self.new_director()

    def new_director(self) -> Director:
        access = HostAccess(self._create, self._find)
        self.director = Director(self.settings, access, self._open, self.clock)
        return self.director

    def hurry(self, patience_s: float = 0.1) -> None:
        """Wait only so long from here on, for a host that hangs."""
        self.settings = msgspec.structs.replace(
            self.settings, ping_within_s=patience_s, start_within_s=patience_s, assign_within_s=patience_s
        )
        self.director._settings = self.settings

    async def restart(self) -> None:
        """Let the Director be another one, that knows nothing."""
        await self.rest()
        self.new_director()

    async def rest(self) -> None:
        if (ticking := self.director._ticking) is not None:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    def _create(self, host_id: str, actor_name: str) -> PlacedHost:
        self.all.append(PlacedHost(self, host_id, actor_name))
        return self.all[-1]

    async def _find(self, actor_name: str) -> PlacedHost | None:
        living = (host for host in self.all if host.actor_name == actor_name and not host.dead)
        return next(living, None)

    async def _open(self) -> MemoryGuildStore:
        self.database.require()
        self.stores += 1
        return MemoryGuildStore(self.database)

    def check(self) -> None:
        """Fail when a guild has two owners that could both write."""
        owners = Counter(guild_id for host in self.all if host.can_write for guild_id in host.owns)
        assert all(count == 1 for count in owners.values()), owners

    def host(self, host_id: str) -> PlacedHost:
        """Return the newest life of a host."""
        return [host for host in self.all if host.host_id == host_id][-1]

    async def placement(self) -> Placement:
        return (await self.director.routing()).placement

    async def check_whole(self) -> None:
        """Fail unless every guild has the owner that the routing names, and that one knows."""
        routing = await self.director.routing()
        for guild_id in GUILDS:
            owner = routing.hosts[routing.placement.owner_of(guild_id)]
            assert isinstance(owner, PlacedHost)
            assert owner.can_write
            assert guild_id in owner.owns
        assert set(routing.placement.owners) <= set(routing.hosts)
        assert all(isinstance(host, PlacedHost) and host.can_write for host in routing.hosts.values())
        assert self.database.placements[routing.placement.version] == routing.placement
        assert {host.host_id for host in self.all if host.can_write} == set(routing.hosts)


@pytest.fixture
async def network(database: MemoryDatabase, clock: MemoryClock) -> AsyncIterator[Network]:
    network = Network(database, clock)
    yield network
    await network.rest()


async def test_a_host_whose_tasks_cannot_go_on_is_replaced(network: Network) -> None:
    """It answers pings, and does its work no more."""
    await network.director.start()
    before = network.host("h1")
    before.ailing = ("commit",)
    await network.director.tick()
    assert network.host("h1") is not before
    await network.check_whole()


# -- one Director after the other ---------------------------------------------------------------------


async def test_two_directors_do_not_take_turns(network: Network, database: MemoryDatabase) -> None:
    """One that was taken for dead and goes on changes nothing: no placement, no host, and it says so."""
    old = network.director
    await old.start()
    await network.rest()
    new = network.new_director()
    await new.start()
    after = await network.placement()
    lives = dict(database.hosts)
    with pytest.raises(Fenced):
        await old.add_host()
    for call in (old.routing, old.start, old.ping, old.tick, old.add_host):
        with pytest.raises(HostUnreachable, match="Another Director"):
            await call()
    assert await network.placement() == after == database.placements[max(database.placements)]
    assert {host: lives[host] for host in ("h0", "h1", "h2")} == database.hosts
    await network.check_whole()
    assert await new.add_host() == "h3"
    await network.check_whole()


@pytest.mark.parametrize("deed", ["drain", "replace", "dedicate"])
async def test_an_older_director_cannot_change_a_host(network: Network, deed: str) -> None:
    """It can give none a new life, and end none for good."""
    old = network.director
    await old.start()
    await network.rest()
    new = network.new_director()
    await new.start()
    if deed == "replace":
        network.host("h1").dead = True
        await old.tick()
        await new.tick()
    else:
        with pytest.raises(Fenced):
            await (old.drain_host("h1") if deed == "drain" else old.dedicate(1, "own"))
    with pytest.raises(HostUnreachable):
        await old.routing()
    await network.check_whole()


async def test_a_director_hears_from_hosts_that_it_is_over(network: Network) -> None:
    """Also when it has nothing to write: who asks it would be shown hosts as they no longer are."""
    old = network.director
    await old.start()
    await network.rest()
    await network.new_director().start()
    await old.tick()
    with pytest.raises(HostUnreachable, match="Another Director"):
        await old.routing()
    await network.check_whole()


async def test_what_an_older_director_told_unwritten_is_forgotten(network: Network) -> None:
    """Hosts that follow it by a higher version follow the newer one all the same."""
    old = network.director
    await old.start()
    await network.rest()
    told = Placement(90, (NOBODY,) * SLOTS, director=old._incarnation)
    await asyncio.gather(*(host.assign(told) for host in network.all[:2]))
    new = network.new_director()
    await new.start()
    await network.check_whole()


# -- beginning ----------------------------------------------------------------------------------------


async def test_every_slot_has_one_host_and_every_host_knows_its_own(
    network: Network, database: MemoryDatabase
) -> None:
    """First all let go, then it is written, then they are told; what they are told is what was written."""
    await network.director.start()
    placement = await network.placement()
    assert placement.owners == place(placement.version, ["h0", "h1", "h2"]).owners
    assert placement == database.placements[2]
    assert [host.host_id for host in network.all] == ["h0", "h1", "h2"]
    for host in network.all:
        assert host.life == ["start", "assign", "assign"]
        nobody, given = host.assigned
        assert set(nobody.owners) == {NOBODY}
        assert given == placement
    assert (await network.director.routing()).hosts == {host.host_id: host for host in network.all}
    await network.check_whole()
    await network.director.stop("done")
    assert all(host.life[-1] == "stop: done" for host in network.all)


async def test_a_placement_is_newer_than_any_before(network: Network, database: MemoryDatabase) -> None:
    """Its version goes on from what the store has seen, over restarts."""
    database.placements[41] = place(41, ["old"])
    await network.director.start()
    assert (await network.placement()).version > 41


async def test_without_a_database_nothing_begins(network: Network, database: MemoryDatabase) -> None:
    """No host is started on a placement that cannot be written; asked again later, it begins."""
    database.available = False
    for ask in (network.director.start, network.director.routing):
        with pytest.raises(StoreUnavailable):
            await ask()
    assert network.all == []
    database.available = True
    await network.director.routing()
    await network.check_whole()


async def test_a_beginning_that_breaks_off_is_made_again(network: Network, database: MemoryDatabase) -> None:
    """Hosts that were started are kept, and the store is opened once."""
    with pytest.MonkeyPatch.context() as patch:

        async def fail(*_: object) -> None:
            raise StoreUnavailable

        patch.setattr(MemoryGuildStore, "write_placement", fail)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await network.director.start()
    await network.director.tick()
    await network.check_whole()
    assert len(network.all) == 3
    assert network.stores == 1
    assert database.incarnations == 4  # three hosts' and the Director's


async def test_a_new_director_finds_the_hosts_that_live(network: Network) -> None:
    """It knows them by their actors' names, replaces the dead, and leaves the others their lives."""
    await network.director.start()
    before = await network.placement()
    network.host("h1").dead = True
    await network.restart()
    after = await network.placement()
    assert after.version > before.version
    assert after.owners == before.owners
    assert [host.host_id for host in network.all] == ["h0", "h1", "h2", "h1"]
    assert network.all[3].incarnation > network.all[1].incarnation
    await network.check_whole()


async def test_a_new_director_replaces_who_hangs_or_was_never_begun(network: Network) -> None:
    """The lives that go on beside theirs are ended."""
    await network.director.start()
    network.hurry()
    hung, other = network.host("h0"), network.host("h2")
    hung.hangs, other.says_fenced = True, True
    await network.restart()
    await network.director.start()
    assert hung.life[-1] == other.life[-1] == "kill"
    await network.check_whole()


async def test_a_new_director_keeps_what_is_dedicated(network: Network) -> None:
    """And makes up for hosts that are missing."""
    await network.director.start()
    own = await network.director.dedicate(1, None)
    await network.restart()
    placement = await network.placement()
    assert placement.dedicated == {1: own}
    assert len((await network.director.routing()).hosts) == 4


# -- replacing ----------------------------------------------------------------------------------------


async def test_a_dead_host_is_replaced_at_the_next_tick(network: Network) -> None:
    """A new life with the same guilds; everybody else keeps theirs, and a newer placement says so."""
    await network.director.start()
    before, old = await network.placement(), network.host("h1")
    old.dead = True
    await network.director.tick()
    after = await network.placement()
    assert after.version > before.version
    assert after.owners == before.owners
    new = network.host("h1")
    assert new is not old
    assert new.incarnation > old.incarnation
    assert new.actor_name != old.actor_name
    assert old.life[-1] == "kill"
    others = [host for host in network.all if host.host_id != "h1"]
    assert len(others) == 2
    told = [placement for host in others for placement in host.assigned[2:]]
    assert all(placement.owners == before.owners for placement in told)
    await network.check_whole()
    seen = len(network.all)
    await network.director.tick()
    assert len(network.all) == seen


async def test_a_host_that_hangs_has_as_many_strikes_as_are_set(network: Network) -> None:
    """In a row: an answer in between forgives those before."""
    await network.director.start()
    network.hurry()
    host = network.host("h1")
    for hangs in (True, False, True):
        host.hangs = hangs
        await network.director.tick()
    assert network.host("h1") is host
    await network.director.tick()
    assert network.host("h1") is not host
    assert host.life[-1] == "kill"
    await network.check_whole()


async def test_a_fenced_host_is_replaced(network: Network) -> None:
    """It says so itself."""
    await network.director.start()
    host = network.host("h2")
    host.says_fenced = True
    await network.director.tick()
    assert network.host("h2") is not host
    await network.check_whole()


async def test_a_host_that_dies_whenever_it_begins_takes_no_process_a_tick(network: Network) -> None:
    """The first life is replaced at once, those that end soon after a pause; meanwhile it is named."""
    backoff = Backoff(first_s=3_600.0, max_s=3_600.0)
    network.settings = msgspec.structs.replace(network.settings, backoff=backoff)
    await network.restart()
    director = network.director
    await director.start()
    director._lives = Lives(backoff, asyncio.get_running_loop().time)  # as after a long time
    for _ in range(5):
        network.host("h0").dead = True
        await director.tick()
    assert len([host for host in network.all if host.host_id == "h0"]) == 2
    assert await director.silent_hosts() == ["h0"]
    assert (await network.director.routing()).placement.version
    director._lives.forget("h0")
    await director.tick()
    assert await director.silent_hosts() == []
    assert network.host("h0").can_write


def test_pauses_between_lives_double_until_one_lasts() -> None:
    """Counted from one beginning to the next, so that a life that lasted is replaced at once."""
    now_s = 0.0
    lives = Lives(Backoff(first_s=1.0, max_s=5.0, stable_after_s=60.0), lambda: now_s)
    waits = []
    for began in (True, True, False, False, True):
        lives.tried("h0", began=began)
        waits.append(lives.wait_s("h0"))
        now_s += waits[-1]
    assert waits == [1, 2, 4, 5, 5]
    now_s += 60
    lives.tried("h0", began=True)
    assert lives.wait_s("h0") == 1
    assert lives.wait_s("h1") == 0


async def test_several_that_died_together_are_replaced_once_each(network: Network) -> None:
    """One tick, one new life for each."""
    await network.director.start()
    for host in list(network.all):
        host.dead = True
    await network.director.tick()
    assert len(network.all) == 6
    await network.check_whole()


async def test_signs_are_of_hosts_that_answer_in_their_valid_life(network: Network) -> None:
    """How much each had told a stream, or that it knows none; of others nothing is said."""
    director = network.director
    await director.start()
    streams = {"h0": "s0", "h1": "s1", "h2": "s2", "h9": "s9"}
    assert await director.signs(streams) == {}
    network.host("h0").told = {"s0": 7}
    network.host("h2").says_fenced = True
    await director.tick()
    signs = await director.signs(streams)
    assert {host_id: sign.told for host_id, sign in signs.items()} == {"h0": 7, "h1": None}
    assert all(0 <= sign.age_s < 5 for sign in signs.values())
    network.host("h0").dead = True
    await director.tick()
    assert set(await director.signs(streams)) == {"h1", "h2"}


async def test_many_frozen_hosts_cost_a_new_director_the_time_of_one(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks all it finds beside each other, up to a bound, and replaces them likewise."""
    network = Network(database, clock, hosts=100)
    await network.director.start()
    await network.restart()
    network.hurry()
    asked = most_asked = 0

    async def hang(_: PlacedHost) -> HostPing:
        nonlocal asked, most_asked
        asked += 1
        most_asked = max(asked, most_asked)
        try:
            await asyncio.Event().wait()
        finally:
            asked -= 1
        raise AssertionError

    monkeypatch.setattr(PlacedHost, "ping", hang)
    await network.director.start()
    assert most_asked == AT_ONCE
    assert len(network.all) == 200
    await network.check_whole()
    await network.rest()


async def test_without_a_store_a_replacement_waits(network: Network, database: MemoryDatabase) -> None:
    """A new life needs an incarnation; the next tick tries again."""
    await network.director.start()
    network.host("h1").dead = True
    database.available = False
    await network.director.tick()
    assert not network.host("h1").can_write
    database.available = True
    await network.director.tick()
    await network.check_whole()


async def test_a_replacement_that_could_not_be_told_is_told_later(
    network: Network, database: MemoryDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store went away between its new life and its placement: it does not stay without guilds."""
    await network.director.start()
    network.host("h1").dead = True

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(MemoryGuildStore, "write_placement", fail)
        with pytest.raises(StoreUnavailable):
            await network.director.tick()
    assert database.available
    await network.director.tick()
    await network.check_whole()


async def test_a_tick_makes_months_once_an_hour(
    network: Network, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that cannot be made now are made at the next tick."""
    made: list[int] = []
    fail = False

    async def ensure(_: MemoryGuildStore, now_ms: int) -> None:
        if fail:
            raise StoreUnavailable
        made.append(now_ms)

    monkeypatch.setattr(MemoryGuildStore, "ensure_partitions", ensure)
    await network.director.start()
    await network.director.tick()
    clock.advance(3_600_000)
    fail = True
    with pytest.raises(StoreUnavailable):
        await network.director.tick()
    fail = False
    await network.director.tick()
    await network.director.tick()
    assert made == [NOON_MS, NOON_MS + 3_600_000]


async def test_what_is_too_old_is_forgotten_a_little_at_a_time(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once an hour and until nothing is left of it; a failure ends nothing, and nobody waits."""
    asked: list[tuple[int, int]] = []
    answers: list[bool | Exception] = [
        True,
        True,
        False,
        StoreUnavailable(),
        True,
        ValueError("broken"),
        False,
    ]

    async def forget(_: MemoryGuildStore, now_ms: int, retention_days: int) -> bool:
        asked.append((now_ms, retention_days))
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(MemoryGuildStore, "forget", forget)
    network = Network(database, clock, tick_s=0, retention_days=90)
    await network.director.start()
    for hour, times in enumerate((3, 1, 2, 1)):
        task = network.director._forgetting
        assert task is not None
        await asyncio.wait_for(task, 5)
        assert asked == [(NOON_MS + hour * 3_600_000, 90)] * times
        asked.clear()
        await network.director.tick()
        assert not asked
        clock.advance(3_600_000)
        await network.rest()
        await network.director.tick()
    assert answers == []


async def test_a_director_that_stops_forgets_nothing_more(
    database: MemoryDatabase, clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way is let go of."""
    begun = asyncio.Event()

    async def forget(*_: object) -> bool:
        begun.set()
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr(MemoryGuildStore, "forget", forget)
    network = Network(database, clock)
    await network.director.start()
    await asyncio.wait_for(begun.wait(), 5)
    await network.director.stop("the test is over")
    task = network.director._forgetting
    assert task is not None
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()


async def test_ticks_come_by_themselves_and_outlive_the_database(
    database: MemoryDatabase, clock: MemoryClock
) -> None:
    """Nobody has to ask for them."""
    network = Network(database, clock, tick_s=0.001)
    await network.director.start()
    database.available = False
    clock.advance(3_600_000)
    network.host("h1").dead = True
    await until(lambda: network.host("h1").life == ["start", "kill"])
    database.available = True
    await until(lambda: bool(network.host("h1").owns) and network.director._settled)
    await network.check_whole()
    await network.rest()


async def test_a_host_that_does_not_stop_keeps_no_other_from_it(network: Network) -> None:
    """Stopping asks all of them."""
    await network.director.start()
    network.host("h0").dead = True
    await network.director.stop("done")
    assert network.host("h2").life[-1] == "stop: done"


# -- operators' orders --------------------------------------------------------------------------------


async def test_a_new_host_takes_its_share(network: Network) -> None:
    """About one slot in n, and all of those from somebody; nothing else moves."""
    await network.director.start()
    before = await network.placement()
    assert await network.director.add_host() == "h3"
    after = await network.placement()
    moved = [new for old, new in zip(before.owners, after.owners, strict=True) if old != new]
    assert set(moved) == {"h3"}
    assert 0.8 < len(moved) / (SLOTS / 4) < 1.2
    await network.check_whole()


async def test_nobody_is_told_to_own_what_another_has_not_let_go(network: Network) -> None:
    """The second phase begins when the last call of the first has returned."""
    await network.director.start()
    slow = network.host("h1")
    go = asyncio.Event()
    assign = slow.assign

    async def slow_assign(placement: Placement) -> None:
        await go.wait()
        await assign(placement)

    slow.assign = slow_assign  # type: ignore[method-assign]
    adding = asyncio.create_task(network.director.add_host())
    await until(lambda: any(host.host_id == "h3" and host.assigned for host in network.all))
    await settled()
    new = network.host("h3")
    assert [set(placement.owners) & {"h3"} for placement in new.assigned] == [set()]
    go.set()
    await asyncio.wait_for(adding, 5)
    assert "h3" in new.assigned[-1].owners


async def test_a_drained_host_ends_for_good(network: Network, database: MemoryDatabase) -> None:
    """Its guilds go to the others first; its id is free, and no life of it can write."""
    await network.director.start()
    host = network.host("h1")
    await network.director.drain_host("h1")
    assert host.owns == set()
    assert host.life[-2:] == ["stop: drained", "kill"]
    assert [row.host_id for row in await MemoryGuildStore(database).hosts()] == ["h0", "h2"]
    assert set((await network.placement()).owners) == {"h0", "h2"}
    await network.check_whole()
    assert await network.director.add_host() == "h1"
    await network.check_whole()


async def test_what_cannot_be_drained_is_said_so(network: Network) -> None:
    """A host that is not there, and the last one that takes guilds."""
    await network.director.start()
    with pytest.raises(NoSuchHost, match="no host h9"):
        await network.director.drain_host("h9")
    await network.director.drain_host("h0")
    await network.director.drain_host("h1")
    await network.director.dedicate(1, None)
    with pytest.raises(NoSuchHost, match="last"):
        await network.director.drain_host("h2")
    await network.check_whole()


async def test_a_drain_that_breaks_off_can_be_given_again(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store went away before the host was retired: it is still there to be drained."""
    await network.director.start()

    async def fail(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(MemoryGuildStore, "retire_host", fail)
        with pytest.raises(StoreUnavailable):
            await network.director.drain_host("h1")
    await network.director.drain_host("h1")
    assert network.host("h1").life[-1] == "kill"
    await network.check_whole()


async def test_a_guild_has_a_host_of_its_own_and_comes_back(network: Network) -> None:
    """That host owns nothing else; drained or undedicated, the guild is among the others again."""
    await network.director.start()
    own = await network.director.dedicate(1, None)
    assert own == "h3"
    assert network.host(own).owns == {1}
    assert own not in (await network.placement()).owners
    assert await network.director.dedicate(2, own) == own
    assert network.host(own).owns == {1, 2}
    await network.check_whole()
    assert await network.director.dedicate(2, "") is None
    assert network.host(own).owns == {1}
    await network.director.drain_host(own)
    placement = await network.placement()
    assert placement.dedicated == {}
    assert placement.owner_of(1) == placement.owners[slot_of(1)]
    await network.check_whole()


@pytest.mark.parametrize("host_id", ["-", "-h1", "H1", "h 1", "h1\n", "ä", "h" * 32])
async def test_what_cannot_be_a_hosts_id_is_refused(network: Network, host_id: str) -> None:
    """No host is begun under it, and no guild moves."""
    await network.director.start()
    before = await network.placement()
    with pytest.raises(NoSuchHost, match="cannot be a host's id"):
        await network.director.dedicate(1, host_id)
    assert await network.placement() == before
    assert len(network.all) == 3


async def test_not_every_host_can_be_dedicated(network: Network) -> None:
    """One must be left for the other guilds."""
    await network.director.start()
    await network.director.drain_host("h2")
    await network.director.dedicate(1, "h0")
    with pytest.raises(NoSuchHost, match="left"):
        await network.director.dedicate(2, "h1")
    assert (await network.placement()).dedicated == {1: "h0"}
    await network.check_whole()


async def test_orders_given_at_once_all_count(network: Network) -> None:
    """Each builds on what the one before it made."""
    await network.director.start()
    owns = await asyncio.gather(*(network.director.dedicate(guild, None) for guild in (1, 2, 3)))
    assert (await network.placement()).dedicated == dict(zip((1, 2, 3), owns, strict=True))
    await network.check_whole()


@pytest.mark.parametrize("how", ["dead", "hangs"])
async def test_who_does_not_answer_an_assignment_is_replaced(network: Network, how: str) -> None:
    """Its old life must not go on owning; the order is carried out all the same."""
    await network.director.start()
    network.hurry()
    host = network.host("h1")
    setattr(host, how, True)
    await network.director.add_host()
    assert host.life[-1] == "kill"
    assert network.host("h1") is not host
    await network.check_whole()


class DiesAt:
    """A host that dies at one of its coming assignments, together with the store."""

    def __init__(self, host: PlacedHost, coming: int) -> None:
        self._host, self._coming, self._assign = host, coming, host.assign
        host.assign = self._count  # type: ignore[method-assign]

    async def _count(self, placement: Placement) -> None:
        self._coming -= 1
        if self._coming == 0:
            self._host.dead = True
            for _ in range(10):
                await asyncio.sleep(0)  # the others are told meanwhile
            self._host.network.database.available = False
        await self._assign(placement)


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("phases", [(1,), (2,), (1, 1), (1, 2)])
async def test_an_order_that_breaks_off_leaves_no_guild_with_two_owners(
    network: Network, database: MemoryDatabase, phases: tuple[int, ...], restart: bool
) -> None:
    """In whichever phase, and however often; the next tick makes it whole, also a new Director's."""
    await network.director.start()
    for turn, phase in enumerate(phases):
        DiesAt(network.host(f"h{turn}"), phase)
        with pytest.raises(StoreUnavailable):
            await network.director.add_host()
        database.available = True
        network.check()
    if restart:
        await network.restart()
    await network.director.tick()
    await network.check_whole()
    told: dict[int, Placement] = {}
    for placement in (placement for host in network.all for placement in host.assigned):
        assert told.setdefault(placement.version, placement) == placement


async def test_an_order_may_take_back_one_that_broke_off(network: Network, database: MemoryDatabase) -> None:
    """The new host owns already what it is to give back: nobody else begins before it has let go."""
    await network.director.start()
    DiesAt(network.host("h0"), 2)
    with pytest.raises(StoreUnavailable):
        await network.director.add_host()
    database.available = True
    assert network.host("h3").owns
    await network.director.drain_host("h3")
    await network.check_whole()


async def test_hosts_are_listed_and_those_that_do_not_answer_named(network: Network) -> None:
    """By id, each in its place."""
    await network.director.start()
    network.hurry()
    network.host("h0").dead, network.host("h1").hangs = True, True
    assert await network.director.list_hosts() == ["h0", "h1", "h2"]


# -- events that were set aside -----------------------------------------------------------------------


async def set_aside(network: Network, payload: bytes, source: str = "s") -> int:
    """Set an event aside; return its id."""
    host = network.host("h0")
    poison = PoisonEvent(source, 1, 1, "why", payload)
    marks = (BatchMark(f"s{len(network.database.marks)}", 1),)
    store = MemoryGuildStore(network.database)
    await store.commit(Incarnation("h0", host.incarnation), Commit((), (), marks, poison=(poison,)))
    return network.database.poison[-1].poison_id


async def test_an_event_set_aside_is_tried_again(network: Network, database: MemoryDatabase) -> None:
    """It goes to its guild's host, the same batch each time; taken, it is settled."""
    await network.director.start()
    event = MessagesCounted(1, NOON_MS, 5)
    poison_id = await set_aside(network, encode_event(event))
    host = network.host((await network.placement()).owner_of(1))
    host.script = [Busy(1)]
    with pytest.raises(HostUnreachable, match="try again"):
        await network.director.retry_poison(poison_id)
    assert len(database.poison) == 1
    network.clock.advance(1)
    assert await network.director.retry_poison(poison_id) is True
    assert database.poison == []
    one, two = host.batches
    assert one == two == Batch(f"poison-{poison_id}", 1, (event,))
    with pytest.raises(NoSuchHost):
        await network.director.retry_poison(poison_id)


async def test_an_event_that_is_still_bad_stays_aside(network: Network, database: MemoryDatabase) -> None:
    """Set aside again by its host it is there once; one that cannot be read stays where it is."""
    await network.director.start()
    unreadable = await set_aside(network, b"\xc1")
    assert await network.director.retry_poison(unreadable) is False
    assert [row.poison_id for row in database.poison] == [unreadable]
    event = MessagesCounted(1, NOON_MS, 5)
    poison_id = await set_aside(network, encode_event(event))
    host = network.host((await network.placement()).owner_of(1))
    ingest = host.ingest

    async def refuse(payload: bytes) -> bytes:
        await set_aside(network, encode_event(event), source=decode_batch(payload).source)
        return await ingest(payload)

    host.ingest = refuse  # type: ignore[method-assign]
    host.script = [Accepted(1, 1)]
    assert await network.director.retry_poison(poison_id) is False
    assert len(database.poison) == 2
    assert poison_id not in {row.poison_id for row in database.poison}


# -- whatever happens ---------------------------------------------------------------------------------

HOST_IDS = st.sampled_from(["h0", "h1", "h2", "h3", "h4"])
ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.none()),
        st.tuples(st.just("drain"), HOST_IDS),
        st.tuples(
            st.just("dedicate"), st.tuples(st.sampled_from(GUILDS), st.none() | HOST_IDS | st.just(""))
        ),
        st.tuples(st.just("kill"), HOST_IDS),
        st.tuples(st.just("hang"), HOST_IDS),
        st.tuples(st.just("thaw"), st.none()),
        st.tuples(st.just("away"), st.integers(1, 6)),
        st.tuples(st.just("tick"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=12,
)


class FailingStore(MemoryDatabase):
    """Goes away after so many more calls, until it is back."""

    calls_left: int | None = None

    def require(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise StoreUnavailable
        super().require()


async def _obey(network: Network, what: str, argument: Any) -> None:
    director = network.director
    match what:
        case "add":
            await director.add_host()
        case "drain":
            await director.drain_host(argument)
        case "dedicate":
            await director.dedicate(*argument)
        case "kill" | "hang":
            for host in [host for host in network.all if host.host_id == argument][-1:]:
                host.dead, host.hangs = host.dead or what == "kill", host.hangs or what == "hang"
        case "thaw":
            for host in network.all:
                host.hangs = False
        case "tick":
            await director.tick()
        case "restart":
            await network.restart()


@settings(max_examples=60, deadline=None)
@given(orders=ORDERS)
async def test_a_guild_never_has_two_owners(orders: list[tuple[str, Any]]) -> None:
    """Over every mix of orders, deaths, hangs, restarts, and a store that goes; in the end it has one."""
    clock = MemoryClock()
    database = FailingStore(clock)
    network = Network(database, clock, hosts=2)
    network.hurry(0.005)
    try:
        for what, argument in orders:
            if what == "away":
                database.calls_left = argument
                continue
            try:
                await _obey(network, what, argument)
            except (GuildhallError, TimeoutError):
                database.calls_left = None
            network.check()
        database.calls_left = None
        for host in network.all:
            host.dead, host.hangs = host.dead or host.hangs, False
        network.hurry(30.0)
        await network.director.tick()
        await network.check_whole()
    finally:
        await network.rest()
