"""A runner that does not answer: its guilds are told offline, and online again when it is back."""

from __future__ import annotations

import pytest

from actors.runner_presence import SILENT_AFTER_S, RunnerPresence, RunnerSign
from adapters.memory import MemoryClock
from domain.errors import StoreUnavailable
from domain.events import BotPresenceChanged

WELL = RunnerSign((0, 1), 0.0, connected=True)
SLOW = WELL._replace(silent_s=SILENT_AFTER_S - 0.1)
SILENT = WELL._replace(silent_s=SILENT_AFTER_S)
CONNECTING = WELL._replace(connected=False)


class World:
    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []
        self.online = {(0, 1): [10, 20], (2,): [30]}
        self.available = True
        self.presence = RunnerPresence(self._find, self._report, MemoryClock())

    async def _find(self, shard_ids: tuple[int, ...]) -> list[int]:
        if not self.available:
            raise StoreUnavailable
        return self.online[shard_ids]

    def _report(self, event: BotPresenceChanged) -> None:
        self.told.append((event.guild_id, event.online))


async def test_a_silent_runners_guilds_are_offline_until_its_shards_are_back() -> None:
    """Each is told once, and only of guilds that were online; one that answers but connects is not back."""
    world = World()
    other = RunnerSign((2,), 0.0, connected=True)
    for sign in (WELL, SLOW, CONNECTING):
        await world.presence.look({"r0": sign, "r1": other})
    assert world.told == []
    for sign in (SILENT, SILENT._replace(silent_s=90.0), CONNECTING):
        await world.presence.look({"r0": sign, "r1": other})
    assert world.told == [(10, False), (20, False)]
    world.told.clear()
    world.online[0, 1] = []
    for _ in range(2):
        await world.presence.look({"r0": WELL, "r1": other})
    assert world.told == [(10, True), (20, True)]


async def test_what_the_database_does_not_say_is_told_later() -> None:
    world = World()
    world.available = False
    with pytest.raises(StoreUnavailable):
        await world.presence.look({"r0": SILENT})
    world.available = True
    await world.presence.look({"r0": SILENT})
    assert world.told == [(10, False), (20, False)]
