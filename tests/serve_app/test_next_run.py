"""Many ask, one works."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from serve_app.next_run import NextRun


async def test_all_who_ask_meanwhile_share_the_next_run() -> None:
    """Never the one that is under way: it may have looked before they asked."""
    numbers, go = itertools.count(1), asyncio.Event()

    async def work() -> int:
        number = next(numbers)
        await go.wait()
        return number

    run = NextRun(work, 0.0)
    first = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    later = [asyncio.create_task(run()) for _ in range(50)]
    await asyncio.sleep(0.01)
    go.set()
    assert await first == 1
    assert set(await asyncio.gather(*later)) == {2}
    assert await run() == 3


async def test_runs_begin_so_far_apart() -> None:
    """However many ask, and whoever gives up."""
    loop = asyncio.get_running_loop()
    began: list[float] = []

    async def work() -> None:
        began.append(loop.time())

    run = NextRun(work, 0.05)
    impatient = asyncio.create_task(run())
    await asyncio.sleep(0)
    impatient.cancel()
    for _ in range(3):
        await asyncio.gather(*(run() for _ in range(20)))
    assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(began))
    assert len(began) <= 4


async def test_what_breaks_is_told_to_all_and_the_next_run_goes_on() -> None:
    """A run that fails holds nothing up."""
    results = iter([ValueError("broken"), None])

    async def work() -> str:
        if (problem := next(results)) is not None:
            raise problem
        return "well"

    run = NextRun(work, 0.0)
    for outcome in await asyncio.gather(run(), run(), return_exceptions=True):
        assert isinstance(outcome, ValueError)
    assert await run() == "well"
    with pytest.raises(RuntimeError):
        await run()  # an exhausted iterator: a coroutine may not raise StopIteration
