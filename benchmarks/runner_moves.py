"""Moves shard runners between nodes, with a full spool, and lets one go on that was replaced.

Three Ray nodes on this machine, each with a folder of its own for spools. What is stored is held against
what the local Discord sent: nothing may count twice, and what is missing must lie in a gap that was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import psutil

from actors.director import DirectorSettings
from actors.shard_runner import RunnerPlace, RunnerSettings
from adapters.clock import now_ms
from adapters.discord_api import ask_gateway
from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from adapters.migrate import migrate
from adapters.re2_patterns import compile_pattern
from adapters.redis_identify import RedisIdentifyGrants
from adapters.sqlite_spool import SqliteSpool
from benchmarks.result import Result
from domain.authority import AuthorityNotice
from domain.errors import ServiceFailed
from domain.ports import SEEN_KEPT_MS, NodeRef
from guildhall import environment
from guildhall.descendants import adopt_orphans, end_descendants
from guildhall.simulator import BOT_TOKEN, Simulator
from guildhall.testing import Sim

GUILDS, SHARDS, HOSTS = 40, 2, 2
POSTGRES_AWAY_S = 6.0
BACK_WITHIN_S = 90.0
DRAIN_WITHIN_S = 60.0
CALM_S = 4.0
LOOK_EVERY_S = 0.2


class Plan(msgspec.Struct, frozen=True):
    """How much traffic there is."""

    rate: float = 100.0


class Moves:
    """Everything that runs, and what happens to it."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._figures: dict[str, Any] = {}
        self._database_url = self._redis_url = self._api_base = self._gateway_url = ""
        self._postgres: EmbeddedPostgres
        self._discord: Simulator
        self._sim: Sim
        self._cluster: Any = None
        self._workers: dict[str, Any] = {}
        """The nodes beside the head, by their ids."""
        self._supervisor: Any = None
        self._supervising: asyncio.Task[None] | None = None

    async def run(self) -> dict[str, Any]:
        """Start everything, let it happen, and check."""
        (data := self._folder / "data").mkdir()
        self._postgres = EmbeddedPostgres(data, self._folder)
        self._discord = Simulator(guilds=GUILDS, rate=0, log=self._folder / "discord.log")
        os.environ["RAY_TMPDIR"] = str(self._folder)
        (self._folder / "ray").mkdir()
        environment.prepare(self._folder, self._folder / "ray-token")
        async with contextlib.AsyncExitStack() as stack:
            self._database_url = await stack.enter_async_context(self._postgres)
            self._redis_url = await stack.enter_async_context(EmbeddedRedis(data, self._folder))
            await migrate(self._database_url)
            stack.push_async_callback(self._discord.stop)
            await self._discord.start()
            self._api_base = f"{self._discord.url}/api/v10"
            self._gateway_url = (await ask_gateway(self._api_base, BOT_TOKEN)).url
            http = await stack.enter_async_context(aiohttp.ClientSession())
            self._sim = Sim(self._discord.url, http)
            stack.push_async_callback(self._stop)
            await self._start_cluster()
            await self._happen()
            posted = await self._sim.posted_since(0)
            return self._figures | await _compare(self._database_url, posted)

    async def _start_cluster(self) -> None:
        # Imported here, because Ray reads the environment when it is imported.
        import ray  # noqa: PLC0415
        from ray.cluster_utils import Cluster  # noqa: PLC0415

        from actors.handles import DIRECTOR_NAME, NAMESPACE, DirectorHandle, find_director  # noqa: PLC0415
        from actors.supervisor import Supervisor  # noqa: PLC0415
        from guildhall.actors import create_director  # noqa: PLC0415
        from guildhall.children import ResidentChild  # noqa: PLC0415
        from guildhall.wiring import Wiring  # noqa: PLC0415

        node = {"num_cpus": 4, "include_dashboard": False}
        # Not in a thread: Ray sets signal handlers as it starts a node.
        self._cluster = Cluster(initialize_head=True, head_node_args=node)
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
        director = ResidentChild(
            DIRECTOR_NAME,
            find_director,
            partial(create_director, wiring, DirectorSettings(HOSTS)),
            begin=DirectorHandle.start,
            ping=DirectorHandle.ping,
        )
        self._supervisor = Supervisor(lambda: int(time.time() * 1000))
        self._supervisor.own("director", director)
        await self._supervisor.start("director")  # on the head node, as its hosts: the others come after
        for _ in range(2):
            self._add_node()

    def _add_node(self) -> str:
        """Bring another node; return its id."""
        node = self._cluster.add_node(num_cpus=4)
        self._workers[node.node_id] = node
        return str(node.node_id)

    # -- what happens -------------------------------------------------------------------------------

    async def _happen(self) -> None:
        first, second = list(self._workers)
        await self._begin_supervised(first)
        old = await self._begin_life(1, first)
        await self._until_connected()
        await self._sim.put("traffic", rate=self._plan.rate)
        await asyncio.sleep(CALM_S)

        home = await self._node_of("r0")
        await self._kill("r0")
        await self._until_connected()
        self._figures["killed_begins_where_its_spool_is"] = await self._node_of("r0") == home

        pid = await _pid_of(old)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(1.0)
        await self._begin_life(1, second)
        await asyncio.sleep(CALM_S)
        os.kill(pid, signal.SIGCONT)
        self._figures["thawed_ended_after_s"] = await _ended_after_s(pid)

        spools = self._spools(home)
        async with self._postgres_away():
            await asyncio.sleep(POSTGRES_AWAY_S)
            kept = await asyncio.to_thread(_copied, spools, self._folder / "kept")
            await self._take_away(home)
        began = time.monotonic()
        await self._until_moved("r0", home)
        await self._until_connected()
        self._figures["moved_after_s"] = round(time.monotonic() - began, 1)
        await asyncio.sleep(CALM_S)

        # A node that comes back: the same spool, on a machine that Ray does not know.
        back = self._add_node()
        await asyncio.to_thread(shutil.copytree, kept, self._spools(back))
        await self._end_supervised()
        await self._begin_life(0, back)
        await self._until_connected()
        await asyncio.sleep(CALM_S)
        await self._sim.put("traffic", rate=0)

    async def _begin_supervised(self, home: str) -> None:
        """Begin runner r0 as `guildhall up` does, but for the node of its first life."""
        from actors import remote  # noqa: PLC0415 - as above
        from actors.handles import AnyDirector  # noqa: PLC0415
        from guildhall.children import RunnerChild  # noqa: PLC0415

        def create(node: Any) -> Any:
            return remote.create_runner(node or NodeRef(home, ""), "r0", *self._parts(0))

        self._supervisor.own("runner r0", RunnerChild("r0", (0,), create, AnyDirector().find_runner))
        await self._supervisor.start("runner r0")
        self._supervising = asyncio.create_task(self._supervisor.run(), name="supervisor")

    async def _end_supervised(self) -> None:
        """End runner r0, with the supervisor that would begin it anew."""
        await self._stop_supervising()
        await self._kill("r0")

    async def _begin_life(self, number: int, node_id: str) -> Any:
        """Begin a life of a runner on a node, as somebody does who knows of no other; return the actor."""
        import ray  # noqa: PLC0415 - as above
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        from actors.shard_runner import ShardRunner  # noqa: PLC0415

        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        options = {"num_cpus": 0, "max_concurrency": 1_000, "scheduling_strategy": there}
        actor = ray.remote(ShardRunner).options(lifetime="detached", name=f"life {time.time()}", **options)
        life = actor.remote(*self._parts(number))
        await life.start.remote(int(time.time() * 1000))
        return life

    def _parts(self, number: int) -> tuple[Any, ...]:
        """Return what runner ``number`` is made of, which has the shard of this number."""
        from actors.handles import find_director, this_node  # noqa: PLC0415 - as above

        shards = ShardSettings(
            token=BOT_TOKEN,
            shard_ids=(number,),
            shard_count=SHARDS,
            api_base=self._api_base,
            gateway_url=self._gateway_url,
        )
        runner_id = f"r{number}"
        return (
            RunnerSettings(runner_id, shard_ids=shards.shard_ids, shard_count=SHARDS),
            partial(DiscordBot, shards, partial(RedisIdentifyGrants, self._redis_url, BOT_TOKEN)),
            find_director,
            compile_pattern,
            now_ms,
            partial(_open_spool, self._folder, runner_id),
            Nobody,
            RunnerPlace(this_node, partial(os._exit, 0)),
        )

    def _spools(self, node_id: str) -> Path:
        return self._folder / "spools" / node_id

    # -- looking, and doing harm -----------------------------------------------------------------------

    async def _until_connected(self) -> None:
        await asyncio.sleep(1.0)  # the local Discord notices a moment later that a client is gone
        try:
            async with asyncio.timeout(BACK_WITHIN_S):
                while len((await self._sim.get("stats"))["shards_connected"]) < SHARDS:  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError as error:
            raise ServiceFailed(f"A runner is not back after {BACK_WITHIN_S:.0f} s.") from error

    async def _registered(self, runner_id: str) -> Any:
        connection = await asyncpg.connect(self._database_url)
        try:
            return await connection.fetchrow("SELECT * FROM runners WHERE runner_id = $1", runner_id)
        finally:
            await connection.close()

    async def _node_of(self, runner_id: str) -> str:
        return str((await self._registered(runner_id))["node_id"])

    async def _until_moved(self, runner_id: str, home: str) -> None:
        async with asyncio.timeout(BACK_WITHIN_S):
            while await self._node_of(runner_id) == home:  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(LOOK_EVERY_S)

    async def _kill(self, runner_id: str) -> None:
        import ray  # noqa: PLC0415 - as above

        from actors.handles import NAMESPACE, RUNNER_PREFIX  # noqa: PLC0415

        actor = await asyncio.to_thread(ray.get_actor, f"{RUNNER_PREFIX}{runner_id}", namespace=NAMESPACE)
        os.kill(await _pid_of(actor), signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def _postgres_away(self) -> Any:
        """Freeze the database: nobody can commit, and the spools fill."""
        assert self._postgres.pid is not None  # noqa: S101 - it runs
        server = psutil.Process(self._postgres.pid)
        frozen = [*server.children(recursive=True), server]
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    async def _take_away(self, node_id: str) -> None:
        """Take a node away without a word."""
        node = self._workers.pop(node_id)
        await asyncio.to_thread(self._cluster.remove_node, node, allow_graceful=False)

    async def _stop_supervising(self) -> None:
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)

    async def _stop(self) -> None:
        import ray  # noqa: PLC0415 - as above

        await self._stop_supervising()
        with contextlib.suppress(Exception):
            ray.shutdown()
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._cluster.shutdown)


class Nobody:
    """Hears of authority in place of the Rbac actor, which has no part in this."""

    async def heard(self, notices: list[AuthorityNotice]) -> None:
        """Forget it."""


def _open_spool(folder: Path, runner_id: str) -> SqliteSpool:
    """Open the spool of the node that this process runs on."""
    from actors.handles import this_node  # noqa: PLC0415 - as above

    return SqliteSpool(folder / "spools" / this_node().node_id / f"{runner_id}.sqlite")


def _copied(source: Path, target: Path) -> Path:
    """Copy what is on a node's disk at this moment: its processes are gone before they can write more."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.lock")))


async def _pid_of(actor: Any) -> int:
    return int(await actor.__ray_call__.remote(lambda _: os.getpid()))


async def _ended_after_s(pid: int) -> float | None:
    """Wait until a process has ended; return how long that took, None if it goes on."""
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BACK_WITHIN_S):
            while _lives(pid):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(LOOK_EVERY_S)
            return round(time.monotonic() - began, 1)
    return None


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def _compare(database_url: str, posted: list[dict[str, Any]]) -> dict[str, Any]:
    """Wait until nothing is counted or deleted any more; then hold what is stored against what was posted."""
    connection = await asyncpg.connect(database_url)
    try:
        await _until_calm(connection)
        rows = await connection.fetch("SELECT message_id, action_status FROM violations")
        hours = await connection.fetch(
            "SELECT guild_id, sum(messages)::bigint AS messages FROM metrics_hourly GROUP BY guild_id"
        )
        gaps = await connection.fetch("SELECT source, reason, since, until FROM coverage_gaps")
    finally:
        await connection.close()
    times = [
        (gap["source"].partition("@")[0], gap["since"].timestamp() * 1000, gap["until"].timestamp() * 1000)
        for gap in gaps
    ]

    def is_told(entry: dict[str, Any], after_ms: int = 0) -> bool:
        runner_id = f"r{(int(entry['guild_id']) >> 22) % SHARDS}"
        return any(
            source == runner_id and since <= entry["ts"] <= until + after_ms for source, since, until in times
        )

    def is_explained(entry: dict[str, Any]) -> bool:
        # That a text is repeated cannot be known where the one before it was missed.
        return is_told(entry, SEEN_KEPT_MS if entry["label"] == "repeated_message" else 0)

    counted = {row["guild_id"]: row["messages"] for row in hours}
    sent, told = Counter[int](), Counter[int]()
    for entry in posted:
        sent[int(entry["guild_id"])] += 1
        told[int(entry["guild_id"])] += is_told(entry)
    stored = {row["message_id"] for row in rows}
    offences = [entry for entry in posted if entry["label"]]
    missing = [entry for entry in offences if int(entry["message_id"]) not in stored]
    short = {guild_id: number - counted.get(guild_id, 0) for guild_id, number in sent.items()}
    return {
        "messages_posted": len(posted),
        "messages_missing": sum(max(0, number) for number in short.values()),
        "messages_missing_untold": sum(max(0, short[guild_id] - told[guild_id]) for guild_id in short),
        "messages_counted_twice": sum(max(0, -number) for number in short.values()),
        "offences_posted": len(offences),
        "offences_missing": len(missing),
        "offences_missing_untold": sum(not is_explained(entry) for entry in missing),
        "doubled": len(rows) - len(stored),
        "still_pending": sum(row["action_status"] == "pending" for row in rows),
        "gaps": dict(Counter(gap["reason"] for gap in gaps)),
        "gaps_s": round(sum(until - since for _, since, until in times) / 1000, 1),
    }


async def _until_calm(connection: Any) -> None:
    """Return when nothing has changed for some seconds, and nothing is pending, or after a bounded time."""
    last: tuple[Any, ...] = ()
    since = time.monotonic()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_WITHIN_S):
            while time.monotonic() - since < CALM_S or last[-1]:
                now = tuple(
                    await connection.fetchrow(
                        "SELECT (SELECT sum(messages) FROM metrics_hourly), count(*), "
                        "count(*) FILTER (WHERE action_status = 'pending') FROM violations"
                    )
                )
                if now != last:
                    last, since = now, time.monotonic()
                await asyncio.sleep(LOOK_EVERY_S)


async def run(plan: Plan | None = None) -> Result:
    """Run in a folder of its own, and leave nothing behind."""
    adopt_orphans()
    plan = plan or Plan()
    folder = Path(tempfile.mkdtemp(prefix="gm-", dir="/tmp"))
    try:
        figures = await Moves(plan, folder).run()
    finally:
        await end_descendants()
        if "GUILDHALL_CHAOS_KEEP" not in os.environ:  # for who looks for a reason in the actors' logs
            shutil.rmtree(folder, ignore_errors=True)
    return Result("runner-moves", {"rate": plan.rate} | figures)
