"""A shard runner: what it sees it reports, and what it does about it too."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Sequence

import pytest

from actors import shard_runner
from actors.delivery import LaneSettings
from actors.outbox import OutboxSettings
from actors.shard_runner import DELETERS, RunnerPlace, RunnerSettings, ShardRunner
from actors.spool_writer import WriterSettings
from adapters.memory import MemoryBot, MemoryClock, MemoryDatabase, MemoryGuildStore, MemorySpool
from adapters.memory.samples import NOON_MS, described, message
from domain.authority import AuthorityNotice, MemberAuthority
from domain.detection import DetectionRules, Detector, Message
from domain.errors import BotRefused
from domain.events import ActionSettled, Batch, Gap, MessagesCounted, ViolationDetected, decode_batch
from domain.gateway_hearing import ShardHeard
from domain.ids import violation_id
from domain.ports import NodeRef, SpoolChanges
from tests.actors.hosts import Director, RecordingHost, settled, until

QUICK = OutboxSettings(
    LaneSettings(batch_wait_s=0, count_wait_s=0, first_retry_s=0.001),
    writer=WriterSettings(alive_every_s=0.002, retry_s=0.001),
)
INVITE = "come to discord.gg/abcdef"


class RecordingAuthority:
    """Remembers what it heard; ``problem`` is raised instead."""

    def __init__(self) -> None:
        self.notices: list[AuthorityNotice] = []
        self.problem: Exception | None = None

    async def heard(self, notices: list[AuthorityNotice], shards: Sequence[ShardHeard] = ()) -> None:
        del shards
        if self.problem is not None:
            raise self.problem
        self.notices += notices


class Runner:
    """A runner that speaks to one recording host."""

    def __init__(
        self,
        clock: MemoryClock,
        spool: MemorySpool | None = None,
        bot: MemoryBot | None = None,
        database: MemoryDatabase | None = None,
    ) -> None:
        self.ended, self.clock = asyncio.Event(), clock
        self.bot, self.host = bot or MemoryBot(), RecordingHost()
        self.spool = spool or MemorySpool()
        self.authority = RecordingAuthority()
        director = Director({"h0": self.host}, store=MemoryGuildStore(database or MemoryDatabase(clock)))
        self.actor = ShardRunner(
            RunnerSettings("r0", outbox=QUICK),
            lambda: self.bot,
            lambda: director,
            re.compile,
            clock,
            lambda: self.spool,
            lambda: self.authority,
            RunnerPlace(lambda: NodeRef("node", "10.0.0.1"), self.ended.set),
        )

    async def start(self) -> None:
        await self.actor.start(self.clock())

    async def flush(self) -> None:
        await asyncio.wait_for(self.actor._outbox.flush(), 5)

    async def kill(self) -> None:
        """End it in the middle of whatever it does."""
        outbox = self.actor._outbox
        tasks = [*(lane.task for lane in outbox._lanes.values()), *self.actor._deleters._tasks]
        tasks += [outbox._writer.task] if outbox._writer.task else []
        tasks += self.actor._tasks._tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def heartbeats(self, times: int = 2) -> None:
        """Return when the spool was written to so often."""
        goal = self.spool.writes + times
        await until(lambda: self.spool.writes >= goal)

    def gaps(self) -> list[Gap]:
        return [gap for batch in self.host.batches for gap in batch.gaps]

    def of(self, kind: type) -> list[object]:
        return [event for event in self.host.events if isinstance(event, kind)]


@pytest.fixture
async def runner(clock: MemoryClock) -> AsyncIterator[Runner]:
    runner = Runner(clock)
    await runner.start()
    yield runner
    await runner.actor.stop("the test is over")


async def test_a_harmless_message_is_counted(runner: Runner) -> None:
    """And nothing else is said of it."""
    runner.bot.post(message(1))
    await runner.flush()
    assert runner.host.events == [MessagesCounted(1, NOON_MS, 1)]
    assert runner.host.batches[0].source == f"r0@{NOON_MS}>h0"


async def test_a_loop_that_cannot_go_on_is_named(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the runner is replaced; one that broke once goes on as if nothing had been."""
    runner.bot.post(message(1))
    await runner.flush()
    assert (await runner.actor.stats()).ailing == ()
    lane = runner.actor._outbox._lane("h0")
    step, broken = lane._step, 0

    async def breaks() -> None:
        nonlocal broken
        broken += 1
        raise RuntimeError

    monkeypatch.setattr(lane, "_step", breaks)
    runner.bot.post(message(1))
    await until(lambda: broken == 1)
    assert (await runner.actor.stats()).ailing == ()
    await until(lambda: broken == 4)
    assert (await runner.actor.stats()).ailing == ("lane to h0",)
    monkeypatch.setattr(lane, "_step", step)
    await runner.flush()


async def test_who_loses_authority_is_told_beside_the_events(runner: Runner) -> None:
    """At once, and to another actor than a guild's host."""
    left = MemberAuthority(1, 7, NOON_MS, None)
    runner.bot.tell_authority(left)
    await until(lambda: runner.authority.notices == [left])
    assert runner.host.events == []


async def test_a_violation_is_reported_before_its_deletion_ends(runner: Runner, clock: MemoryClock) -> None:
    """Moderators see it as pending at once; the answer of Discord follows, with its time."""
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
    clock.advance(250)
    let_go.set()
    await settled()
    await runner.flush()
    assert runner.of(ActionSettled) == [ActionSettled(1, violation.event_id, NOON_MS, "done", NOON_MS + 250)]
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
    await runner.start()
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
    """Events that wait go out; the next life deletes what was still to be deleted."""
    runner = Runner(clock)
    await runner.start()
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
    assert runner.of(ActionSettled) == []
    again = Runner(clock, runner.spool)
    await again.start()
    await until(lambda: len(again.bot.deleted) == DELETERS + 2)
    await again.actor.stop("the test is over")


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
        await runner.start()
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


async def test_a_first_life_missed_nothing(runner: Runner) -> None:
    """Nobody was there to hear what was before."""
    await runner.flush()
    assert runner.gaps() == []


async def test_a_killed_runner_was_blind_from_where_its_hearing_ended(clock: MemoryClock) -> None:
    """Its heartbeat says what its shards heard, not that it lives; the next life tells the time since."""
    runner = Runner(clock)
    await runner.start()
    runner.bot.heard_ms = NOON_MS + 5_000
    await until(lambda: runner.spool.alive_ms == NOON_MS + 5_000)
    clock.advance(60_000)  # a shard is cut off, and the others go on
    runner.bot.post(message(1))
    await runner.flush()
    await runner.heartbeats()
    assert runner.spool.alive_ms == NOON_MS + 5_000
    await runner.kill()
    clock.advance(30_000)
    again = Runner(clock, runner.spool)
    again.bot.heard_ms = clock()
    await again.start()
    await again.flush()
    assert again.gaps() == [Gap(NOON_MS + 5_000, NOON_MS + 90_000, 0, "blind")]
    await until(lambda: again.spool.alive_ms == NOON_MS + 90_000)
    await again.actor.stop("the test is over")


async def test_a_life_that_never_listened_takes_nothing_from_the_one_before(clock: MemoryClock) -> None:
    """Killed before Discord has described the guilds: the time since the last one that did is told later."""
    spool = MemorySpool()
    spool.alive_ms = NOON_MS
    clock.advance(1_000)
    refused = Runner(clock, spool)
    refused.bot.refusal = "not now"
    with pytest.raises(BotRefused):
        await refused.start()
    refused.bot.heard_ms = clock()
    await asyncio.wait_for(refused.actor._outbox._writer.written(), 5)
    await refused.kill()
    assert spool.alive_ms == NOON_MS
    clock.advance(1_000)
    again = Runner(clock, spool)
    again.bot.heard_ms = clock()
    await again.start()
    await again.flush()
    assert again.gaps() == [Gap(NOON_MS, NOON_MS + 2_000, 0, "blind")]
    await again.actor.stop("the test is over")


async def test_a_missed_time_is_on_disk_before_the_heartbeat_passes_it(clock: MemoryClock) -> None:
    """Whenever it is killed, either the gap is there or the next life tells it."""

    class Spool(MemorySpool):
        """Notes what is there whenever the heartbeat moves."""

        noted: list[tuple[int, list[Gap]]]

        async def write(self, changes: SpoolChanges) -> None:
            moved = changes.alive_ms != self.alive_ms
            await super().write(changes)
            if moved and self.alive_ms is not None:
                there = [gap for _, payload in self.batches.values() for gap in decode_batch(payload).gaps]
                self.noted.append((self.alive_ms, there))

    spool = Spool()
    spool.noted = []
    runner = Runner(clock, spool)
    runner.host.open.clear()
    await runner.start()
    await until(lambda: len(spool.noted) == 1)
    gap = Gap(NOON_MS, NOON_MS + 7_000, 0, "blind")
    runner.bot.miss(gap)
    await until(lambda: len(spool.noted) == 2)
    assert spool.noted == [(NOON_MS, []), (NOON_MS + 7_000, [gap])]
    runner.host.open.set()
    await runner.flush()
    assert runner.gaps() == [gap]
    await runner.actor.stop("the test is over")


async def test_a_stopped_runner_hears_nothing_any_more(clock: MemoryClock) -> None:
    """What comes while it delivers the last events, and later, the next life tells as missed."""
    runner = Runner(clock)
    runner.host.open.clear()
    await runner.start()
    runner.bot.post(message(1))
    await runner.host.got(1)
    stopping = asyncio.create_task(runner.actor.stop("shutdown"))
    await until(lambda: not runner.bot.connected)
    clock.advance(4_000)
    await runner.heartbeats()
    runner.host.open.set()
    await stopping
    assert runner.spool.alive_ms == NOON_MS


@pytest.mark.parametrize("seed", range(20))
async def test_a_runner_that_is_killed_goes_on_where_its_disk_stands(clock: MemoryClock, seed: int) -> None:
    """Killed again and again, host well or busy: each violation is one, and each message is counted once."""
    chance, spool, bot = random.Random(seed), MemorySpool(), MemoryBot()
    bot.keeps_session = True
    taken: dict[tuple[str, int], Batch] = {}
    said = 0
    for life in range(5):
        runner = Runner(clock, spool, bot)
        runner.host.open.set() if chance.random() < 0.5 or life == 4 else runner.host.open.clear()
        clock.advance(1)  # each life is a source of its own
        await runner.start()
        for _ in range(chance.randint(1, 12)):
            said += 1
            text = chance.choice((INVITE, f"nothing but {said}", "the same as ever"))
            bot.post(message(chance.randint(1, 3), said, text))
            if chance.random() < 0.5:
                await asyncio.sleep(chance.choice((0, 0.001, 0.003)))
        if life == 4:
            await runner.flush()
            await runner.actor.stop("the test is over")
        else:
            await runner.kill()
        # What reached a host was taken, also where its answer was lost.
        taken |= {(batch.source, batch.number): batch for batch in runner.host.batches}
        assert runner.gaps() == []
    events = [event for batch in taken.values() for event in batch.events]
    counted = sum(event.count for event in events if isinstance(event, MessagesCounted))
    assert counted == said
    detector = Detector(DetectionRules(), re.compile)
    posts = [post for post in bot.told if isinstance(post, Message)]
    offences = [post.message_id for post in posts if detector.inspect(post) is not None]
    told = [event.message_id for event in events if isinstance(event, ViolationDetected)]
    assert sorted(told) == offences


async def test_what_was_to_be_deleted_the_next_life_deletes(clock: MemoryClock) -> None:
    """No violation stays pending because the runner died; one whose outcome is on disk is left alone."""
    runner = Runner(clock)
    await runner.start()
    never = asyncio.Event()

    async def forever(_: int, __: int) -> bool:
        return await never.wait()

    runner.bot.on_delete = forever
    for number in range(1, DELETERS + 3):
        runner.bot.post(message(1, number, INVITE))
    await runner.flush()
    await runner.heartbeats()
    await runner.kill()
    clock.advance(1)
    again = Runner(clock, runner.spool)
    await again.start()
    await until(lambda: len(again.bot.deleted) == DELETERS + 2)
    await settled()
    await again.flush()
    assert [event.status for event in again.of(ActionSettled)] == ["done"] * (DELETERS + 2)  # type: ignore[attr-defined]
    clock.advance(60_000)
    await again.heartbeats()
    await again.kill()
    last = Runner(clock, runner.spool)
    await last.start()
    await settled()
    assert last.bot.deleted == []
    await last.actor.stop("the test is over")
