"""The guilds that are alive in a host: loaded by their first use, put to sleep when idle or too many."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import msgspec

from actors.guild import GuildActor
from domain.guild import WINDOW_HOURS, GuildState
from domain.ids import HOUR_MS, hour_start
from domain.ports import GuildStore

MAX_EPOCH = 2**53 - 1
"""What a browser reads exactly."""


AWAKE_AT_ONCE = 64
"""Guilds awake for a reason that are passed over to make room for one: each use may cost so much at most."""


class TableSettings(msgspec.Struct, frozen=True):
    """How many guilds may be alive, and for how long unused."""

    max_live: int = 150_000
    idle_after_ms: int = 600_000
    load_at_once: int = 500
    """Guilds that one query loads: the loop is busy with their rows for some milliseconds."""
    sleep_at_once: int = 5_000
    """Guilds that one round of ``passivate_idle`` looks at."""


class _Load:
    """Guilds that one query loads, and what becomes of it."""

    __slots__ = ("done", "guild_ids")

    def __init__(self) -> None:
        self.guild_ids: dict[int, None] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class GuildTable:
    """Owns the activations of one host's life. Guilds in use or watched stay; the others may sleep.

    So do those whose last watcher left a moment ago: what it missed is kept for it in memory alone.
    """

    def __init__(
        self,
        settings: TableSettings,
        store: GuildStore,
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._store = store
        self._now_ms = now_ms
        self._guilds: OrderedDict[int, GuildActor] = OrderedDict()  # the least recently used first
        self._in_use: dict[int, int] = {}
        self._loads: dict[int, _Load] = {}
        """The load that a guild waits for."""
        self._queue: deque[_Load] = deque()
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
        for guild_id in wanted:
            self._in_use[guild_id] = self._in_use.get(guild_id, 0) + 1
        try:
            await self._activate(wanted)
            now_ms = self._now_ms()
            for guild_id in wanted:
                self._guilds[guild_id].last_used_ms = now_ms
                self._guilds.move_to_end(guild_id)
            yield {guild_id: self._guilds[guild_id] for guild_id in wanted}
        finally:
            for guild_id in wanted:
                self._let_go(guild_id)
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
        """Put to sleep what nobody used for a while and nobody watches; return how many that were.

        Of very many it takes some in each round, so that no round blocks the host.
        """
        before_ms = self._now_ms() - self._settings.idle_after_ms
        at_once = self._settings.sleep_at_once
        idle = self._tired(at_once, at_once, before_ms)
        self.drop(idle)
        return len(idle)

    def _let_go(self, guild_id: int) -> None:
        held = self._in_use[guild_id] - 1
        if held:
            self._in_use[guild_id] = held
        else:
            del self._in_use[guild_id]

    def _make_room(self) -> None:
        """Put the least recently used to sleep while more live than may; watched ones count, but stay."""
        surplus = len(self._guilds) - self._settings.max_live
        if surplus > 0:
            self.drop(self._tired(surplus, AWAKE_AT_ONCE))

    def _tired(self, most: int, most_awake: int, unused_since_ms: int | None = None) -> list[int]:
        """Return who may sleep, the least recently used first.

        Those found awake for a reason go to the end of the order, as if just used: they are not looked at
        again and again while others come and go, and each call looks at a bounded number of them.
        """
        now_ms = self._now_ms()
        tired: list[int] = []
        awake: list[int] = []
        for guild_id, guild in self._guilds.items():
            unused = unused_since_ms is None or guild.last_used_ms <= unused_since_ms
            if len(tired) == most or len(awake) == most_awake or not unused:
                break
            (tired if self._may_sleep(guild_id, guild, now_ms) else awake).append(guild_id)
        for guild_id in awake:
            self._guilds[guild_id].last_used_ms = now_ms
            self._guilds.move_to_end(guild_id)
        return tired

    def _may_sleep(self, guild_id: int, guild: GuildActor, now_ms: int) -> bool:
        return guild_id not in self._in_use and not guild.remembers(now_ms)

    async def _activate(self, guild_ids: list[int]) -> None:
        """Return when all are alive. Who asks for a guild while it is being loaded shares that load."""
        while asleep := [guild_id for guild_id in guild_ids if guild_id not in self._guilds]:
            for load in dict.fromkeys(map(self._load_of, asleep)):
                # Shielded: one caller that gives up must not take the load from the others.
                await asyncio.shield(load.done)

    def _load_of(self, guild_id: int) -> _Load:
        """Return the load that brings a guild: one that is under way or waits, or a new one."""
        load = self._loads.get(guild_id)
        if load is None:
            if not self._queue or len(self._queue[-1].guild_ids) >= self._settings.load_at_once:
                self._queue.append(_Load())
            load = self._loads[guild_id] = self._queue[-1]
            load.guild_ids[guild_id] = None
            if self._loading is None:
                self._loading = asyncio.create_task(self._load_queued(), name="load-guilds")
        return load

    async def _load_queued(self) -> None:
        """Run the loads one after the other. Between two of them those who waited for the first go on."""
        try:
            while self._queue:
                load = self._queue.popleft()
                try:
                    await self._run(load)
                except BaseException as error:
                    # Whoever waits for a later one hears of this too: a database that is away is asked once.
                    self._end([load, *self._queue], error)
                    self._queue.clear()
                    if not isinstance(error, Exception):
                        raise
                else:
                    self._end([load], None)
                    await asyncio.sleep(0)  # however fast the store is
        finally:
            self._loading = None

    def _end(self, loads: Iterable[_Load], error: BaseException | None) -> None:
        for load in loads:
            for guild_id in load.guild_ids:
                del self._loads[guild_id]
            if error is None:
                load.done.set_result(None)
            elif isinstance(error, Exception):
                load.done.set_exception(error)
                load.done.exception()  # if all who waited have given up, nobody has to hear of it
            else:
                load.done.cancel()

    async def _run(self, load: _Load) -> None:
        now_ms = self._now_ms()
        guild_ids = list(load.guild_ids)
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
                state = loaded.get(guild_id) or GuildState(guild_id)
                # Under the state's own number: another one of the same value would be kept beside it.
                self._guilds[state.guild_id] = GuildActor(state, new_epoch(), now_ms)


def new_epoch() -> int:
    """Return what no activation had: a number that is counted comes again when the database is restored."""
    return 1 + secrets.randbelow(MAX_EPOCH)
