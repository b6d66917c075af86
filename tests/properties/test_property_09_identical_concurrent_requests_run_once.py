"""Property 9: identical concurrent requests run once, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory import MemoryClock
from serve_app.cache import CACHE_NAMES, CacheName, Caches
from tests.serve_app.test_cache import ScriptedWatch

Question = tuple[CacheName, int, str]

questions = st.tuples(st.sampled_from(CACHE_NAMES), st.integers(1, 2), st.sampled_from(["day", "week"]))
steps = st.one_of(
    st.tuples(st.just("ask"), questions, st.integers(1, 30)),
    st.tuples(st.just("leave"), st.integers(0, 60)),
    st.tuples(st.just("turns"), st.integers(1, 4)),
    st.tuples(st.just("observed")),
)


@settings(max_examples=300, deadline=None)
@given(script=st.lists(steps, min_size=1, max_size=25), observed=st.booleans(), fails=st.booleans())
async def test_identical_concurrent_requests_run_once(  # noqa: C901 - one case a step
    script: list[tuple[object, ...]], observed: bool, fails: bool
) -> None:
    """One load a question, and its one answer (or its one failure) for all who have not left."""
    watch = ScriptedWatch()
    watch.up = observed
    watch.answering.clear()
    caches = Caches(MemoryClock(), watch)
    begun: Counter[Question] = Counter()
    gate = asyncio.Event()
    asking: list[tuple[Question, asyncio.Task[object]]] = []
    left: set[int] = set()

    def ask(question: Question) -> asyncio.Task[object]:
        async def load() -> object:
            begun[question] += 1
            await gate.wait()
            if fails:
                raise ZeroDivisionError
            return object()

        return asyncio.create_task(caches.get(*question, load))

    for what, *arguments in script:
        match what, arguments:
            case "ask", [question, times]:
                asking += [(question, ask(question)) for _ in range(times)]
            case "leave", [number] if number < len(asking) and not asking[number][1].done():
                asking[number][1].cancel()
                left.add(number)
            case "turns", [turns]:
                for _ in range(turns):
                    await asyncio.sleep(0)
            case "observed", []:
                watch.answering.set()
    for _ in range(3):
        await asyncio.sleep(0)  # everybody has asked
    watch.answering.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*(task for _, task in asking), return_exceptions=True)
    answers: dict[Question, object] = {}
    for number, ((question, _), result) in enumerate(zip(asking, results, strict=True)):
        if number in left:
            assert isinstance(result, asyncio.CancelledError)
            continue
        assert isinstance(result, ZeroDivisionError) == fails
        assert answers.setdefault(question, result) is result
    assert set(begun.values()) <= {1}
    assert begun.keys() >= answers.keys()
