"""What a replica remembers for a while, so that what is asked again costs no query.

- Identical callers share one load: those that wait for it, and those that ask while it is remembered.
- A failure goes to all who wait for it, and is never remembered: the next caller tries anew.
- A guild is observed first, then loaded, then remembered. One that cannot be observed is answered for,
  but not remembered: nobody would say when it changes.
- A change forgets what it may have made untrue, at once; a load that began before it is remembered by
  nobody, and joined by nobody who asks after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, get_args
from weakref import WeakValueDictionary

import msgspec
from cachetools import TTLCache

from domain.ports import Announcer
from domain.replica_counts import CacheCounts

T = TypeVar("T")

CacheName = Literal["metrics", "users", "config", "requests"]
"""``requests`` is for what is not worth remembering: within a second, it is asked once."""

CACHE_NAMES: tuple[CacheName, ...] = get_args(CacheName)


class Bounds(NamedTuple):
    """For how long, and how much, a cache remembers."""

    ttl_ms: int
    max_entries: int


BOUNDS: dict[CacheName, Bounds] = {
    "metrics": Bounds(5 * 60_000, 5_000),
    "users": Bounds(60 * 60_000, 20_000),
    "config": Bounds(10 * 60_000, 5_000),
    "requests": Bounds(1_000, 1_000),
}

_UNTOUCHED: dict[str, frozenset[CacheName]] = {
    "messages": frozenset({"users", "config"}),
    "members": frozenset({"users", "config"}),
    "bot_status": frozenset({"users", "config"}),
    "guild": frozenset({"users", "config"}),
    "violation": frozenset({"config"}),
    "warning_update": frozenset({"config"}),
}
"""What a change leaves true. A kind that is not listed here leaves nothing."""


class Watch(Protocol):
    """Who says that a guild changed. See :class:`serve_app.guild_watch.GuildWatch`."""

    async def observe(self, guild_id: int) -> bool:
        """Return whether every change of the guild is heard of from here on. Never raises, never long."""
        ...

    def observes(self, guild_id: int) -> bool:
        """Whether every change of the guild was heard of since it began to be observed."""
        ...


class Unobserved:
    """Implements :class:`Watch` where nobody says what changes: nothing is remembered."""

    async def observe(self, guild_id: int) -> bool:
        """See the protocol."""
        del guild_id
        return False

    def observes(self, guild_id: int) -> bool:
        """See the protocol."""
        del guild_id
        return False


class Caches:
    """All that one replica remembers. Killed, it loses nothing that the database does not have."""

    def __init__(self, monotonic_ms: Callable[[], int], watch: Watch | None = None) -> None:
        self.watch = watch or Unobserved()
        self._caches: dict[CacheName, _Cache[Any]] = {
            name: _Cache(bounds, monotonic_ms) for name, bounds in BOUNDS.items()
        }

    async def get(self, name: CacheName, guild_id: int, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """Return what is remembered of a guild under a key, or what ``load`` returns; raise what it raises.

        A caller that is cancelled does not cancel the load of the others.
        """
        cache: _Cache[T] = self._caches[name]
        return await cache.get(self.watch, guild_id, key, load)

    def changed(self, guild_id: int, what: str) -> None:
        """Forget what a change of this kind may have made untrue of a guild."""
        untouched = _UNTOUCHED.get(what, frozenset())
        for name, cache in self._caches.items():
            if name not in untouched:
                cache.forget(guild_id)

    def forget(self, guild_id: int) -> None:
        """Forget everything of a guild: nobody says any more what changes in it."""
        for cache in self._caches.values():
            cache.forget(guild_id)

    def guilds(self) -> set[int]:
        """Return the guilds of which something is remembered or being loaded; lets go of what is too old."""
        return {guild_id for cache in self._caches.values() for guild_id in cache.guilds()}

    def counts(self) -> dict[str, CacheCounts]:
        """Return what each cache did so far."""
        return {name: cache.counted() for name, cache in self._caches.items()}


class ForgettingAnnouncer:
    """Implements :class:`domain.ports.Announcer`: this replica forgets first, then the others are told."""

    def __init__(self, caches: Caches, others: Announcer) -> None:
        self._caches, self._others = caches, others

    async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        """See the port."""
        self._caches.changed(guild_id, kind)
        await self._others.announce(guild_id, kind, data)


class _Mark:
    """Says whether what was loaded of a guild since it was made is still true."""

    __slots__ = ("__weakref__", "good", "keys")

    def __init__(self) -> None:
        self.good = True
        self.keys: set[_Key] = set()


class _Remembered(NamedTuple):
    mark: _Mark
    """Held by what it speaks of, and by nobody else: when all that is gone, so is the mark."""
    value: Any


class _Flight(Generic[T]):
    """A load under way, for everybody who waits for it."""

    __slots__ = ("mark", "task")

    def __init__(self) -> None:
        self.mark: _Mark | None = None
        """None until the load itself begins: what changes before that is in its answer."""
        self.task: asyncio.Task[T]


_Key = tuple[int, Hashable]


class _Cache(Generic[T]):
    def __init__(self, bounds: Bounds, monotonic_ms: Callable[[], int]) -> None:
        self._entries: TTLCache[_Key, _Remembered] = TTLCache(bounds.max_entries, bounds.ttl_ms, monotonic_ms)
        self._flights: dict[_Key, _Flight[T]] = {}
        self._marks: WeakValueDictionary[int, _Mark] = WeakValueDictionary()
        self._counts = CacheCounts()

    async def get(self, watch: Watch, guild_id: int, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        full_key = (guild_id, key)
        try:
            remembered = self._entries[full_key]  # not by ``get``, which looks twice
        except KeyError:
            remembered = None
        if remembered is not None and watch.observes(guild_id):
            self._counts.hits += 1
            found: T = remembered.value
            return found
        flight = self._flights.get(full_key)
        if flight is not None and (flight.mark is None or flight.mark.good):
            self._counts.shared += 1
        else:
            self._counts.misses += 1
            flight = self._flights[full_key] = _Flight()
            flight.task = asyncio.create_task(self._fly(watch, full_key, flight, load), name="load")
            flight.task.add_done_callback(self._landed)
        return await asyncio.shield(flight.task)

    async def _fly(
        self, watch: Watch, full_key: _Key, flight: _Flight[T], load: Callable[[], Awaitable[T]]
    ) -> T:
        guild_id = full_key[0]
        try:
            observed = await watch.observe(guild_id)
            mark = flight.mark = self._marks.get(guild_id) or self._marks.setdefault(guild_id, _Mark())
            value = await load()
            if observed and mark.good and watch.observes(guild_id):
                mark.keys.add(full_key)
                self._entries[full_key] = _Remembered(mark, value)
            return value
        finally:
            if self._flights.get(full_key) is flight:
                del self._flights[full_key]

    def _landed(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is not None:  # also looked at: perhaps nobody waits
            self._counts.failures += 1

    def forget(self, guild_id: int) -> None:
        mark = self._marks.pop(guild_id, None)
        if mark is None:
            return
        mark.good = False
        self._counts.invalidations += 1
        for full_key in mark.keys:
            self._entries.pop(full_key, None)

    def guilds(self) -> set[int]:
        self._entries.expire()
        for mark in self._marks.values():
            mark.keys = {full_key for full_key in mark.keys if full_key in self._entries}
        return {*self._marks, *(guild_id for guild_id, _ in self._flights)}

    def counted(self) -> CacheCounts:
        self._entries.expire()
        return msgspec.structs.replace(self._counts, entries=len(self._entries))
