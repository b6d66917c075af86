"""The Director: who gets which guilds, written down before anybody is told."""

from __future__ import annotations

import asyncio

import pytest

from actors.director import Director
from adapters.memory import MemoryClock, MemoryDatabase, MemoryGuildStore
from domain.errors import StoreUnavailable
from domain.ids import SLOTS
from domain.placement import place
from tests.actors.hosts import RecordingHost

IDS = ("h0", "h1", "h2")


class Network:
    def __init__(self, database: MemoryDatabase, clock: MemoryClock) -> None:
        self.database = database
        self.hosts = {host_id: RecordingHost() for host_id in IDS}
        self.director = Director(IDS, self.hosts.__getitem__, self._open, clock)

    async def _open(self) -> MemoryGuildStore:
        return MemoryGuildStore(self.database)


@pytest.fixture
def network(database: MemoryDatabase, clock: MemoryClock) -> Network:
    return Network(database, clock)


async def test_every_slot_has_one_host_and_every_host_knows_its_own(
    network: Network, database: MemoryDatabase
) -> None:
    """Hosts live before they are assigned; what they are told is what was written."""
    await network.director.start()
    told = [host.assigned for host in network.hosts.values()]
    assert [version for version, _ in told] == [1, 1, 1]
    assert sorted(slot for _, slots in told for slot in slots) == list(range(SLOTS))
    assert database.placements == {1: place(1, IDS)}
    assert all(host.life == ["start", "assign"] for host in network.hosts.values())
    routing = await network.director.routing()
    assert routing.placement == place(1, IDS)
    assert routing.hosts == network.hosts
    await network.director.stop("done")
    assert all(host.life[-1] == "stop: done" for host in network.hosts.values())


async def test_a_placement_is_newer_than_any_before(network: Network, database: MemoryDatabase) -> None:
    """Its version goes on from what the store has seen, over restarts."""
    database.placements[41] = place(41, ["old"])
    await network.director.start()
    assert (await network.director.routing()).placement.version == 42
    await network.director.stop("done")


async def test_without_a_database_nothing_begins(network: Network, database: MemoryDatabase) -> None:
    """No host is started on a placement that cannot be written."""
    database.available = False
    with pytest.raises(StoreUnavailable):
        await network.director.start()
    assert all(host.life == [] for host in network.hosts.values())
    with pytest.raises(RuntimeError):
        await network.director.routing()


async def test_a_tick_outlives_the_database(network: Network, database: MemoryDatabase) -> None:
    """Months that cannot be made now are made at the next tick."""
    await network.director.start()
    database.available = False
    await network.director.tick()
    database.available = True
    await network.director.tick()
    await network.director.stop("done")


async def test_a_host_that_does_not_stop_keeps_no_other_from_it(network: Network) -> None:
    """Stopping asks all of them."""
    await network.director.start()

    async def fail(_: str) -> None:
        await asyncio.sleep(0)
        raise StoreUnavailable

    network.hosts["h0"].stop = fail  # type: ignore[method-assign]
    await network.director.stop("done")
    assert network.hosts["h2"].life[-1] == "stop: done"
