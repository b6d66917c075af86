"""Property 8: a write invalidates what is cached at once, on every replica."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import announcer
from adapters.memory.samples import violation
from domain.errors import StoreUnavailable
from domain.ports import Commit
from serve_app import host_links
from tests.serve_app.replicas import House, house_of

GUILDS = [1, 2]

replicas, guilds, turns = st.integers(0, 1), st.sampled_from([1, 1, 1, 2]), st.sampled_from([0, 2, 8, 40])
read = st.tuples(st.just("read"), st.sampled_from(["config", "metrics"]), replicas, guilds, turns, turns)
write = st.tuples(st.just("write"), replicas, guilds)
happen = st.tuples(st.just("happen"), guilds)
wait = st.one_of(st.just(("settle",)), st.tuples(st.just("turns"), st.sampled_from([1, 3, 9])))
rare = st.one_of(
    st.just(("tick",)),
    st.just(("lose_an_answer",)),
    st.tuples(st.just("move"), st.sampled_from([("h0",), ("h1",), ("h0", "h1")])),
    st.tuples(st.just("kill"), st.sampled_from(["h0", "h1"])),
)
change = st.one_of(write, happen)
# What matters is what lies close together: somebody asks anew, something changes meanwhile, somebody asks.
scenes = st.tuples(
    change, st.just(("settle",)), read, wait, st.one_of(change, rare), wait, read, st.one_of(wait, rare), read
)


@pytest.fixture(autouse=True, scope="module")
def at_once() -> Iterator[None]:
    """Let everything be tried again without a pause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_links, "FIRST_RETRY_S", 0)
        patch.setattr(host_links, "LONGEST_RETRY_S", 0)
        patch.setattr(announcer, "FIRST_PAUSE_S", 0)
        patch.setattr(announcer, "LONGEST_PAUSE_S", 0)
        yield


async def pass_turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class Story:
    """Reads, writes and events on two replicas and two hosts, and who may no longer be told what."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._tasks: set[asyncio.Task[None]] = set()
        self._director = asyncio.Lock()
        self._messages = count(1)
        self._answer_is_lost = False
        self.loads = 0
        self.rows: Counter[tuple[str, int]] = Counter()
        """What the database says: versions of configurations, and numbers of violations."""
        self._answered: Counter[tuple[str, int]] = Counter()
        """Up to where writes were answered to, and events acknowledged."""
        self._floors: defaultdict[int, Counter[tuple[str, int]]] = defaultdict(Counter)
        """What a replica must know at least, when somebody begins to ask it."""

    def begin(self, step: tuple[Any, ...]) -> None:
        what, *arguments = step
        task = asyncio.create_task(getattr(self, what)(*arguments))
        self._tasks.add(task)

    async def read(self, name: Any, replica: int, guild_id: int, before: int = 0, after: int = 0) -> None:
        floor = self._floors[replica][name, guild_id]

        async def load() -> int:
            self.loads += 1
            await pass_turns(before)
            found = self.rows[name, guild_id]
            await pass_turns(after)
            return found

        read = await self._house.replicas[replica].caches.get(name, guild_id, "it", load)
        assert read >= floor, f"{name} of {guild_id} on {replica}: {read}, though {floor} was answered to"

    async def write(self, replica: int, guild_id: int) -> None:
        self.rows["config", guild_id] += 1
        version = self.rows["config", guild_id]
        await pass_turns(1)
        await self._house.replicas[replica].announcer.announce(
            guild_id, "config_update", {"version": version}
        )
        known = self._floors[replica]
        known["config", guild_id] = max(version, known["config", guild_id])
        self._answered["config", guild_id] = max(version, self._answered["config", guild_id])
        await self.read("config", replica, guild_id)

    async def happen(self, guild_id: int) -> None:
        await self._house.happen(violation(guild_id, next(self._messages)))
        self._answered["metrics", guild_id] += 1

    async def committed(self, commit: Commit) -> None:
        """Count what is durable from this moment on; some turns later the host will know."""
        for effect in commit.effects:
            found = getattr(effect, "violation", None)
            if found is not None:
                self.rows["metrics", found.guild_id] += 1
        await pass_turns(2)
        if self._answer_is_lost:
            self._answer_is_lost = False
            raise StoreUnavailable

    async def lose_an_answer(self) -> None:
        """Let the next commit be made without its host knowing."""
        self._answer_is_lost = True

    async def move(self, owners: tuple[str, ...]) -> None:
        async with self._director:
            await self._house.move_all(*owners)

    async def kill(self, host_id: str) -> None:
        async with self._director:
            await self._house.kill(host_id)

    async def settle(self) -> None:
        """Let everything happen that was begun, and all news arrive: now every replica must know."""
        while self._tasks:
            done = self._tasks
            self._tasks = set()
            await asyncio.gather(*done)
        answered = Counter(self._answered)
        await self._house.settled()
        for replica in range(len(self._house.replicas)):
            self._floors[replica] = Counter(answered)


@settings(max_examples=150, deadline=None)
@given(script=st.lists(scenes, min_size=1, max_size=6))
async def test_a_write_invalidates_at_once(script: list[tuple[tuple[Any, ...], ...]]) -> None:
    """Nobody who asks after the write was answered to gets what was before.

    On the replica that wrote from the answer on, on the other as soon as the news could arrive; whatever
    was being loaded, and whether the guild slept, moved or lost its host.
    """
    async with house_of(2) as house:
        story = Story(house)
        house.database.after_commit = story.committed
        for step in chain.from_iterable(script):
            match step:
                case ("turns", number):
                    await pass_turns(number)
                case ("settle",):
                    await story.settle()
                case ("tick",):
                    house.tick()
                case _:
                    story.begin(step)
        await story.settle()
        # And all of this is not because nothing is remembered.
        for guild_id in GUILDS:
            await story.read("config", 0, guild_id)
        loads = story.loads
        for guild_id in GUILDS:
            await story.read("config", 0, guild_id)
        assert story.loads == loads
