"""The twin of a network that can be looked at."""

from __future__ import annotations

from adapters.memory.database import MemoryDatabase
from domain.network import GapView, NetworkView, ShardsView, Totals


class MemoryNetwork:
    """Implements :class:`domain.network.Network` with what it was given to show."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.shows = NetworkView(
            director_answers=True,
            placement_version=1,
            hosts=[],
            runners=[],
            shards=ShardsView(total=0, connected=0),
            supervised=[],
            totals=Totals(guilds=0, guilds_online=0, messages=0, violations=0, open_poison=0),
            gaps=[],
        )
        self.silent_names: list[str] = []

    async def silent(self) -> list[str]:
        """See the port."""
        return self.silent_names

    async def look(self) -> NetworkView:
        """See the port."""
        self._database.require()
        return self.shows


class MemoryNetworkStore:
    """Implements :class:`domain.network.NetworkStore` with what it was given."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self.counted = Totals(guilds=0, guilds_online=0, messages=0, violations=0, open_poison=0)
        self.recorded: list[GapView] = []

    async def totals(self) -> Totals:
        """See the port."""
        self._database.require()
        return self.counted

    async def gaps(self, *, limit: int) -> list[GapView]:
        """See the port."""
        self._database.require()
        return self.recorded[:limit]
