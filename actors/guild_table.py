"""The guilds that are alive in a host: loaded by their first use, put to sleep when idle or too many."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from actors.guild import GuildActor
from domain.guild import WINDOW_HOURS, GuildState
from domain.ids import HOUR_MS, hour_start
from domain.ports import GuildStore, Incarnation

EPOCH_BITS = 28
"""An epoch is the host's incarnation and its count of activations: never used twice, below 2^53."""


class TableSettings(msgspec.Struct, frozen=True):
    """How many guilds may be alive, and for how long unused."""

    max_live: int = 150_000
    idle_after_ms: int = 600_000
    load_at_once: int = 5_000
    """Guilds that one query loads."""


class GuildTable:
    """Owns the activations of one host's life. Guilds in use or watched stay; the others may sleep."""

    def __init__(
        self,
        settings: TableSettings,
        store: GuildStore,
        incarnation: Incarnation,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._store = store
        self._incarnation = incarnation
        self._now_ms = now_ms
        self._guilds: OrderedDict[int, GuildActor] = OrderedDict()  # the least recently used first
        self._in_use: Counter[int] = Counter()
        self._wanted: dict[int, None] = {}
        self._loading: asyncio.Task[None] | None = None
        self._on_the_way: set[int] = set()
        self.activations = 0
        self.deactivations = 0

    def __len__(self) -> int:
        return len(self._guilds)

    def get(self, guild_id: int) -> GuildActor | None:
        """Return a guild if it is alive."""
        return self._guilds.get(guild_id)

    def live(self) -> Iterable[GuildActor]:
        """Return all guilds that are alive."""
        return self._guilds.values()

    def ids(self) -> set[int]:
        """Return the guilds that are alive, and those whose rows are on their way."""
        return self._guilds.keys() | self._on_the_way

    @asynccontextmanager
    async def use(self, guild_ids: Iterable[int]) -> AsyncIterator[dict[int, GuildActor]]:
        """Hold guilds alive while they are worked on; those that sleep are loaded together.

        Raises:
            StoreUnavailable: some sleep, and the database is away.

        """
        wanted = list(dict.fromkeys(guild_ids))
        self._in_use.update(wanted)
        try:
            await self._activate(wanted)
            now_ms = self._now_ms()
            for guild_id in wanted:
                self._guilds[guild_id].last_used_ms = now_ms
                self._guilds.move_to_end(guild_id)
            yield {guild_id: self._guilds[guild_id] for guild_id in wanted}
        finally:
            self._in_use.subtract(wanted)
            self._in_use += Counter()  # forgets the zeros
            self._make_room()

    def drop(self, guild_ids: Iterable[int]) -> set[str]:
        """Deactivate guilds whatever they do; return the relays that watched one of them.

        Rows that are on their way are not used: they may be older than the reason for the drop.
        """
        guild_ids = list(guild_ids)
        self._on_the_way.difference_update(guild_ids)
        dropped = [self._guilds.pop(guild_id) for guild_id in guild_ids if guild_id in self._guilds]
        self.deactivations += len(dropped)
        return {relay_id for guild in dropped for relay_id in guild.relays}

    def passivate_idle(self) -> int:
        """Put to sleep what nobody used for a while and nobody watches; return how many that were."""
        before_ms = self._now_ms() - self._settings.idle_after_ms
        idle = []
        for guild_id, guild in self._guilds.items():
            if guild.last_used_ms > before_ms:
                break
            if self._may_sleep(guild_id, guild):
                idle.append(guild_id)
        self.drop(idle)
        return len(idle)

    def _make_room(self) -> None:
        """Put the least recently used to sleep while more live than may; watched ones count, but stay."""
        surplus = len(self._guilds) - self._settings.max_live
        if surplus <= 0:
            return
        tired: list[int] = []
        for guild_id, guild in self._guilds.items():
            if len(tired) == surplus:
                break
            if self._may_sleep(guild_id, guild):
                tired.append(guild_id)
        self.drop(tired)

    def _may_sleep(self, guild_id: int, guild: GuildActor) -> bool:
        return not guild.watched and guild_id not in self._in_use

    async def _activate(self, guild_ids: list[int]) -> None:
        """Return when all are alive. Whoever asks while a load is under way shares the next one."""
        while asleep := [guild_id for guild_id in guild_ids if guild_id not in self._guilds]:
            self._wanted.update(dict.fromkeys(asleep))
            if self._loading is None:
                self._loading = asyncio.create_task(self._load_wanted(), name="load-guilds")
            # Shielded: one caller that gives up must not take the load from the others.
            await asyncio.shield(self._loading)

    async def _load_wanted(self) -> None:
        try:
            wanted = [guild_id for guild_id in self._wanted if guild_id not in self._guilds]
            self._wanted.clear()
            for start in range(0, len(wanted), self._settings.load_at_once):
                await self._load(wanted[start : start + self._settings.load_at_once])
        except BaseException:
            self._wanted.clear()  # whoever came meanwhile hears of this too, and wants nothing any more
            raise
        finally:
            self._loading = None

    async def _load(self, guild_ids: list[int]) -> None:
        now_ms = self._now_ms()
        self._on_the_way = set(guild_ids)
        try:
            loaded = await self._store.load_guilds(
                guild_ids, hour_start(now_ms) - (WINDOW_HOURS - 1) * HOUR_MS
            )
        finally:
            wanted, self._on_the_way = self._on_the_way, set()
        for guild_id in guild_ids:
            if guild_id in wanted and guild_id not in self._guilds:
                self.activations += 1
                epoch = (self._incarnation.number << EPOCH_BITS) | self.activations
                state = loaded.get(guild_id) or GuildState(guild_id)
                self._guilds[guild_id] = GuildActor(state, epoch, now_ms)
