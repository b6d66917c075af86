"""Events that were set aside are tried again: through a Director and a real host, and each counts once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.director import Director, DirectorSettings, HostAccess
from actors.host import GuildHost, HostSettings
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from adapters.memory.samples import NOON_MS, violation
from domain.errors import HostUnreachable, NoSuchHost, StoreUnavailable
from domain.events import Event, MessagesCounted, ViolationDetected, encode_event
from domain.ports import Commit, PoisonEvent

GUILD = 1
MESSAGES = MessagesCounted(GUILD, NOON_MS, 5)
BAD = violation(GUILD, excerpt="a\0b")


class LossyHost(GuildHost):
    """A host whose answers may get lost."""

    loses_answers = False

    async def ingest(self, payload: bytes, sender: Any = None) -> bytes:
        answer = await super().ingest(payload, sender)
        if self.loses_answers:
            raise HostUnreachable
        return answer

    async def kill(self) -> None:
        await self.stop("killed")


class Cluster:
    """A Director with one host."""

    def __init__(self, database: MemoryDatabase, clock: MemoryClock) -> None:
        self.database, self._clock = database, clock
        self.hosts: list[LossyHost] = []
        access = HostAccess(self._create, self._find)
        settings = DirectorSettings(hosts=1, tick_s=3_600)
        self.director = Director(settings, access, self._open, clock)

    def _create(self, host_id: str, actor_name: str) -> LossyHost:
        settings = HostSettings(host_id, actor_name, tick_ms=3_600_000)
        self.hosts.append(LossyHost(settings, self._open, self._clock))
        return self.hosts[-1]

    async def _find(self, _: str) -> None:
        return None

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)

    async def set_aside(self, event: Event) -> int:
        """Set an event aside, for whatever reason it was; return its id."""
        poison = PoisonEvent("s", 1, event.guild_id, "why", encode_event(event))
        store = await self._open()
        life = await store.register_host("another")
        await store.commit(life, Commit((), (), (), poison=(poison,)))
        return self.database.poison[-1].poison_id

    @property
    def messages(self) -> int:
        return sum(hour.messages for hour in self.database.hours_of(GUILD, 0))


@pytest.fixture
async def cluster(database: MemoryDatabase, clock: MemoryClock) -> AsyncIterator[Cluster]:
    cluster = Cluster(database, clock)
    await cluster.director.start()
    yield cluster
    await cluster.director.stop("the test is over")


async def test_a_retry_whose_answer_was_lost_counts_once(cluster: Cluster, clock: MemoryClock) -> None:
    """The operator hears nothing and tries again, and again: the messages are counted once."""
    poison_id = await cluster.set_aside(MESSAGES)
    [host] = cluster.hosts
    host.loses_answers = True
    for _ in range(2):
        with pytest.raises(HostUnreachable):
            await cluster.director.retry_poison(poison_id)
        clock.advance(1_000)
    host.loses_answers = False
    assert cluster.messages == 5
    assert await cluster.director.retry_poison(poison_id) is True
    assert cluster.messages == 5
    assert cluster.database.poison == []
    with pytest.raises(NoSuchHost):
        await cluster.director.retry_poison(poison_id)


async def test_a_retry_that_could_not_be_noted_counts_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away between the commit and the note that the event is dealt with."""
    poison_id = await cluster.set_aside(MESSAGES)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryGuildStore, "settle_poison", _fail)
        with pytest.raises(StoreUnavailable):
            await cluster.director.retry_poison(poison_id)
    assert await cluster.director.retry_poison(poison_id) is True
    assert cluster.messages == 5


@pytest.mark.parametrize("lost", [False, True])
async def test_an_event_that_is_refused_again_has_a_retry_of_its_own(cluster: Cluster, lost: bool) -> None:
    """It is set aside once, under a new id, whether or not its answer came; mended, it is taken once."""
    poison_id = await cluster.set_aside(BAD)
    [host] = cluster.hosts
    if lost:
        host.loses_answers = True
        with pytest.raises(HostUnreachable):
            await cluster.director.retry_poison(poison_id)
        host.loses_answers = False
    assert await cluster.director.retry_poison(poison_id) is False
    [again] = cluster.database.poison
    assert (again.event.source, again.event.number) == (f"poison-{poison_id}", 1)
    assert again.poison_id != poison_id
    mended = encode_event(violation(GUILD))
    cluster.database.poison = [
        type(again)(again.poison_id, PoisonEvent(again.event.source, 1, GUILD, "why", mended), again.at_ms)
    ]
    assert await cluster.director.retry_poison(again.poison_id) is True
    rows = [row.violation for row in cluster.database.violations.values()]
    assert [type(row) for row in rows] == [ViolationDetected]
    assert cluster.database.poison == []


async def test_a_retry_while_the_database_is_away_changes_nothing(cluster: Cluster) -> None:
    """The host says "not now", and so does the Director; later it is taken."""
    poison_id = await cluster.set_aside(MESSAGES)

    async def away(_: Commit) -> None:
        raise StoreUnavailable

    cluster.database.before_commit = away
    with pytest.raises(HostUnreachable, match="try again"):
        await cluster.director.retry_poison(poison_id)
    cluster.database.before_commit = None
    assert [row.poison_id for row in cluster.database.poison] == [poison_id]
    assert await cluster.director.retry_poison(poison_id) is True
    assert cluster.messages == 5


async def _fail(*_: object) -> None:
    raise StoreUnavailable
