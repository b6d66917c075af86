"""Tasks with an owner: what breaks begins anew, what cannot go on is named, and all end together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tasks import SupervisedTasks
from tests.simulation.virtual_loop import VirtualLoop


def run(scenario: Callable[[SupervisedTasks], Awaitable[None]]) -> None:
    loop = VirtualLoop(random.Random(1))
    loop.ends_at = 10_000.0

    async def play() -> None:
        tasks = SupervisedTasks("test")
        await scenario(tasks)
        await tasks.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    try:
        loop.run_until_complete(play())
        assert loop.broken == []
    finally:
        loop.close()


def test_a_loop_that_breaks_or_ends_begins_anew() -> None:
    """Soon at first; one that never holds is named, and no longer once it does."""

    async def scenario(tasks: SupervisedTasks) -> None:
        begun: list[float] = []
        well = False

        async def work() -> None:
            begun.append(asyncio.get_running_loop().time())
            if well:
                await asyncio.sleep(100)
                return
            raise RuntimeError

        tasks.keep("work", work)
        await asyncio.sleep(0.25)
        assert len(begun) == 2
        assert tasks.ailing() == ()
        await asyncio.sleep(60)
        assert tasks.ailing() == ("work",)
        assert 8 < len(begun) < 15
        well = True
        await asyncio.sleep(80)
        assert tasks.ailing() == ()
        await asyncio.sleep(220)
        assert tasks.ailing() == ()

    run(scenario)


def test_a_round_that_breaks_does_not_end_the_rounds() -> None:
    async def scenario(tasks: SupervisedTasks) -> None:
        rounds = 0

        async def work() -> None:
            nonlocal rounds
            rounds += 1
            if rounds % 2:
                raise RuntimeError

        tasks.every("work", 1, work)
        await asyncio.sleep(60)
        assert rounds > 50
        assert tasks.ailing() == ()

    run(scenario)


def test_a_round_that_hangs_is_named() -> None:
    async def scenario(tasks: SupervisedTasks) -> None:
        async def work() -> None:
            await asyncio.Event().wait()

        tasks.every("work", 1, work)
        await asyncio.sleep(10)
        assert tasks.ailing() == ()
        await asyncio.sleep(5)
        assert tasks.ailing() == ("work",)

    run(scenario)


def test_a_loop_that_may_end_begins_anew_only_when_it_breaks() -> None:
    async def scenario(tasks: SupervisedTasks) -> None:
        begun = 0

        async def work() -> None:
            nonlocal begun
            begun += 1
            if begun < 3:
                raise RuntimeError

        await tasks.keep("work", work, may_end=True)
        assert begun == 3
        assert len(tasks) == 0
        assert tasks.ailing() == ()

    run(scenario)


def test_what_ends_by_itself_may_break() -> None:
    """It is logged, and nothing else happens."""

    async def scenario(tasks: SupervisedTasks) -> None:
        async def work() -> None:
            raise RuntimeError

        await tasks.spawn("work", work())
        assert tasks.ailing() == ()

    run(scenario)
