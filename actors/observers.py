"""Who remembers something of a host's guilds, and is told when it may no longer be true.

An observer is no watcher: it has no user and no socket, sees no data, and keeps no guild awake.
Observers are known by guild id alone, so a guild that goes to sleep under them loses them nothing.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import NamedTuple

from actors.fan_out import FanOut
from domain.errors import HostUnreachable

MESSAGES = "messages"
UNOBSERVED = "unobserved"
"""Of this guild the observer hears no more: it forgets everything of it, and asks anew, perhaps elsewhere."""


class Change(NamedTuple):
    """What changed in a guild: the kind that its stream would say, or one of those above."""

    guild_id: int
    what: str


class Observers:
    """Owns who observes what. Lost with its host, and so are the streams, which every observer notices."""

    def __init__(self) -> None:
        self._fan_out: FanOut[Change] = FanOut()
        self._by_guild: dict[int, dict[str, int]] = {}
        self._by_observer: defaultdict[str, set[int]] = defaultdict(set)
        self._due: dict[Change, None] = {}

    def __contains__(self, guild_id: int) -> bool:
        return guild_id in self._by_guild

    def __len__(self) -> int:
        return len(self._by_guild)

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_guild)

    async def stream(self, observer_id: str) -> AsyncGenerator[list[Change], None]:
        """Yield what an observer is told; with its end, all that the observer had asked for ends too."""
        try:
            async with contextlib.aclosing(self._fan_out.stream(observer_id)) as lists:
                async for changes in lists:
                    yield changes
        finally:
            for guild_id in self._by_observer.pop(observer_id, ()):
                self._remove(guild_id, observer_id)

    def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Tell an observer of a guild's changes from here on; ``turn`` is higher each time that it asks.

        Raises:
            HostUnreachable: the observer's stream is over.

        """
        if not self._fan_out.listens(observer_id):
            raise HostUnreachable(f"Observer {observer_id} does not listen any more.")
        turns = self._by_guild.setdefault(guild_id, {})
        turns[observer_id] = max(turn, turns.get(observer_id, 0))
        self._by_observer[observer_id].add(guild_id)

    def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        """Tell an observer no more, unless it asked again since that turn: calls overtake each other."""
        if turn >= self._by_guild.get(guild_id, {}).get(observer_id, turn + 1):
            self._remove(guild_id, observer_id)
            self._forget(guild_id, observer_id)

    def tell(self, changes: Iterable[Change]) -> None:
        """Tell those concerned at once."""
        by_observer: defaultdict[str, list[Change]] = defaultdict(list)
        for change in dict.fromkeys(changes):
            for observer_id in self._by_guild.get(change.guild_id, ()):
                by_observer[observer_id].append(change)
        for observer_id, theirs in by_observer.items():
            self._fan_out.send(observer_id, theirs)

    def tell_later(self, change: Change) -> None:
        """Tell those concerned at the next tick, once however often it happened."""
        if change.guild_id in self._by_guild:
            self._due[change] = None

    def tick(self) -> None:
        """Tell what is due."""
        due, self._due = self._due, {}
        self.tell(due)

    def told(self) -> dict[str, int]:
        """Return how many changes each observer was told: who got fewer has news on its way."""
        return self._fan_out.sent()

    def lose(self, guild_ids: Iterable[int]) -> None:
        """Part with the observers of these guilds: what happens there is, or was, not all heard of here."""
        lost = [guild_id for guild_id in guild_ids if guild_id in self._by_guild]
        self.tell(Change(guild_id, UNOBSERVED) for guild_id in lost)
        for guild_id in lost:
            for observer_id in self._by_guild.pop(guild_id):
                self._forget(guild_id, observer_id)

    def close(self) -> None:
        """End every stream."""
        self._fan_out.close()

    def _remove(self, guild_id: int, observer_id: str) -> None:
        turns = self._by_guild[guild_id]
        del turns[observer_id]
        if not turns:
            del self._by_guild[guild_id]

    def _forget(self, guild_id: int, observer_id: str) -> None:
        observed = self._by_observer[observer_id]
        observed.discard(guild_id)
        if not observed:
            del self._by_observer[observer_id]
