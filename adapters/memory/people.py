"""The twins of the places where people are remembered, and of Discord as far as it knows people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from adapters.clock import now_ms as wall_clock_ms
from domain.errors import DiscordUnavailable, StoreUnavailable
from domain.people import Person, described, gone, view
from domain.views import UserView


class MemoryPersonMemory:
    """Implements :class:`domain.people.PersonMemory`. ``available = False`` makes every call raise."""

    def __init__(self) -> None:
        self.available = True
        self.people: dict[int, Person] = {}

    async def recall(self, user_ids: Collection[int]) -> dict[int, Person]:
        """See the port."""
        self._require()
        return {user_id: self.people[user_id] for user_id in user_ids if user_id in self.people}

    async def remember(self, people: Collection[Person]) -> None:
        """See the port."""
        self._require()
        for person in people:
            known = self.people.get(person.user_id)
            if known is None or known.seen_ms <= person.seen_ms:
                self.people[person.user_id] = person

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable


class MemoryPersonSource:
    """Implements :class:`domain.people.PersonSource`: knows whom it was told of, and notes the questions.

    ``fault`` is raised instead of an answer; ``hold`` makes every question wait until it is set.
    """

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.names: dict[int, str] = {}
        self.calls: list[int] = []
        self.under_way = 0
        self.most_under_way = 0
        self.fault: DiscordUnavailable | None = None
        self.hold: asyncio.Event | None = None
        self._now_ms = now_ms

    async def describe(self, user_id: int) -> Person:
        """See the port."""
        self.calls.append(user_id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await (self.hold.wait() if self.hold else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        if self.fault is not None:
            raise self.fault
        if (name := self.names.get(user_id)) is None:
            return gone(user_id, seen_ms=self._now_ms())
        return described(user_id, name, name.title(), None, seen_ms=self._now_ms())


class MemoryPeople:
    """Implements :class:`domain.people.People` with whom it was told of."""

    def __init__(self) -> None:
        self.known: dict[int, Person] = {}

    async def resolve(self, user_ids: Collection[int]) -> dict[int, UserView]:
        """See the port."""
        return {user_id: view(user_id, self.known.get(user_id)) for user_id in user_ids}
