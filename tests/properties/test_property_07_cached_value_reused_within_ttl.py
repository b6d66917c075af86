"""Property 7: a cached value is reused within its time, and only within it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryClock
from serve_app.cache import BOUNDS, CACHE_NAMES, CacheName, Caches
from tests.serve_app.test_cache import ScriptedWatch

Question = tuple[CacheName, int, str]

names = st.sampled_from(CACHE_NAMES)
questions = st.tuples(names, st.integers(1, 3), st.sampled_from(["day", "week"]))
times = st.one_of(
    st.integers(0, 4_000_000),
    # Around the moment at which something ends.
    st.builds(lambda name, by: BOUNDS[name].ttl_ms + by, names, st.integers(-1, 1)),
)


@settings(max_examples=300, deadline=None)
@given(asked=st.lists(st.tuples(times, questions), min_size=1, max_size=40))
async def test_a_value_is_reused_within_its_time(asked: list[tuple[int, Question]]) -> None:
    """Whoever asks gets the value that was loaded last, and a new one is loaded when that is too old."""
    clock = MemoryClock()
    caches = Caches(clock, ScriptedWatch())
    loaded: dict[Question, tuple[int, int]] = {}  # what a simple mind remembers: when, and the value
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        return loads

    for later_ms, question in asked:
        clock.advance(later_ms)
        name, guild_id, key = question
        when, expected = loaded.get(question, (0, 0))
        if question not in loaded or clock() - when >= BOUNDS[name].ttl_ms:
            expected = loads + 1
            loaded[question] = clock(), expected
        assert await caches.get(name, guild_id, key, load) == expected
        assert loads == max(value for _, value in loaded.values())
