"""The UserResolver: finds out who is behind an id, and asks Discord as little as can be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

import msgspec
import structlog
from cachetools import LRUCache

from domain.errors import DiscordBusy, DiscordUnavailable, StoreUnavailable
from domain.people import Person, PersonMemory, PersonSource

log = structlog.get_logger()


class ResolverSettings(msgspec.Struct, frozen=True):
    """How much is remembered, and how Discord is asked."""

    remembered: int = 50_000
    at_once: int = 10
    """Questions to Discord that may be under way."""
    waiting: int = 5_000
    """Questions to Discord that may wait for their turn; who comes then is asked about another time."""
    answer_within_s: float = 2.0
    """What Discord has not said by then is answered from what is known; it is remembered when it comes."""
    busy_at_least_s: float = 0.5
    busy_at_most_s: float = 600.0
    """Whatever Discord says, or something that is not Discord."""


class ResolverStats(msgspec.Struct, frozen=True):
    """Where people were found, and what became of the questions to Discord."""

    asked: int
    from_memory: int
    from_shared_memories: int
    discord_calls: int
    discord_busy: int
    discord_failed: int
    waiting: int


class PersonMemories(NamedTuple):
    """Where people are looked for, the nearest first, after this actor's own memory."""

    redis: PersonMemory
    database: PersonMemory


class UserResolver:
    """Owns what it remembers of people, and the questions under way. Killed, it loses nothing that matters.

    One of several, by user id, so that nobody is asked about twice at a time.
    """

    def __init__(
        self,
        settings: ResolverSettings,
        open_memories: Callable[[], Awaitable[PersonMemories]],
        source: Callable[[], PersonSource],
        now_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._open_memories = open_memories
        self._memories: PersonMemories | None = None
        self._opening = asyncio.Lock()
        self._source = source()
        self._now_ms = now_ms
        self._known: LRUCache[int, Person] = LRUCache(settings.remembered)
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(settings.at_once)
        self._quiet_until = 0.0
        """Until when, by the loop's clock, Discord wants to hear nothing."""
        self._asked = self._from_memory = self._from_shared = 0
        self._calls = self._busy = self._failed = 0

    async def resolve(self, user_ids: Collection[int]) -> dict[int, Person]:
        """Return those who are known, from memory, Redis, the database or Discord, in this order.

        Who was described longer than a day ago is asked about again; if Discord does not answer in time,
        the old description is given. Who is missing in the answer is not known.
        """
        wanted = set(user_ids)
        self._asked += len(wanted)
        now_ms = self._now_ms()
        found = {user_id: person for user_id in wanted if (person := self._known.get(user_id)) is not None}
        self._from_memory += sum(person.fresh(now_ms) for person in found.values())
        await self._look_in_memories(wanted, found, now_ms)
        stale = [user_id for user_id in wanted if not _is_fresh(found.get(user_id), now_ms)]
        if stale:
            await self._ask_discord(stale)
            found |= {user_id: self._known[user_id] for user_id in stale if user_id in self._known}
        return found

    async def stats(self) -> ResolverStats:
        """Return where people were found."""
        return ResolverStats(
            asked=self._asked,
            from_memory=self._from_memory,
            from_shared_memories=self._from_shared,
            discord_calls=self._calls,
            discord_busy=self._busy,
            discord_failed=self._failed,
            waiting=len(self._under_way),
        )

    async def _open(self) -> tuple[PersonMemory, ...]:
        """Return the memories; opened when first needed, because a restarted actor is told nothing."""
        async with self._opening:
            if self._memories is None:
                try:
                    self._memories = await self._open_memories()
                except StoreUnavailable as error:
                    log.warning("people_not_recalled", error=str(error))
                    return ()
            return self._memories

    async def _look_in_memories(self, wanted: set[int], found: dict[int, Person], now_ms: int) -> None:
        passed: list[PersonMemory] = []
        for memory in await self._open():
            missing = {user_id for user_id in wanted if not _is_fresh(found.get(user_id), now_ms)}
            if not missing:
                return
            try:
                recalled = await memory.recall(missing)
            except StoreUnavailable as error:
                log.warning("people_not_recalled", memory=type(memory).__name__, error=str(error))
                continue
            newer = [p for p in recalled.values() if _is_newer(p, found.get(p.user_id))]
            found |= {person.user_id: person for person in newer}
            self._known.update((person.user_id, person) for person in newer)
            self._from_shared += sum(person.fresh(now_ms) for person in newer)
            await _remember(passed, [person for person in newer if person.fresh(now_ms)])
            passed.append(memory)

    async def _ask_discord(self, user_ids: Iterable[int]) -> None:
        """Return when Discord has said who these are, or did not in time."""
        asking = [task for user_id in user_ids if (task := self._question_about(user_id)) is not None]
        if asking:
            await asyncio.wait(asking, timeout=self._settings.answer_within_s)

    def _question_about(self, user_id: int) -> asyncio.Task[None] | None:
        """Return the one question about somebody that is under way, or begin it while there is room."""
        task = self._under_way.get(user_id)
        if task is None and len(self._under_way) < self._settings.waiting:
            task = self._under_way[user_id] = asyncio.create_task(self._learn(user_id))
        return task

    async def _learn(self, user_id: int) -> None:
        try:
            async with self._turn:
                person = await self._described(user_id)
            self._known[user_id] = person
            await _remember(await self._open(), [person])
        except DiscordUnavailable as error:
            self._failed += 1
            log.info("person_not_described", user=user_id, error=str(error))
        except Exception:
            self._failed += 1
            log.exception("question_broke", user=user_id)
        finally:
            del self._under_way[user_id]

    async def _described(self, user_id: int) -> Person:
        """Ask Discord until it answers. While it wants to be left alone, all questions wait."""
        loop = asyncio.get_running_loop()
        while True:
            while (wait_s := self._quiet_until - loop.time()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait_s)
            self._calls += 1
            try:
                return await self._source.describe(user_id)
            except DiscordBusy as error:
                self._busy += 1
                wait_s = max(error.retry_after_s, self._settings.busy_at_least_s)
                wait_s = min(wait_s, self._settings.busy_at_most_s)  # also of what is no number
                self._quiet_until = max(self._quiet_until, loop.time() + wait_s)


def _is_fresh(person: Person | None, now_ms: int) -> bool:
    return person is not None and person.fresh(now_ms)


def _is_newer(person: Person, known: Person | None) -> bool:
    return known is None or person.seen_ms > known.seen_ms


async def _remember(memories: Iterable[PersonMemory], people: list[Person]) -> None:
    if not people:
        return
    for memory in memories:
        with contextlib.suppress(StoreUnavailable):  # it is asked about again, that is all
            await memory.remember(people)
