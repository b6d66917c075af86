"""A shard runner without its Discord: the outbox, and the books of what it was given in each life."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from uuid import UUID

import msgspec

from actors.delivery import LaneSettings
from actors.outbox import Outbox, OutboxSettings
from actors.registration import Registration
from actors.routing import GuildDirectory
from actors.sender_fence import SenderFence
from actors.spool_index import SpoolBounds
from actors.spool_writer import WriterSettings
from adapters.memory import MemoryDatabase, MemorySpool
from adapters.memory.samples import NOON_MS, described, person, violation
from domain.errors import GuildhallError
from domain.events import (
    ActionSettled,
    BotPresenceChanged,
    Event,
    Gap,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    ViolationDetected,
    decode_batch,
)
from domain.ids import HOUR_MS
from domain.ports import NodeRef, RunnerLife
from tests.simulation.disk import SimulatedSpool
from tests.simulation.network import DirectorHandle, Network
from tests.simulation.virtual_loop import Process, VirtualLoop

MEMBERS = 1_000
SEVERITIES = ("low", "medium", "high", "critical")

NODE = NodeRef("a node", "10.0.0.1")
NOTE_EVERY_S = 1.0

Key = tuple[str, int]
"""(what is counted, guild)."""


class Life(msgspec.Struct):
    """What one life of a runner was given, and what its end may have cost.

    Counts have no ids. So each life counts in an hour of its own, and the rollups tell them apart.
    """

    hour_ms: int
    counts: Counter[Key] = msgspec.field(default_factory=Counter)
    violations: dict[UUID, ViolationDetected] = msgspec.field(default_factory=dict)
    settled: dict[UUID, str] = msgspec.field(default_factory=dict)
    poison: set[UUID] = msgspec.field(default_factory=set)
    blind: Gap | None = None
    safe: Counter[Key] | None = None
    """Once killed: what was durable in the store or on its disk. Until then everything is to arrive."""
    safe_ids: set[UUID] = msgspec.field(default_factory=set)
    lost_events: int = 0


class Told:
    """What Discord told, to be told to every life that listens."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._messages: list[tuple[int, int]] = []

    def add(self, event: Event) -> None:
        self._events.append(event)

    def count_message(self, guild_id: int, ts_ms: int) -> None:
        self._messages.append((guild_id, ts_ms))

    def tell(self, outbox: Outbox) -> None:
        for event in self._events:
            outbox.add(event)
        for message in self._messages:
            outbox.count_message(*message)


class Leftover(msgspec.Struct):
    """A life that goes on although another was begun in its place, and its disk."""

    process: Process
    outbox: Outbox
    disk: MemorySpool


class Runner:
    """One runner's name, over all its lives."""

    def __init__(
        self,
        *,
        name: str,
        guilds: list[int],
        loop: VirtualLoop,
        network: Network,
        director: DirectorHandle,
        database: MemoryDatabase,
        chance: random.Random,
        hours: list[int],
    ) -> None:
        self.name = name
        self.guilds = guilds
        self.lives: list[Life] = []
        self.process: Process | None = None
        self.outbox: Outbox | None = None
        self.disk = MemorySpool()
        self.disks = [self.disk]
        self.leftovers: list[Leftover] = []
        self.processes: list[Process] = []
        self._incarnation = 0
        self.moves = 0
        """How often a life began without the disk of the one before."""
        self.wrong: list[str] = []
        self._keeping: asyncio.Task[None]
        self._loop = loop
        self._network = network
        self._director = director
        self._database = database
        self._chance = chance
        self._hours = hours
        self._messages = 0
        self.stopping = False
        self._open: list[ViolationDetected] = []
        few = network.faults.small_spool
        self._settings = OutboxSettings(
            lane=LaneSettings(
                batch_events=chance.choice((3, 10, 500)),
                waiting_events=chance.choice((5, 50, 2_000)),
                longest_retry_s=1.0,
                spool_after_s=chance.choice((0.05, 0.3, 1.0)),
            ),
            spool=SpoolBounds(bytes_in_all=1_500) if few else SpoolBounds(),
            writer=WriterSettings(alive_every_s=1.0, retry_s=0.2),
        )

    async def start(self) -> None:
        """Begin a life, as ``ShardRunner.start`` does; one that fails is ended, and the next one tried."""
        while True:
            process = self.process = Process(f"{self.name}.{len(self.lives)}", self._loop)
            self.processes.append(process)
            try:
                await self._loop.create_task(self._start(process), context=process.context.copy())
                return  # noqa: TRY300 - an else would part it from its try
            except (GuildhallError, TimeoutError):
                process.kill()
                self._note_lost()
                await asyncio.sleep(0.3)

    async def _start(self, process: Process) -> None:
        self._incarnation = incarnation = max(self._now_ms(), self._incarnation + 1)
        directory = GuildDirectory(self._director)
        while True:
            try:
                await directory.start()
                break
            except Exception:  # noqa: BLE001 - the Director may be away; Discord waits
                await asyncio.sleep(0.3)
        source = f"{self.name}@{self._now_ms()}"
        spool = SimulatedSpool(self.disk, self._network, self._chance)
        fence = SenderFence()
        outbox = Outbox(source, directory, spool, self._now_ms, self._settings, fence)
        registration = Registration(RunnerLife(self.name, incarnation, NODE), self._director, outbox, fence)
        alive_ms = (await registration.begin()).heard_until_ms
        life = Life(self._hours.pop())
        self._keeping = asyncio.create_task(self._keep(process, registration, fence))
        self.lives.append(life)
        self.outbox = outbox
        if not self._network.faults.small_spool:
            for guild_id in self.guilds:
                outbox.add(described(guild_id, member_count=MEMBERS + len(self.lives)))
        if alive_ms is not None:
            life.blind = Gap(alive_ms, max(alive_ms, self._now_ms()), 0, f"blind {process.name}")
            outbox.report(life.blind)
        outbox.listening()

    async def _keep(self, process: Process, registration: Registration, fence: SenderFence) -> None:
        """Do what ``ShardRunner`` does meanwhile, and end as it does."""
        superseded = registration._superseded
        while not fence.replaced.is_set():
            await registration.keep()
            if registration._superseded and not superseded:
                superseded = True
                for life in self.lives:
                    self._note_stored(life)
            await asyncio.sleep(NOTE_EVERY_S)
        if process is self.process:
            self.wrong.append(f"{process.name} was replaced by nobody")
        self._network.later(0.0, process.kill)

    def leave(self, *, goes_on: bool) -> Process | None:
        """Have the next life begin with another disk; this one is killed, or goes on and knows nothing."""
        process, outbox = self.process, self.outbox
        if process is None or outbox is None or self.stopping:
            return None
        if goes_on:
            self.leftovers.append(Leftover(process, outbox, self.disk))
        else:
            process.kill()
        self.moves += 1
        self.outbox = None
        for life in self.lives:  # what any of them left on this disk is told as lost
            self._note_stored(life)
        others = [disk for disk in self.disks if disk is not self.disk]
        if not others or self._chance.random() < 0.5:
            others = [MemorySpool()]
            self.disks += others
        self.disk = self._chance.choice(others)
        for leftover in self.leftovers:
            if leftover.disk is self.disk:  # a file has one process: whoever takes it ends the other
                leftover.process.kill()
        return process

    def kill(self) -> None:
        """Kill the process, and note what that may have cost."""
        assert self.process is not None
        self.process.kill()
        self.stopping = False
        self._close_books()

    async def stop(self) -> bool:
        """End the life, all that no host took on disk; return whether it came to that."""
        outbox, process = self.outbox, self.process
        assert process is not None
        if outbox is None:
            return False
        self.stopping = True
        stopping = self._loop.create_task(outbox.stop(), context=process.context.copy())
        while not stopping.done():
            await asyncio.wait({stopping}, timeout=0.05)
            if process.dead:  # killed before it was done
                return False
        self.stopping = False
        self.lives[-1].lost_events = outbox.stats().lost_events
        process.kill()
        if self._network.faults.disk_fails:
            self._close_books()
        self.outbox = None
        self._note_lost()
        return True

    def _note_stored(self, life: Life) -> None:
        life.safe = self.stored(life)
        stored = {event_id for event_id, _ in self._database.violations}
        life.safe_ids = stored & life.violations.keys()

    def _note_lost(self) -> bool:
        """Return whether the disk is not the registered one: what is on it is told as lost."""
        row = self._database.runners.get(self.name)
        if row is None or row.spool_id == self.disk.spool_id:
            return False
        for life in self.lives:
            self._note_stored(life)
        return True

    def _close_books(self) -> None:
        """Note what of the life that just ended is durable; its numbers may lack all the rest."""
        if self.outbox is None:
            return  # it had not begun
        self.outbox = None
        life, marks = self.lives[-1], self._database.marks
        self._note_stored(life)
        if self._note_lost():
            return
        for _, payload in self.disk.batches.values():
            batch = decode_batch(payload)
            if marks.get(batch.source, 0) >= batch.number:
                continue
            for event in batch.events[marks.get(f"{batch.source}/{batch.number}", 0) :]:
                life.safe.update(_counted(event, life.hour_ms))
                if isinstance(event, ViolationDetected) and event.event_id in life.violations:
                    life.safe_ids.add(event.event_id)

    def stored(self, life: Life) -> Counter[Key]:
        """Return what the rollups hold of a life's counts."""
        found: Counter[Key] = Counter()
        for guild_id in self.guilds:
            hour = self._database.hours.get((guild_id, life.hour_ms))
            if hour is not None:
                found["messages", guild_id] = hour.messages
                found["joins", guild_id] = hour.joins
                found["leaves", guild_id] = hour.leaves
        return +found

    # -- what Discord tells -----------------------------------------------------------------------

    def hear(self) -> None:
        """Let something happen in one of the guilds."""
        if not self.stopping and self.outbox is not None and self.process is not None:
            told = Told()
            self._hear(told)
            self.process.run(told.tell, self.outbox)
            for leftover in self.leftovers:
                if not leftover.process.dead:
                    leftover.process.run(told.tell, leftover.outbox)

    def _hear(self, outbox: Told) -> None:
        life, draw = self.lives[-1], self._chance.random()
        guild_id = self._chance.choice(self.guilds)
        ts_ms = life.hour_ms + self._chance.randrange(HOUR_MS)
        if self._network.faults.small_spool or draw < 0.35:
            self._violate(outbox, life, guild_id, ts_ms)
        elif draw < 0.6:
            for _ in range(self._chance.randint(1, 5)):
                life.counts["messages", guild_id] += 1
                outbox.count_message(guild_id, ts_ms)
        elif draw < 0.7:
            life.counts["joins", guild_id] += 1
            outbox.add(MemberJoined(guild_id, person(self._chance.randint(1, 5)), ts_ms))
        elif draw < 0.77:
            life.counts["leaves", guild_id] += 1
            outbox.add(MemberLeft(guild_id, 1, ts_ms))
        elif draw < 0.83:
            outbox.add(BotPresenceChanged(guild_id, draw < 0.8, ts_ms))
        elif draw < 0.95 and self._open:
            seen = self._open.pop(self._chance.randrange(len(self._open)))
            status = "done" if self._chance.random() < 0.8 else "failed"
            life.settled[seen.event_id] = status
            outbox.add(ActionSettled(seen.guild_id, seen.event_id, seen.ts_ms, status))
        elif life.violations:
            # Discord sends again what it is not sure that we got.
            again = self._chance.choice(list(life.violations.values()))
            outbox.add(again)

    def _violate(self, outbox: Told, life: Life, guild_id: int, ts_ms: int) -> None:
        self._messages += 1
        event = violation(
            guild_id,
            self._messages,
            ts_ms=ts_ms,
            severity=self._chance.choice(SEVERITIES),
            user=person(self._chance.randint(1, 5)),
        )
        if self._network.faults.poison and self._chance.random() < 0.05:
            life.poison.add(event.event_id)
            outbox.add(msgspec.structs.replace(event, excerpt="a text with \0 in it"))
            return
        life.violations[event.event_id] = event
        self._open.append(event)
        outbox.add(event)

    def _now_ms(self) -> int:
        return NOON_MS + int(self._loop.time() * 1000)


def _counted(event: Event, hour_ms: int) -> Counter[Key]:
    match event:
        case MessagesCounted(guild_id, hour, count) if hour == hour_ms:
            return Counter({("messages", guild_id): count})
        case MemberJoined(guild_id, _, ts_ms) if ts_ms - ts_ms % HOUR_MS == hour_ms:
            return Counter({("joins", guild_id): 1})
        case MemberLeft(guild_id, _, ts_ms) if ts_ms - ts_ms % HOUR_MS == hour_ms:
            return Counter({("leaves", guild_id): 1})
    return Counter()
