"""A start that takes long says how far it is; one that Discord refuses says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from actors.outbox import OutboxStats
from actors.shard_runner import RunnerStats
from domain.errors import BotRefused
from domain.network import ShardsView
from domain.ports import BotProgress
from guildhall.connecting import progress_line, until_connected
from guildhall.stages import Stages


class Runner:
    def __init__(self, progress: Callable[[], BotProgress]) -> None:
        self.progress = progress

    async def stats(self) -> RunnerStats:
        return RunnerStats(0, 0, 0, OutboxStats(0, 0, 0, 0), self.progress())


class Lines(Stages):
    """Keeps what it is to say."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str = "") -> None:
        self.said.append(line)


async def connect(progress: Callable[[], BotProgress], shard_count: int) -> list[str]:
    async def find() -> Mapping[str, Runner]:
        return {"r0": Runner(progress)}

    lines = Lines()
    await until_connected(lines, shard_count, find, look_every_s=0, first_word_s=0)
    return lines.said


async def test_it_waits_until_all_are_connected() -> None:
    """And says how many are, and how long the rest takes."""
    seen = iter((0, 40, 64))
    said = await connect(lambda: BotProgress(64, next(seen), 1, "its turn"), 64)
    assert said == ["  0 of 64 shards are connected; about 6 min to go (waiting for its turn)."]


async def test_a_refusal_ends_the_wait() -> None:
    """With Discord's reason."""
    with pytest.raises(BotRefused, match="let in 3 times"):
        await connect(lambda: BotProgress(2, 1, refusal="Shard 1 was let in 3 times …"), 2)


def test_days_without_session_starts_are_told() -> None:
    """In hours, when it takes hours."""
    view = ShardsView(total=8, connected=3, expected_s=7_500, waits_for="new session starts")
    line = progress_line(view, 16)
    assert line == "  3 of 16 shards are connected; about 2 h 5 min to go (waiting for new session starts)."
