"""A shard runner: what it sees it reports, and what it does about it too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from actors import shard_runner
from actors.delivery import LaneSettings
from actors.outbox import OutboxSettings
from actors.shard_runner import DELETERS, RunnerSettings, ShardRunner
from adapters.memory import MemoryBot, MemoryClock, MemorySpool
from adapters.memory.samples import NOON_MS, described, message
from domain.errors import BotRefused
from domain.events import ActionSettled, MessagesCounted, ViolationDetected
from domain.ids import violation_id
from tests.actors.hosts import Director, RecordingHost, settled

QUICK = OutboxSettings(LaneSettings(batch_wait_s=0, count_wait_s=0, first_retry_s=0.001))
INVITE = "come to discord.gg/abcdef"


class Runner:
    """A runner that speaks to one recording host."""

    def __init__(self, clock: MemoryClock) -> None:
        self.bot, self.host = MemoryBot(), RecordingHost()
        self.spool = MemorySpool()
        director = Director({"h0": self.host})
        self.actor = ShardRunner(
            RunnerSettings("r0", outbox=QUICK),
            lambda: self.bot,
            lambda: director,
            re.compile,
            clock,
            lambda: self.spool,
        )

    async def flush(self) -> None:
        await asyncio.wait_for(self.actor._outbox.flush(), 5)

    def of(self, kind: type) -> list[object]:
        return [event for event in self.host.events if isinstance(event, kind)]


@pytest.fixture
async def runner(clock: MemoryClock) -> AsyncIterator[Runner]:
    runner = Runner(clock)
    await runner.actor.start()
    yield runner
    await runner.actor.stop("the test is over")


async def test_a_harmless_message_is_counted(runner: Runner) -> None:
    """And nothing else is said of it."""
    runner.bot.post(message(1))
    await runner.flush()
    assert runner.host.events == [MessagesCounted(1, NOON_MS, 1)]
    assert runner.host.batches[0].source == f"r0@{NOON_MS}>h0"


async def test_a_violation_is_reported_before_its_deletion_ends(runner: Runner) -> None:
    """Moderators see it as pending at once; the answer of Discord follows."""
    let_go = asyncio.Event()

    async def slowly(_: int, __: int) -> bool:
        await let_go.wait()
        return True

    runner.bot.on_delete = slowly
    runner.bot.post(message(1, 42, INVITE))
    await runner.flush()
    [violation] = runner.of(ViolationDetected)
    assert isinstance(violation, ViolationDetected)
    assert violation.event_id == violation_id(1, 42, "invite-links")
    assert (violation.action, violation.action_status) == ("delete", "pending")
    assert (violation.detection, violation.ts_ms) == ("invite_link", NOON_MS)
    assert runner.of(ActionSettled) == []
    let_go.set()
    await settled()
    await runner.flush()
    assert runner.of(ActionSettled) == [ActionSettled(1, violation.event_id, NOON_MS, "done")]
    assert runner.bot.deleted == [(7, 42)]


@pytest.mark.parametrize("how", ["refused", "broke"])
async def test_a_failed_deletion_is_told(runner: Runner, how: str) -> None:
    """Refused by Discord or broken on the way: the message is still there, and the next one is tried."""

    async def fail(_: int, message_id: int) -> bool:
        if how == "broke" and message_id == 1:
            raise RuntimeError
        return message_id != 1

    runner.bot.on_delete = fail
    runner.bot.post(message(1, 1, INVITE))
    runner.bot.post(message(1, 2, INVITE))
    await settled()
    await runner.flush()
    assert [event.status for event in runner.of(ActionSettled)] == ["failed", "done"]  # type: ignore[attr-defined]


async def test_a_full_deletion_queue_fails_what_does_not_fit(
    clock: MemoryClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded; beyond it a violation is settled as failed, at once."""
    monkeypatch.setattr(shard_runner, "MAX_WAITING_DELETIONS", 2)
    runner = Runner(clock)
    await runner.actor.start()
    let_go = asyncio.Event()

    async def slowly(_: int, __: int) -> bool:
        await let_go.wait()
        return True

    runner.bot.on_delete = slowly
    for number in range(1, DELETERS + 1):
        runner.bot.post(message(1, number, INVITE))
        await settled()
    for number in range(100, 103):
        runner.bot.post(message(1, number, INVITE))
    await runner.flush()
    failed = [event.event_id for event in runner.of(ActionSettled)]  # type: ignore[attr-defined]
    assert failed == [violation_id(1, 102, "invite-links")]
    assert (await runner.actor.stats()).deletions_waiting == 2
    let_go.set()
    await settled()
    await runner.actor.stop("the test is over")
    assert len(runner.of(ActionSettled)) == DELETERS + 3


async def test_stopping_delivers_what_is_left(clock: MemoryClock) -> None:
    """Events that wait go out; deletions that cannot be made any more are told as failed."""
    runner = Runner(clock)
    await runner.actor.start()
    never = asyncio.Event()

    async def forever(_: int, __: int) -> bool:
        return await never.wait()

    runner.bot.on_delete = forever
    for number in range(1, DELETERS + 3):
        runner.bot.post(message(1, number, INVITE))
    await settled()
    await runner.actor.stop("shutdown")
    assert not runner.bot.connected
    assert len(runner.of(ViolationDetected)) == DELETERS + 2
    assert [event.status for event in runner.of(ActionSettled)] == ["failed"] * (DELETERS + 2)  # type: ignore[attr-defined]
    assert (await runner.actor.stats()).outbox.waiting_events == 0


async def test_what_happens_in_a_guild_is_reported_as_it_is(runner: Runner) -> None:
    """In Discord's order."""
    runner.bot.tell(described(1))
    runner.bot.tell(described(1, name="Renamed"))
    await runner.flush()
    assert runner.host.events == [described(1), described(1, name="Renamed")]


async def test_a_refused_bot_is_said_so(clock: MemoryClock) -> None:
    """The sentence reaches whoever started the runner."""
    runner = Runner(clock)
    runner.bot.refusal = "the token is wrong"
    with pytest.raises(BotRefused, match="the token is wrong"):
        await runner.actor.start()
    await runner.actor.stop("refused")


async def test_what_it_saw_can_be_asked(runner: Runner) -> None:
    """Messages and violations, and what went out."""
    runner.bot.post(message(1, 1))
    runner.bot.post(message(1, 2, INVITE))
    await settled()
    await runner.flush()
    stats = await runner.actor.stats()
    assert (stats.messages, stats.violations, stats.deletions_waiting) == (2, 1, 0)
    assert stats.outbox.lost_events == 0
