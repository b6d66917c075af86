"""The database as its clients meet it: it is away, answers get lost, commits take long or land late.

A server, so it goes on with what it was sent whoever dies meanwhile. It knows, from outside of the
code under test, which state each host's decisions stand on, and notes every commit that it should
not have been asked to make.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from adapters.memory import MemoryDatabase, MemoryGuildStore
from domain.errors import StoreUnavailable
from domain.guild import ActionRecorded, Effect, GuildChanged, HourAdvanced, ViolationRecorded
from domain.placement import Placement
from domain.ports import (
    Commit,
    Committed,
    HostRow,
    Incarnation,
    PendingDeletion,
    PoisonRow,
    RunnerLife,
    RunnerRow,
)
from tests.simulation.network import Network

UNKNOWN = -1


class Server:
    """The database's own process."""

    def __init__(self, database: MemoryDatabase, network: Network, chance: Any) -> None:
        self.database = database
        self.network = network
        self.chance = chance
        self.wrong: list[str] = []
        self.writes: Counter[int] = Counter()
        """How many commits have changed a guild."""
        self.known: dict[tuple[int, int], int] = {}
        """(incarnation, guild) to the count of writes that this life's state of the guild stands on."""
        self.open: list[tuple[Incarnation, Commit]] = []
        """Transactions that hold locks: the host's row for share, their sources' and guilds' rows."""
        self.committed_by: Counter[int] = Counter()

    async def ask(self, operation: Callable[[], Any], *, may_fail: bool = True) -> Any:
        """Send a statement; the answer is that of an await later."""
        answer = asyncio.get_running_loop().create_future()
        fails = may_fail and self.chance.random() < self.network.faults.read_fails

        def work() -> None:
            if fails or not self.database.available:
                self.reply(answer, None, StoreUnavailable("away"))
                return
            try:
                result = operation()
            except _Wait:
                self.network.later(0.02, work)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self.reply(answer, None, error)
            else:
                self.reply(answer, result, None)

        self.network.later(self.network.delay(), work)
        return await answer

    def reply(self, answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """Send an answer."""

        def arrive() -> None:
            if not answer.done():
                if error is None:
                    answer.set_result(result)
                else:
                    answer.set_exception(error)

        self.network.later(self.network.delay(), arrive)

    async def commit(  # noqa: C901 - one closure a step of the transaction
        self, incarnation: Incarnation, commit: Commit
    ) -> Committed:
        """Make a commit, or fail in one of the ways in which that happens."""
        answer = asyncio.get_running_loop().create_future()
        draw, faults = self.chance.random, self.network.faults
        fails, lost = draw() < faults.commit_fails, draw() < faults.commit_answer_lost
        slow, late = draw() < faults.commit_slow, draw() < faults.commit_late
        transaction = (incarnation, commit)

        def begin() -> None:
            if not self.database.available or fails:
                self.reply(answer, None, StoreUnavailable("away"))
            elif self._must_wait(commit):
                self.network.later(0.02, begin)
            elif self.database.hosts.get(incarnation.host_id) != incarnation.number or not (slow or late):
                finish()
            else:
                self.open.append(transaction)
                if late:
                    self.reply(answer, None, StoreUnavailable("the connection broke"))
                self.network.later(draw() * (1.5 if late else 0.3), finish)

        def finish() -> None:
            if transaction in self.open:
                self.open.remove(transaction)
            self._note_basis(incarnation, commit)
            try:
                committed = run(MemoryGuildStore(self.database).commit(incarnation, commit))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                self.reply(answer, None, error)
                return
            self._note(incarnation, heard=not (lost or late))
            if lost:
                self.reply(answer, None, StoreUnavailable("the connection broke"))
            elif not late:
                self.reply(answer, committed, None)

        self.network.later(self.network.delay(), begin)
        found: Committed = await answer
        return found

    def hold(self, host_id: str) -> None:
        """Wait for the transactions of a host's lives: its row is to change."""
        if any(incarnation.host_id == host_id for incarnation, _ in self.open):
            raise _Wait

    def read(self, incarnation: int, guild_ids: list[int]) -> None:
        """Note what a life knows of guilds from now on."""
        for guild_id in guild_ids:
            self.known[incarnation, guild_id] = self.writes[guild_id]

    def _must_wait(self, commit: Commit) -> bool:
        sources, guilds = {mark.source for mark in commit.marks}, touched(commit)
        return any(
            sources & {mark.source for mark in other.marks} or guilds & touched(other)
            for _, other in self.open
        )

    def _note_basis(self, incarnation: Incarnation, commit: Commit) -> None:
        self._basis = {
            guild_id: (self.known.get((incarnation.number, guild_id), UNKNOWN), self.writes[guild_id])
            for guild_id in touched(commit)
        }

    def _note(self, incarnation: Incarnation, *, heard: bool) -> None:
        if self.database.hosts.get(incarnation.host_id) != incarnation.number:
            self.wrong.append(f"{incarnation} wrote, but it is fenced")
        for guild_id, (known, written) in self._basis.items():
            if known != written:
                self.wrong.append(
                    f"{incarnation} wrote guild {guild_id} on top of {known} of its {written} writes"
                )
            self.writes[guild_id] += 1
            self.known[incarnation.number, guild_id] = self.writes[guild_id] if heard else UNKNOWN


class SimulatedStore:
    """One process's connection to the server; implements :class:`domain.ports.GuildStore`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._inner = MemoryGuildStore(server.database)
        self._life = UNKNOWN

    async def register_director(self) -> int:
        return await self._ask(self._inner.register_director)

    async def register_host(
        self, host_id: str, actor_name: str = "", director: int | None = None
    ) -> Incarnation:
        def register() -> Incarnation:
            self._server.hold(host_id)
            return run(self._inner.register_host(host_id, actor_name, director))

        incarnation: Incarnation = await self._server.ask(register)
        self._life = incarnation.number
        return incarnation

    async def renew_token(self, incarnation: Incarnation, known: Collection[int], token: int) -> None:
        await self._ask(self._inner.renew_token, incarnation, known, token)

    async def write_taken_back(self, host_id: str) -> None:
        await self._ask(self._inner.write_taken_back, host_id)

    async def retire_host(self, host_id: str, director: int | None = None) -> None:
        def retire() -> None:
            self._server.hold(host_id)
            run(self._inner.retire_host(host_id, director))

        await self._server.ask(retire)

    async def hosts(self) -> list[HostRow]:
        return await self._ask(self._inner.hosts)

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        return await self._ask(self._inner.find_runner, runner_id)

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        return await self._ask(self._inner.register_runner, life, spool_id, after)

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        await self._ask(self._inner.note_covered, runner_id, incarnation, covered_ms, spool_id)

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        return await self._ask(self._inner.pending_deletions, shard_ids, shard_count, span_ms, limit)

    async def write_placement(self, placement: Placement) -> None:
        await self._ask(self._inner.write_placement, placement)

    async def last_placement(self) -> Placement | None:
        return await self._ask(self._inner.last_placement)

    async def load_guilds(self, guild_ids: list[int], since_ms: int) -> Any:
        def load() -> Any:
            self._server.read(self._life, guild_ids)
            return run(self._inner.load_guilds(guild_ids, since_ms))

        return await self._server.ask(load)

    async def taken_number(self, source: str) -> int:
        return await self._ask(self._inner.taken_number, source)

    async def settled_number(self, incarnation: Incarnation, source: str) -> int:
        def read() -> int:
            self._server.hold(incarnation.host_id)
            return run(self._inner.taken_number(source))

        number: int = await self._server.ask(read)
        return number

    async def commit(self, incarnation: Incarnation, commit: Commit) -> Committed:
        return await self._server.commit(incarnation, commit)

    async def probe(self, incarnation: Incarnation, commit: Commit) -> None:
        await self._ask(self._inner.probe, incarnation, commit)

    async def poison(self, *, limit: int, source: str | None = None) -> list[PoisonRow]:
        return await self._server.ask(lambda: run(self._inner.poison(limit=limit, source=source)))

    async def find_poison(self, poison_id: int) -> PoisonRow | None:
        return await self._ask(self._inner.find_poison, poison_id)

    async def settle_poison(self, poison_id: int) -> None:
        await self._ask(self._inner.settle_poison, poison_id)

    async def ensure_partitions(self, now_ms: int) -> None:
        await self._ask(self._inner.ensure_partitions, now_ms)

    async def forget(self, now_ms: int, retention_days: int) -> bool:
        return bool(await self._ask(self._inner.forget, now_ms, retention_days))

    async def roll_up(self) -> bool:
        return bool(await self._ask(self._inner.roll_up))

    async def _ask(self, method: Any, *arguments: Any) -> Any:
        return await self._server.ask(lambda: run(method(*arguments)))


class _Wait(Exception):
    """A row is locked."""


def run(coroutine: Any) -> Any:
    """Return what a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    message = "the twin of the database waited for something"
    raise RuntimeError(message)


def touched(commit: Commit) -> set[int]:
    """Return the guilds that a commit changes."""
    return {_guild_of(effect) for effect in commit.effects}


def _guild_of(effect: Effect) -> int:
    match effect:
        case GuildChanged(state):
            return state.guild_id
        case HourAdvanced(guild_id):
            return guild_id
        case ViolationRecorded(violation):
            return violation.guild_id
        case ActionRecorded(settled):
            return settled.guild_id
