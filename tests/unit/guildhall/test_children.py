"""What the supervisor makes of what its children say of themselves."""

from __future__ import annotations

from typing import cast

import pytest

from actors.handles import RunnerHandle
from actors.outbox import OutboxStats
from actors.shard_runner import RunnerStats
from actors.supervisor import Complaint
from domain.errors import HostUnreachable, StoreUnavailable
from domain.ports import BotProgress, NodeRef, RunnerRow
from guildhall.children import TRIES_WITH_SPOOL, RunnerChild


class Runner:
    """A runner that says what it was told to."""

    def __init__(self, progress: BotProgress, ailing: tuple[str, ...]) -> None:
        self.begins = True
        self.lives: list[int] = []
        self._stats = RunnerStats(0, 0, 0, OutboxStats(0, 0, 0, 0), progress, ailing)

    async def ping(self) -> None:
        if not self.begins:
            raise HostUnreachable

    async def start(self, incarnation: int) -> None:
        self.lives.append(incarnation)

    async def stats(self) -> RunnerStats:
        return self._stats


async def nobody(_: str) -> RunnerRow | None:
    return None


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
    child = RunnerChild("r0", (0, 1), lambda _: cast("RunnerHandle", Runner(progress, ailing)), nobody)
    await child.start()
    assert await child.probe() == complaint


async def test_a_runner_begins_where_its_spool_is() -> None:
    """Also while nobody can say where; only where no process begins at all is it begun anywhere else."""
    here = NodeRef("n1", "10.0.0.1")
    ahead = 1 << 50
    row: RunnerRow | None = RunnerRow(ahead, "spool", here, 0)
    runner = Runner(BotProgress(2, 2), ())
    asked: list[NodeRef | None] = []

    async def find(_: str) -> RunnerRow | None:
        if row is None:
            raise StoreUnavailable
        return row

    def create(node: NodeRef | None) -> RunnerHandle:
        asked.append(node)
        return cast("RunnerHandle", runner)

    child = RunnerChild("r0", (0, 1), create, find)
    await child.start()
    row = None
    await child.start()
    runner.begins = False
    for _ in range(TRIES_WITH_SPOOL + 1):
        with pytest.raises(HostUnreachable):
            await child.start()
    assert runner.lives == [ahead + 1, ahead + 2]  # whatever this machine's clock says
    assert asked == [here] * (2 + TRIES_WITH_SPOOL) + [None]
