"""Property 4: however many ask about somebody, and when, Discord is asked once."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.people import ResolvedPeople
from actors.user_resolver import PersonMemories, ResolverSettings, UserResolver
from adapters.memory import MemoryClock, MemoryPersonMemory, MemoryPersonSource

USERS = st.integers(1, 40)
PAGES = st.lists(st.tuples(st.sets(USERS, min_size=1), st.integers(0, 3)), min_size=1, max_size=25)


@given(pages=PAGES, resolvers=st.integers(1, 3), replicas=st.integers(1, 3), known=st.sets(USERS))
@settings(max_examples=200)
def test_one_call_a_person(
    pages: list[tuple[set[int], int]], resolvers: int, replicas: int, known: set[int]
) -> None:
    """Pages of several replicas ask at once and one after another, whatever people they share."""
    asyncio.run(_check(pages, resolvers, replicas, known))


async def _check(
    pages: list[tuple[set[int], int]], resolver_count: int, replica_count: int, known: set[int]
) -> None:
    clock = MemoryClock()
    discord = MemoryPersonSource(clock)
    discord.names = {user_id: f"user{user_id}" for user_id in known}
    redis, database = MemoryPersonMemory(), MemoryPersonMemory()

    async def memories() -> PersonMemories:
        return PersonMemories(redis, database)

    patient = ResolverSettings(answer_within_s=60)
    actors = [UserResolver(patient, memories, lambda: discord, clock) for _ in range(resolver_count)]
    replicas = [ResolvedPeople(actors, clock) for _ in range(replica_count)]

    async def page(number: int, wanted: set[int], turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        shown = await replicas[number % replica_count].resolve(wanted)
        assert shown.keys() == wanted
        for user_id, user in shown.items():
            name = user.username if user_id in known else user.display_name
            assert name == (f"user{user_id}" if user_id in known else f"Deleted User #{user_id:06d}")

    await asyncio.gather(*(page(n, wanted, turns) for n, (wanted, turns) in enumerate(pages)))

    asked = Counter(discord.calls)
    assert asked.keys() == set().union(*(wanted for wanted, _ in pages))
    assert set(asked.values()) == {1}
    assert discord.most_under_way <= 10 * resolver_count
