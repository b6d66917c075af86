"""One run: a small network of bots in one thread, a storm over it, and the calm after."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import secrets
import sys
import zlib
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import msgspec
import structlog

import actors.director
from actors.director import Director, DirectorSettings, HostAccess
from actors.group_commit import CommitSettings
from actors.guild import GuildActor
from actors.guild_table import TableSettings
from actors.host import GuildHost, HostSettings
from actors.routing import GuildDirectory
from adapters.memory import MemoryDatabase, MemoryOpenSockets, SharedSockets
from adapters.memory.samples import NOON_MS
from domain.errors import GuildhallError
from domain.ids import HOUR_MS
from domain.placement import Placement, place
from domain.socket_limits import SocketLimits
from serve_app.hub import Hub
from serve_app.pacing import Pace
from serve_app.socket_counts import SocketCounts
from tests.simulation.browser import Browser
from tests.simulation.faults import draw
from tests.simulation.network import DirectorHandle, HostHandle, Network
from tests.simulation.runner import Leftover, Runner
from tests.simulation.store import Server, SimulatedStore
from tests.simulation.virtual_loop import Process, TooLong, VirtualLoop

STORM_S = 12.0
OPERATORS_WAIT_S = 10.0
"""What an operator asked for may take this much longer than the storm; then it becomes calm anyway."""
CALM_WITHIN_S = 120.0
SUPERVISE_S = 3.0
STEP_S = 0.25


class World:
    """Everything there is in one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.faults = draw(self.chance)
        self.loop = VirtualLoop(random.Random(seed + 1))
        self.drawn = msgspec.structs.replace(self.faults)
        self.network = Network(self.loop, self.chance, self.faults)
        self.database = MemoryDatabase(self.now_ms)
        self.server = Server(self.database, self.network, self.chance)
        self.wrong: list[str] = self.server.wrong
        self.processes: list[Process] = []
        self.hosts: dict[str, HostHandle] = {}
        """Every host that ever was, by its actor's name."""
        self.director = DirectorHandle(self.network)
        self.relay: tuple[Process, Hub] | None = None
        self.guilds = [self.chance.getrandbits(40) + 1 for _ in range(10)]
        hours = [NOON_MS - NOON_MS % HOUR_MS - back * HOUR_MS for back in range(20)]
        shards = self.chance.randint(1, 3)
        self.runners = [
            Runner(
                name=f"r{n}",
                guilds=self.guilds[n::shards],
                loop=self.loop,
                network=self.network,
                director=self.director,
                database=self.database,
                chance=self.chance,
                hours=hours,
            )
            for n in range(shards)
        ]
        self.browsers = [
            Browser(
                number=n,
                guilds=self.chance.sample(self.guilds, 3),
                network=self.network,
                database=self.database,
                chance=self.chance,
                wrong=self.wrong,
            )
            for n in range(2)
        ]
        self._director_settings = DirectorSettings(
            hosts=self.chance.randint(2, 3),
            tick_s=1.0,
            ping_within_s=0.5,
            strikes=2,
            start_within_s=5.0,
            assign_within_s=1.0,
        )
        self._commit_settings = CommitSettings(
            intake_events=self.chance.choice((20, 20_000)),
            commit_events=self.chance.choice((10, 2_000)),
            retry_after_ms=100,
        )
        self._table_settings = TableSettings(
            max_live=self.chance.choice((3, 150_000)),
            idle_after_ms=self.chance.choice((1_000, 600_000)),
            load_at_once=self.chance.choice((2, 5_000)),
        )
        self._resume_ms = random.Random(seed + 2).choice((300, 120_000))
        self._tasks: list[asyncio.Task[Any]] = []

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return NOON_MS + int(self.loop.time() * 1000)

    # -- the whole run ----------------------------------------------------------------------------

    def run(self) -> None:
        """Run to the end of the calm; what was not right is in ``wrong``."""
        with _deterministic(self.seed, self.wrong):
            try:
                self.loop.ends_at = STORM_S + 3 * CALM_WITHIN_S
                self.loop.run_until_complete(self._run())
            except TooLong:
                self.wrong.append("it did not come to an end")
            finally:
                self.wrong.extend(self.loop.broken)
                self.loop.bury([*self.processes, *(p for runner in self.runners for p in runner.processes)])
                self.loop.close()

    async def _run(self) -> None:
        self._begin_director()
        await self._persist(self.director.ask, "start")
        for runner in self.runners:
            await self._begin_runner(runner)
        await self._begin_relay()
        storm = self._spawn(self._storm())
        browsing = self._spawn(self._browse())
        self._spawn(self._supervise_director())
        await self._work()
        await asyncio.wait({storm}, timeout=STORM_S + OPERATORS_WAIT_S - self.loop.time())
        browsing.cancel()
        self._heal()
        if not (await asyncio.wait({storm}, timeout=CALM_WITHIN_S))[0]:
            self.wrong.append(
                f"something hangs: {[task.get_stack() for task in self._tasks if not task.done()]}"
            )
            return
        await self._calm()

    async def _work(self) -> None:
        """Let things happen in the guilds, evenly or in bursts."""
        left = self.chance.randint(60, 200)
        pause = STORM_S / left
        while left > 0:
            for _ in range(min(left, self.chance.choice((1, 1, 1, 5, 25)))):
                left -= 1
                self.chance.choice(self.runners).hear()
            await asyncio.sleep(self.chance.random() * pause * 8)

    async def _storm(self) -> None:
        faults, deeds = self.faults, []
        for times, deed in (
            (faults.host_crashes, self._crash_host),
            (faults.host_freezes, self._freeze_host),
            (faults.director_crashes, self._crash_director),
            (faults.directors_beside, self._begin_second_director),
            (faults.runner_crashes, self._crash_runner),
            (faults.runner_restarts, self._restart_runner),
            (faults.runner_moves, self._move_runner),
            (faults.runners_beside, self._begin_second_runner),
            (faults.store_outages, self._take_store_away),
            (faults.stream_breaks, self._break_stream),
            (faults.hosts_added, partial(self._operate, "add_host")),
            (faults.hosts_drained, self._drain_host),
            (faults.guilds_dedicated, self._dedicate),
        ):
            deeds += [(self.chance.random() * STORM_S, deed)] * times
        deeds.sort(key=lambda item: item[0])
        under_way = []
        for at_s, deed in deeds:
            await asyncio.sleep(max(0.0, at_s - self.loop.time()))
            under_way.append(self._spawn(deed()))
        await asyncio.gather(*under_way)

    async def _browse(self) -> None:
        while True:
            await asyncio.sleep(self.chance.random() * 2)
            browser = self.chance.choice(self.browsers)
            if self.relay is not None and browser.relay is None:
                browser.connect(*self.relay)
            elif self.chance.random() < 0.2:
                browser.disconnect()

    def _heal(self) -> None:
        """Let nothing go wrong from here on; what is under way may end."""
        self.faults.heal()
        self.database.available = True
        for process in [handle.process for handle in self.hosts.values()]:
            process.thaw()
        for leftover in self._leftovers():
            leftover.process.thaw()

    def _leftovers(self) -> Iterator[Leftover]:
        return (leftover for runner in self.runners for leftover in runner.leftovers)

    def _all_alone(self) -> str | None:
        left = [leftover.process.name for leftover in self._leftovers() if not leftover.process.dead]
        return f"{left} are replaced, and go on" if left else None

    async def _calm(self) -> None:
        """Wait until there is nothing left to do."""
        await self._until(self._all_alone, "runners that were replaced did not end")
        await self._until(self._drained, "the outboxes did not drain")
        for runner in self.runners:
            if runner.disk.batches:  # left to the next life by one that began without its disk
                await runner.stop()
                await self._begin_runner(runner)
        await self._until(self._drained, "the outboxes did not drain again")
        await self._until(self._all_shown, "the browsers did not catch up")

    async def _until(self, done: Callable[[], str | None], message: str) -> None:
        ends_at = self.loop.time() + CALM_WITHIN_S
        good = 0
        while good < 2:
            why = done()
            good = good + 1 if why is None else 0
            if self.loop.time() > ends_at:
                self.wrong.append(f"{message}: {why}")
                return
            for browser in self.browsers:
                if browser.relay is None and self.relay is not None:
                    browser.connect(*self.relay)
            await asyncio.sleep(STEP_S)

    def _drained(self) -> str | None:
        for runner in self.runners:
            if runner.outbox is None:
                return f"{runner.name} does not run"
            stats = runner.outbox.stats()
            if ended := [lane.task for lane in runner.outbox._lanes.values() if lane.task.done()]:
                return f"{runner.name} has lost a lane: {ended}"
            if stats.waiting_events or stats.spooled_batches or not _idle(runner):
                return f"{runner.name}: {stats}"
        return None

    def _all_shown(self) -> str | None:
        positions = {
            guild.state.guild_id: (guild.epoch, guild.offset)
            for host in self.writers()
            for guild in owned(host)
        }
        for number, browser in enumerate(self.browsers):
            if (why := browser.agrees() or browser.stands_at(positions)) is not None:
                return f"browser {number}, {why}"
        return None

    def writers(self) -> Iterator[GuildHost]:
        """Return the hosts that live and that no later life has fenced."""
        for handle in self.hosts.values():
            life = handle.host._incarnation
            if not handle.process.dead and self.database.hosts.get(life.host_id) == life.number:
                yield handle.host

    # -- beginnings -------------------------------------------------------------------------------

    def _process(self, name: str) -> Process:
        process = Process(name, self.loop)
        self.processes.append(process)
        return process

    def _begin_director(self) -> None:
        process = self._process("director")
        access = HostAccess(self._create_host, self._find_host)
        self.director.process = process
        self.director.director = process.run(
            Director, self._director_settings, access, self._open_store, self.now_ms
        )

    def _create_host(self, host_id: str, actor_name: str) -> HostHandle:
        process = self._process(host_id)
        settings = HostSettings(
            host_id,
            actor_name,
            commit=self._commit_settings,
            table=self._table_settings,
            resume_ms=self._resume_ms,
        )
        host = process.run(GuildHost, settings, self._open_store, self.now_ms)
        handle = self.hosts[actor_name] = HostHandle(self.network, process, host)
        return handle

    async def _find_host(self, actor_name: str) -> HostHandle | None:
        await asyncio.sleep(self.network.delay())
        handle = self.hosts.get(actor_name)
        return None if handle is None or handle.process.dead else handle

    async def _open_store(self) -> SimulatedStore:
        return SimulatedStore(self.server)

    async def _begin_runner(self, runner: Runner) -> None:
        await runner.start()

    async def _begin_relay(self) -> None:
        process = self._process("relay")
        directory = GuildDirectory(self.director)

        async def start() -> Hub:
            await self._persist(directory.start)
            everywhere = MemoryOpenSockets(SharedSockets(), "relay")
            counts = SocketCounts(SocketLimits(), everywhere, self.loop.time)
            hub = Hub(directory, counts, Pace(used_s=lambda: 0.0))
            await hub.start()
            return hub

        hub = await self.loop.create_task(start(), context=process.context.copy())
        self.relay = process, hub

    async def _persist(self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        while True:
            try:
                await call(*arguments)
                return  # noqa: TRY300 - an else would part it from its try
            except (GuildhallError, TimeoutError):
                await asyncio.sleep(0.3)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self._tasks.append(task)
        return task

    # -- the storm's deeds ------------------------------------------------------------------------

    def _living(self) -> list[HostHandle]:
        return [handle for handle in self.hosts.values() if not handle.process.dead]

    async def _crash_host(self) -> None:
        if living := self._living():
            self.chance.choice(living).process.kill()

    async def _freeze_host(self) -> None:
        if living := self._living():
            process = self.chance.choice(living).process
            process.freeze()
            await asyncio.sleep(0.2 + self.chance.random() * 5)
            process.thaw()

    async def _crash_director(self) -> None:
        if not self.director.process.dead:
            self.director.process.kill()
            await asyncio.sleep(0.1 + self.chance.random() * 2)
            self._begin_director()

    async def _begin_second_director(self) -> None:
        """Let everybody ask a new Director from now on; the old one lives, and meddles as long as it can."""
        process, old = self.director.process, self.director.director
        self._begin_director()
        for _ in range(3):
            await asyncio.sleep(self.chance.random())
            with contextlib.suppress(GuildhallError, TimeoutError):
                await self.network.call(process, old.add_host)

    async def _supervise_director(self) -> None:
        """Replace the one that everybody asks when it is over: one beside it may have begun later."""
        while True:
            await asyncio.sleep(SUPERVISE_S)
            if self.director.director._superseded and not self.director.process.dead:
                self.director.process.kill()
                self._begin_director()

    async def _crash_runner(self) -> None:
        runner = self.chance.choice(self.runners)
        if runner.outbox is not None:
            runner.kill()
            await asyncio.sleep(0.1 + self.chance.random())
            await self._begin_runner(runner)

    async def _restart_runner(self) -> None:
        runner = self.chance.choice(self.runners)
        if runner.outbox is not None and not runner.stopping and await runner.stop():
            await asyncio.sleep(0.1 + self.chance.random())
            await self._begin_runner(runner)

    async def _move_runner(self) -> None:
        """Let a runner die with its node, and begin on another."""
        runner = self.chance.choice(self.runners)
        if runner.leave(goes_on=False) is not None:
            await asyncio.sleep(0.1 + self.chance.random())
            await self._begin_runner(runner)

    async def _begin_second_runner(self) -> None:
        """Begin a runner on another node while the old one goes on, cut off, or hangs and goes on later."""
        runner = self.chance.choice(self.runners)
        old = runner.leave(goes_on=True)
        if old is None:
            return
        if hangs := self.chance.random() < 0.5:
            old.freeze()
        await self._begin_runner(runner)
        await asyncio.sleep(self.chance.random() * 3)
        if hangs:
            old.thaw()

    async def _take_store_away(self) -> None:
        self.database.available = False
        await asyncio.sleep(0.1 + self.chance.random() * 3)
        self.database.available = True

    async def _break_stream(self) -> None:
        self.network.break_a_stream()

    async def _operate(self, method: str, *arguments: Any) -> None:
        with contextlib.suppress(GuildhallError, TimeoutError):  # the operator sees it, and would try again
            await self.director.ask(method, *arguments)

    async def _drain_host(self) -> None:
        rows = sorted(self.database.host_rows)
        await self._operate("drain_host", self.chance.choice(rows))

    async def _dedicate(self) -> None:
        await self._operate(
            "dedicate", self.chance.choice(self.guilds), self.chance.choice((None, None, "", ""))
        )


def owned(host: GuildHost) -> Iterator[GuildActor]:
    """Return the guilds that live in a host and are its own.

    Others may be loaded, for a watcher, as they move away; never shown, and dropped before they are owned.
    """
    return (guild for guild in host._table.live() if host.owns(guild.state.guild_id))


def _idle(runner: Runner) -> bool:
    assert runner.outbox is not None
    return all(lane.drained.is_set() for lane in runner.outbox._lanes.values())


class _Name(str):
    """A random name whose place in a set is the same in every process that runs this seed."""

    __slots__ = ()

    def __hash__(self) -> int:
        return zlib.crc32(self.encode())


@lru_cache(maxsize=256)
def _owners(shared: tuple[str, ...]) -> tuple[str, ...]:
    return place(1, shared).owners


def _cached_placing(version: int, host_ids: Any, dedicated: Any = None) -> Generator[None, None, Placement]:
    """Place as ``placing`` does, without hashing 4096 slots in every run."""
    own = dict(dedicated or {})
    shared = tuple(sorted(set(host_ids) - set(own.values())))
    yield
    if not shared:
        return place(version, host_ids, dedicated)
    return Placement(version, _owners(shared), own)


@contextmanager
def _deterministic(seed: int, wrong: list[str]) -> Iterator[None]:
    """Take randomness from the seed, and bugs that were only logged from the log."""
    state, token_hex, placing = random.getstate(), secrets.token_hex, actors.director.placing
    randbelow, randbits, chance = secrets.randbelow, secrets.randbits, random.Random(seed + 3)
    logging = structlog.get_config()
    numbers = itertools.count(1)

    def note(_: Any, __: str, event: dict[str, Any]) -> Any:
        if event["event"] in _BUGS:
            error = event.get("exc_info")
            if error is True:
                error = sys.exc_info()[1]
            if not isinstance(error, GuildhallError | TimeoutError):
                wrong.append(f"{event['event']}: {error!r}")
        raise structlog.DropEvent

    random.seed(seed)
    secrets.token_hex = lambda _=None: _Name(f"{next(numbers):x}-{seed}")  # type: ignore[assignment]
    secrets.randbelow, secrets.randbits = chance.randrange, chance.getrandbits
    actors.director.placing = _cached_placing
    structlog.configure(
        processors=[note],
        wrapper_class=structlog.make_filtering_bound_logger(40),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**logging)
        actors.director.placing = placing
        secrets.token_hex = token_hex
        secrets.randbelow, secrets.randbits = randbelow, randbits
        random.setstate(state)


_BUGS = {
    "commit_broke",
    "tick_broke",
    "host_stream_broke",
    "event_refused",
    "spooled_batch_lost",
    "batch_refused",
    "task_broke",
    "task_ended",
    "spool_broke",
}
