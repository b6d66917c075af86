"""A replica whose tasks cannot go on, or whose event loop is held up, says so wherever it is asked."""

from __future__ import annotations

import pytest

from domain.errors import ReplicaAiling
from serve_app.replica_health import LOOK_EVERY_S, WINDOW_S, LoopWatch, check_health
from tasks import SupervisedTasks
from tests.serve_app.scripted_host import until
from tests.serve_app.web import Web


async def test_a_replica_with_a_task_that_cannot_go_on_is_not_well(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its health, what operators see, and what Serve asks before it replaces a replica: all name the task."""
    await check_health(None)
    monkeypatch.setattr("tasks.FIRST_BACKOFF_S", 0)
    tasks = SupervisedTasks("clerk")

    async def broken() -> None:
        raise RuntimeError

    tasks.keep("write", broken)
    await until(tasks.ailing)
    web.clock.advance(1_000)
    answer = await web.browser.get("/health")
    assert (answer.status_code, answer.json()["ailing"]) == (503, ["clerk: write"])
    operator = await web.browser_of_role("operator")
    [replica] = (await operator.get("/api/network")).json()["replicas"]
    assert (replica["kind"], replica["ailing"]) == ("api", ["clerk: write"])
    assert 'guildhall_replica_ailing_tasks{replica="replica"} 1.0' in (await web.browser.get("/metrics")).text
    with pytest.raises(ReplicaAiling, match="clerk: write"):
        await check_health(None)
    await tasks.stop()
    web.clock.advance(1_000)
    assert (await web.browser.get("/health")).status_code == 200


async def test_how_long_the_loop_was_held_up_is_told_for_a_while() -> None:
    """The longest time of the last minute, or two."""
    now_s = 100.0
    watch = LoopWatch(lambda: now_s)
    for blocked_s in (0.0, 3.0, 0.5):
        now_s += LOOK_EVERY_S + blocked_s
        await watch.look()
    assert watch.blocked_ms == 3_000
    for expected in (3_000, 0):
        for _ in range(int(WINDOW_S / LOOK_EVERY_S) + 1):
            now_s += LOOK_EVERY_S
            await watch.look()
        assert watch.blocked_ms == expected
