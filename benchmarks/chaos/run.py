"""The run: three Ray nodes, hosts, shards and Postgres on this machine, and what happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psutil

from actors.director import DirectorSettings
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.migrate import migrate
from benchmarks.chaos.check import RECORD_WRITERS, check, read
from benchmarks.result import Result, percentile
from guildhall import environment
from guildhall.descendants import adopt_orphans, end_descendants

GUILDS = 300
HOSTS = 3
SHARDS = 2
DRAIN_WITHIN_S = 120.0
CALM_S = 5.0
SECOND_DIRECTOR_S = 15.0
"""How long another Director goes on; the first is replaced within that."""


class Plan(NamedTuple):
    """How long, how much, and what happens."""

    seconds: float
    rate: float
    host_kills: int
    postgres_away_s: float
    freeze_s: float
    seed: int


class Fault(NamedTuple):
    """Something that happened to hosts, for which the way back is measured."""

    kind: str
    at: float
    host_ids: frozenset[str]


class Chaos:
    """Everything that can be killed, and how."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._random = random.Random(plan.seed)  # noqa: S311 - a seed makes a plan that can be repeated
        self._faults: list[Fault] = []
        self._outage: tuple[float, float] | None = None
        """From when until when Postgres was away."""
        self._log: list[str] = []
        self._shards: dict[int, tuple[Any, int]] = {}
        self._frozen: set[int] = set()
        self._postgres: EmbeddedPostgres
        self._database_url = ""
        self._cluster: Any = None
        self._director: Any = None
        self._director_parts: tuple[Any, ...] = ()
        self._supervising: asyncio.Task[None] | None = None
        self._second_director: Counter[str] = Counter()
        self._busy = asyncio.Lock()

    async def run(self) -> dict[str, Any]:
        """Start everything, let it happen, heal, and check."""
        self._folder.joinpath("data").mkdir()
        await self._start_postgres()
        await migrate(self._database_url)
        connection = await asyncpg.connect(self._database_url)
        await connection.execute(RECORD_WRITERS)
        await connection.close()
        os.environ["RAY_TMPDIR"] = str(self._folder)
        self._folder.joinpath("ray").mkdir()
        environment.prepare(self._folder, self._folder / "ray-token")
        try:
            await self._start_cluster()
            await self._let_it_happen()
            await self._heal()
            drained = await self._drain()
            figures = await check(self._database_url, read(self._folder))
        finally:
            await self._stop()
        second = {
            "second_director_changes": self._second_director["changes"],
            "second_director_refusals": self._second_director["refusals"],
        }
        return figures | drained | second | self._recoveries() | {"log": self._log}

    # -- starting -----------------------------------------------------------------------------------

    async def _start_postgres(self) -> None:
        self._postgres = EmbeddedPostgres(self._folder / "data", self._folder)
        self._database_url = await self._postgres.start()

    async def _start_cluster(self) -> None:
        # Imported here, because Ray reads the environment when it is imported.
        import ray  # noqa: PLC0415
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        from actors.handles import DIRECTOR_NAME, NAMESPACE, DirectorHandle, find_director  # noqa: PLC0415
        from actors.supervisor import Supervisor  # noqa: PLC0415
        from guildhall.actors import create_director, director_parts  # noqa: PLC0415
        from guildhall.children import ResidentChild  # noqa: PLC0415
        from guildhall.wiring import Wiring  # noqa: PLC0415

        node = {"num_cpus": 4, "include_dashboard": False}
        # Not in a thread: Ray sets signal handlers as it starts a node.
        self._cluster = Cluster(initialize_head=True, head_node_args=node)
        for _ in range(2):
            self._cluster.add_node(num_cpus=4)
        ray.init(self._cluster.address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        wiring = Wiring(
            database_url=self._database_url,
            redis_url="",
            public_url="",
            static_dir=self._folder,
            client_id="",
            client_secret="",
            authorize_url="",
            api_base="",
            bot_token="",
            user_resolvers=1,
        )
        self._director_parts = director_parts(wiring, DirectorSettings(HOSTS))
        child = ResidentChild(
            DIRECTOR_NAME,
            find_director,
            partial(create_director, wiring, DirectorSettings(HOSTS)),
            begin=DirectorHandle.start,
            ping=DirectorHandle.ping,
        )
        supervisor = Supervisor(lambda: int(time.time() * 1000))
        supervisor.own("director", child)
        await supervisor.start("director")
        self._director = child.handle
        self._supervising = asyncio.create_task(supervisor.run(), name="supervisor")
        for shard in range(SHARDS):
            await self._start_shard(shard)

    async def _start_shard(self, shard: int) -> None:
        import ray  # noqa: PLC0415 - as above
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        from benchmarks.chaos.shard import ChaosShard  # noqa: PLC0415

        guild_ids = [(n << 22) | 1 for n in range(shard + 1, GUILDS, SHARDS)]
        # On the head node, which stays: where a removed node's shard goes is not the question here.
        head = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        rate = self._plan.rate / SHARDS
        actor = ray.remote(ChaosShard).options(num_cpus=0, max_concurrency=1_000, scheduling_strategy=head)
        handle = actor.remote(shard, guild_ids, rate, self._folder)
        self._shards[shard] = (handle, await handle.start.remote())

    # -- what happens -------------------------------------------------------------------------------

    async def _let_it_happen(self) -> None:
        plan = self._plan
        await asyncio.sleep(CALM_S)
        span = plan.seconds - CALM_S
        kills = [(self._random.uniform(0.02, 0.95) * span, self._kill_host) for _ in range(plan.host_kills)]
        others: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (0.15 * span, self._kill_director),
            (0.25 * span, self._two_directors),
            (0.35 * span, self._postgres_away),
            (0.50 * span, self._hang_shard),
            (0.60 * span, self._remove_node),
            (0.75 * span, self._freeze_host),
        ]
        started = time.monotonic()
        running: list[asyncio.Task[None]] = []
        for at, happen in sorted([*kills, *others], key=lambda item: item[0]):
            await asyncio.sleep(max(0.0, started + at - time.monotonic()))
            running.append(asyncio.create_task(self._happens(happen)))
        await asyncio.sleep(max(0.0, started + span - time.monotonic()))
        await asyncio.gather(*running)

    async def _happens(self, happen: Callable[[], Awaitable[None]]) -> None:
        self._note(happen.__name__.lstrip("_"))
        await happen()

    async def _kill_host(self) -> None:
        alive: list[str] = []
        while not alive:  # the last one may have been killed a moment ago
            await asyncio.sleep(0.1)
            pids = await self._host_pids()
            alive = [host_id for host_id, pid in pids.items() if pid not in self._frozen]
        host_id = self._random.choice(alive)
        self._fault("host killed", {host_id})
        _signal(pids[host_id], signal.SIGKILL)

    async def _kill_director(self) -> None:
        for process in _named("ray::Director"):
            _signal(process.pid, signal.SIGKILL)

    async def _two_directors(self) -> None:
        """Let another Director begin beside the one that all ask, which its supervisor then replaces.

        It goes on trying to change the placement, as one does that a cut network has hidden.
        """
        import ray  # noqa: PLC0415 - as above

        from actors.director import Director  # noqa: PLC0415

        second = ray.remote(Director).options(num_cpus=0, max_concurrency=100).remote(*self._director_parts)
        with contextlib.suppress(Exception):  # it was superseded before it was done
            async with asyncio.timeout(SECOND_DIRECTOR_S):
                await second.start.remote()
        ends_at = time.monotonic() + SECOND_DIRECTOR_S
        while time.monotonic() < ends_at:
            try:
                async with asyncio.timeout(SECOND_DIRECTOR_S):
                    await second.dedicate.remote(1, None)
                self._second_director["changes"] += 1
            except Exception:  # noqa: BLE001 - refused, or it does not get through
                self._second_director["refusals"] += 1
            await asyncio.sleep(1.0)
        ray.kill(second)

    async def _hang_shard(self) -> None:
        """Stop a shard's process for a while, in the middle of whatever it sends."""
        pid = self._shards[1][1]
        _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(self._plan.freeze_s / 3)
        self._note("shard 1 goes on")
        _signal(pid, signal.SIGCONT)

    async def _postgres_away(self) -> None:
        """Stop Postgres hard; a shard is killed while it is away."""
        pid = self._postgres.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        since = time.time()
        await asyncio.sleep(self._plan.postgres_away_s / 2)
        _signal(self._shards[0][1], signal.SIGKILL)
        await asyncio.sleep(self._plan.postgres_away_s / 2)
        await self._start_postgres()
        self._outage = (since, time.time())
        self._fault("postgres back", {f"h{number}" for number in range(HOSTS)})
        await self._start_shard(0)

    async def _remove_node(self) -> None:
        """Take a node away without a word, and bring another."""
        node = next(iter(self._cluster.worker_nodes))
        self._fault("node removed", set())
        await asyncio.to_thread(self._cluster.remove_node, node, allow_graceful=False)
        self._cluster.add_node(num_cpus=4)

    async def _freeze_host(self) -> None:
        """Stop a host in its tracks, long enough to be replaced, and let it go on."""
        pids = await self._host_pids()
        if not pids:
            return
        host_id, pid = self._random.choice(sorted(pids.items()))
        self._frozen.add(pid)
        self._fault("host frozen", {host_id})
        _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(self._plan.freeze_s)
        self._note(f"{host_id} goes on")
        _signal(pid, signal.SIGCONT)

    async def _host_pids(self) -> dict[str, int]:
        """Ask the hosts for their process ids; those that do not answer are missing."""
        pids: dict[str, int] = {}
        with contextlib.suppress(Exception):
            async with asyncio.timeout(5):
                for host_id, host in (await self._director.routing()).hosts.items():
                    with contextlib.suppress(Exception):
                        async with asyncio.timeout(1):
                            pids[host_id] = (await host.ping()).pid
        return pids

    # -- the end ------------------------------------------------------------------------------------

    async def _heal(self) -> None:
        for pid in self._frozen:
            _signal(pid, signal.SIGCONT)
        for handle, _ in self._shards.values():
            await handle.hush.remote()

    async def _drain(self) -> dict[str, Any]:
        """Wait until nothing is on its way any more; say how long that took, and what is left."""
        started = time.monotonic()
        while True:
            stats = [await handle.stats.remote() for handle, _ in self._shards.values()]
            left = sum(s.waiting_events + s.spooled_batches for s in stats)
            if left == 0 or time.monotonic() - started > DRAIN_WITHIN_S:
                break
            await asyncio.sleep(0.2)
        took_s = time.monotonic() - started
        await asyncio.sleep(1.0)  # the answers to the last batches are written down
        return {"drained_after_s": round(took_s, 1), "not_drained": left}

    async def _stop(self) -> None:
        import ray  # noqa: PLC0415 - as above

        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        with contextlib.suppress(Exception):
            ray.shutdown()
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._cluster.shutdown)
        await self._postgres.stop()

    # -- what is told -------------------------------------------------------------------------------

    def _fault(self, kind: str, host_ids: set[str]) -> None:
        self._faults.append(Fault(kind, time.time(), frozenset(host_ids)))

    def _note(self, what: str) -> None:
        self._log.append(f"{_clock(time.time())} {what}")

    def _could_be_back_from(self, fault: Fault) -> float:
        away_since, away_until = self._outage or (0.0, 0.0)
        return away_until if away_since <= fault.at < away_until else fault.at

    def _recoveries(self) -> dict[str, Any]:
        """For each fault, how long until the hosts concerned took a batch again.

        For a host that was killed while Postgres was away, this counts from Postgres's return: before,
        nothing can be acknowledged by anybody. A host that is hit again before it is back counts from there.
        """
        accepted = sorted(read(self._folder).accepted.values(), key=lambda item: item[1])
        ways_back: list[tuple[float, str]] = []
        never_back = 0
        for host_id in sorted({host for host, _ in accepted}):
            times = [at for host, at in accepted if host == host_id]
            faults = [fault for fault in self._faults if host_id in fault.host_ids or not fault.host_ids]
            begins = [self._could_be_back_from(fault) for fault in faults]
            for fault, began, hit_again in zip(faults, begins, [*begins[1:], math.inf], strict=True):
                # The first half second may still be answers that were under way.
                back = next((at for at in times if at > began + 0.5), math.inf)
                if back < hit_again:
                    ways_back.append((back - began, f"{fault.kind} {_clock(fault.at)}, {host_id}"))
                elif hit_again == math.inf:
                    never_back += 1
        seconds = [took for took, _ in ways_back]
        return {
            "host_kills": sum(fault.kind == "host killed" for fault in self._faults),
            "hosts_never_back": never_back,
            "intake_back_s_p50": round(percentile(seconds, 0.5), 2),
            "intake_back_s_max": round(max(seconds, default=0.0), 2),
            "slowest": [f"{took:.1f} s: {what}" for took, what in sorted(ways_back, reverse=True)[:5]],
        }


async def run(plan: Plan) -> Result:
    """Run a plan in a folder of its own, and leave nothing behind."""
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="gc-", dir="/tmp"))
    try:
        figures = await Chaos(plan, folder).run()
    finally:
        await end_descendants()
        if "GUILDHALL_CHAOS_KEEP" not in os.environ:  # for who looks for a reason in the actors' logs
            shutil.rmtree(folder, ignore_errors=True)
    return Result("chaos", figures)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _named(title: str) -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline() and process.cmdline()[0].startswith(title):
                found.append(process)
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
