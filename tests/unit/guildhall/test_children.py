"""What the supervisor makes of what its children say of themselves."""

from __future__ import annotations

from typing import cast

import pytest

from actors.handles import RunnerHandle
from actors.outbox import OutboxStats
from actors.shard_runner import RunnerStats
from actors.supervisor import Complaint
from domain.ports import BotProgress
from guildhall.children import RunnerChild


class Runner:
    """A runner that says what it was told to."""

    def __init__(self, progress: BotProgress, ailing: tuple[str, ...]) -> None:
        self._stats = RunnerStats(0, 0, 0, OutboxStats(0, 0, 0, 0), progress, ailing)

    async def start(self) -> None:
        pass

    async def stats(self) -> RunnerStats:
        return self._stats


@pytest.mark.parametrize(
    ("progress", "ailing", "complaint"),
    [
        (BotProgress(2, 2), (), None),
        (BotProgress(2, 2), ("lane to h0",), Complaint("It cannot go on with: lane to h0.")),
        (BotProgress(2, 1), (), Complaint("1 of 2 shards are connected.")),
        (BotProgress(2, 1, waits_for="its turn"), (), Complaint("1 of 2 shards are connected.", waits=True)),
        (BotProgress(2, 1, refusal="No."), ("spool",), Complaint("No.")),
    ],
)
async def test_a_runner_is_as_well_as_it_says(
    progress: BotProgress, ailing: tuple[str, ...], complaint: Complaint | None
) -> None:
    """A refusal says more than a loop that cannot go on, and that more than shards that are away."""
    child = RunnerChild("r0", (0, 1), lambda: cast("RunnerHandle", Runner(progress, ailing)))
    await child.start()
    assert await child.probe() == complaint
