"""Property 10: failures are not cached."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryClock
from domain.errors import HostUnreachable, StoreUnavailable
from serve_app.cache import CACHE_NAMES, CacheName, Caches
from tests.serve_app.test_cache import ScriptedWatch

failures = st.sampled_from([None, StoreUnavailable, HostUnreachable, TimeoutError, ZeroDivisionError])
rounds = st.tuples(st.sampled_from(CACHE_NAMES), st.integers(1, 2), st.integers(1, 5), failures)


@settings(max_examples=300, deadline=None)
@given(script=st.lists(rounds, min_size=1, max_size=30))
async def test_failures_are_not_cached(
    script: list[tuple[CacheName, int, int, type[Exception] | None]],
) -> None:
    """All who wait get it; who asks next is answered from the database again, and success is remembered."""
    caches = Caches(MemoryClock(), ScriptedWatch())
    known: dict[tuple[CacheName, int], int] = {}
    loads = 0

    for name, guild_id, callers, failure in script:

        async def load(problem: type[Exception] | None = failure) -> int:
            nonlocal loads
            loads += 1
            await asyncio.sleep(0)
            if problem is not None:
                raise problem
            return loads

        before, key = loads, (name, guild_id)
        asking = [caches.get(name, guild_id, "day", load) for _ in range(callers)]
        results = await asyncio.gather(*asking, return_exceptions=True)
        if key in known:
            assert (results, loads) == ([known[key]] * callers, before)
        elif failure is None:
            known[key] = before + 1
            assert (results, loads) == ([before + 1] * callers, before + 1)
        else:
            assert {type(result) for result in results} == {failure}
            assert loads == before + 1
    assert sum(counts.entries for counts in caches.counts().values()) == len(known)
