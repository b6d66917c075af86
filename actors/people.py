"""Everybody's way to the UserResolvers: which one to ask, and what to show when none answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import structlog
from cachetools import TTLCache

from domain.ids import HOUR_MS
from domain.people import Person, view
from domain.views import UserView

log = structlog.get_logger()

REMEMBERED, REMEMBERED_FOR_MS = 20_000, HOUR_MS
ANSWER_WITHIN_S = 4.0
"""Longer than a resolver waits for Discord; a page does not wait any longer for names."""


class ResolverCalls(Protocol):
    """A :class:`~actors.user_resolver.UserResolver` as others see it."""

    async def resolve(self, user_ids: Collection[int]) -> dict[int, Person]:
        """Ask who these are."""
        ...


class ResolvedPeople:
    """Implements :class:`domain.people.People` for one replica, by the resolvers that all replicas share.

    What it learned it remembers for an hour. A resolver that does not answer costs names, never a page.
    """

    def __init__(self, resolvers: Sequence[ResolverCalls], now_ms: Callable[[], int]) -> None:
        self._resolvers = resolvers
        self._now_ms = now_ms
        self._known: TTLCache[int, Person] = TTLCache(REMEMBERED, REMEMBERED_FOR_MS, now_ms)

    async def resolve(self, user_ids: Collection[int]) -> dict[int, UserView]:
        """See the port."""
        people: dict[int, Person] = {}
        shares: defaultdict[int, list[int]] = defaultdict(list)
        for user_id in set(user_ids):
            known = self._known.get(user_id)
            if known is not None:
                people[user_id] = known
            else:
                shares[user_id % len(self._resolvers)].append(user_id)
        for answer in await asyncio.gather(*(self._ask(*share) for share in shares.items())):
            people |= answer
            # Somebody who is described anew only now is asked for again soon.
            self._known.update({i: person for i, person in answer.items() if person.fresh(self._now_ms())})
        return {user_id: view(user_id, people.get(user_id)) for user_id in user_ids}

    async def _ask(self, resolver: int, user_ids: list[int]) -> dict[int, Person]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._resolvers[resolver].resolve(user_ids)
        except Exception as error:  # noqa: BLE001 - whatever it was, ids are shown without names
            log.warning("people_not_resolved", resolver=resolver, people=len(user_ids), error=repr(error))
            return {}
