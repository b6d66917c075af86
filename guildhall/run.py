"""``guildhall demo`` and ``guildhall up``: everything in order, and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import httpx2
import stamina
from pydantic import SecretStr

from actors.supervisor import Supervisor
from adapters.clock import now_ms
from adapters.data_folder import DataFolder
from adapters.discord_api import ask_gateway
from adapters.role_store import PostgresRoleStore
from domain.errors import ConfigurationInvalid, ServiceFailed
from domain.protocol import CloseCode
from guildhall import environment
from guildhall.descendants import adopt_orphans, end_descendants, end_leftovers
from guildhall.secret_keys import secret_keys
from guildhall.services import Services, start_services
from guildhall.settings import Settings, require_discord, require_free_port, secret_of
from guildhall.simulator import BOT_TOKEN, CLIENT_ID, CLIENT_SECRET, Simulator
from guildhall.stages import Stages

if TYPE_CHECKING:
    from guildhall.cluster import Cluster

DEMO_SHARDS = 2
SOCKETS_TRIES, SOCKETS_TIMEOUT_S, SOCKETS_RETRY_S = 100, 10.0, 0.25


class Demo(NamedTuple):
    """What the simulated Discord is to look like."""

    guilds: int
    rate: float


class Signals:
    """What the process was asked for: SIGINT and SIGTERM set ``stop``, SIGHUP sets ``restart``."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.restart = asyncio.Event()

    def catch(self) -> None:
        """Install the handlers; SIGHUP's too from the very start, since by default it kills."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.stop.set)
        loop.add_signal_handler(signal.SIGTERM, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.restart.set)


class Running(NamedTuple):
    """What stands, and where."""

    url: str
    sim_url: str | None
    ray_dashboard: str
    ray_address: str
    token_file: Path
    services: Services
    supervising: asyncio.Task[None]
    restart_relays: Callable[[], Awaitable[None]]


async def run(settings: Settings, demo: Demo | None, *, as_json: bool) -> None:
    """Start everything, say where it is, and stay until SIGINT or SIGTERM; then leave nothing behind.

    Raises:
        GuildhallError: what does not work, in a sentence; what had been started is stopped again.

    """
    stages = Stages(json=as_json)
    signals = Signals()
    signals.catch()
    told_to_stop = asyncio.create_task(signals.stop.wait())
    adopt_orphans()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(end_descendants)
        starting = asyncio.create_task(_start(settings, demo, stages, stack, signals))
        await asyncio.wait({starting, told_to_stop}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            stages.say("Told to stop before it was ready.")
            return
        running = starting.result()
        stack.callback(_write_addresses(running, settings.data_dir / "addresses.json"))
        signals.restart.clear()  # the relays are new
        restarting = asyncio.create_task(
            _restart_relays_when_told(signals, running, stages), name="restart-relays"
        )
        _announce(running, stages, as_json=as_json)
        await asyncio.wait({told_to_stop, running.supervising}, return_when=asyncio.FIRST_COMPLETED)
        if running.supervising.done() and not told_to_stop.done():
            raise ServiceFailed("The supervisor ended by itself.") from running.supervising.exception()
        restarting.cancel()
        stages.say("Stopping …")
    stages.say("Stopped. Nothing is left running.")


async def _start(
    settings: Settings, demo: Demo | None, stages: Stages, stack: AsyncExitStack, signals: Signals
) -> Running:
    environment.forget_settings()
    supervisor = Supervisor(now_ms)
    cluster_address = os.environ.get("RAY_ADDRESS")
    if cluster_address:
        _require_shared_services(settings)
    folder = stack.enter_context(DataFolder(settings.data_dir.absolute()))
    runtime_note = folder.path / "runtime-dir"
    if left := _left_by_a_killed_run(runtime_note):
        await end_leftovers(left)
    runtime_dir = _make_runtime_dir(runtime_note, stack)
    # First: beside a Guildhall that runs there nothing may begin, not even a migration.
    joined = None
    if cluster_address:
        joined = await _join(cluster_address, settings, stages, stack, signals, supervisor=supervisor)
    require_free_port(settings.host, settings.port)

    simulator: Simulator | None = None
    if demo is not None:
        with stages.stage(f"Local Discord with {demo.guilds} guilds"):
            simulator = Simulator(guilds=demo.guilds, rate=demo.rate, log=folder.path / "discord_sim.log")
            stack.push_async_callback(simulator.stop)
            await simulator.start()
        settings = await _on_simulator(settings, simulator)
    require_discord(settings)
    gateway = await ask_gateway(settings.discord_api_base, secret_of(settings.discord_token))
    services = await start_services(settings, folder.path, runtime_dir, stages, stack, supervisor=supervisor)
    if simulator is not None:
        await _assign_demo_roles(simulator, services.database_url)

    token_file = folder.path / "ray-token"
    if joined is None:
        environment.prepare(runtime_dir, token_file, settings.door_limits, settings.host)
        cluster = _start_cluster(settings, runtime_dir, stages, stack, signals, supervisor=supervisor)
    else:
        cluster = joined
    from guildhall.wiring import Wiring  # noqa: PLC0415 - Ray and Serve read the environment when imported

    wiring = Wiring(
        database_url=services.database_url,
        redis_url=services.redis_url,
        public_url=settings.url,
        static_dir=settings.static_dir.absolute(),
        client_id=settings.discord_client_id or "",
        client_secret=secret_of(settings.discord_client_secret),
        authorize_url=settings.discord_authorize_url,
        api_base=settings.discord_api_base,
        bot_token=secret_of(settings.discord_token),
        operators=settings.operators,
        secret_keys=secret_keys(settings, folder.path),
        trusted_proxies=settings.trusted_proxies,
        rates=settings.rates,
        max_body_bytes=settings.limit_body_bytes,
        socket_limits=settings.socket_limits,
        max_sessions=settings.limit_sessions,
        live_tick_ms=settings.live_tick_ms,
        user_resolvers=settings.user_resolvers,
    )
    await cluster.start_network(settings, wiring, gateway)
    with stages.stage("Front door"):
        await _until_healthy(settings)
        await _until_sockets_reach_relays(settings)
    return Running(
        url=settings.url,
        sim_url=simulator.url if simulator else None,
        ray_dashboard=cluster.dashboard_url,
        ray_address=cluster.ray_address,
        token_file=token_file,
        services=services,
        supervising=await cluster.supervise(),
        restart_relays=cluster.restart_relays,
    )


def _start_cluster(
    settings: Settings,
    runtime_dir: Path,
    stages: Stages,
    stack: AsyncExitStack,
    signals: Signals,
    *,
    supervisor: Supervisor,
) -> Cluster:
    """Start a Ray cluster of our own, which ends with us."""
    with stages.stage("Ray"):
        from guildhall.cluster import Cluster  # noqa: PLC0415 - Ray reads the environment when imported

        cluster = Cluster(stages, settings, supervisor)
        stack.push_async_callback(cluster.stop, "told to stop")
        cluster.start_ray(runtime_dir / "ray")
        signals.catch()  # again: Ray put handlers of its own in their place
    return cluster


async def _join(
    address: str,
    settings: Settings,
    stages: Stages,
    stack: AsyncExitStack,
    signals: Signals,
    *,
    supervisor: Supervisor,
) -> Cluster:
    """Join somebody's Ray cluster, which stays when we go."""
    with stages.stage("Ray cluster"):
        from guildhall.cluster import Cluster  # noqa: PLC0415 - likewise

        cluster = Cluster(stages, settings, supervisor)
        stack.push_async_callback(cluster.stop, "told to stop")
        cluster.join_ray(address)
        signals.catch()  # likewise
        await cluster.take_cluster()
    return cluster


def _make_runtime_dir(note: Path, stack: AsyncExitStack) -> Path:
    """Make the folder for sockets and for Ray's session, and note where it is while it is there."""
    # In /tmp whatever TMPDIR says: HAProxy takes socket paths up to 97 characters, and Serve adds 68.
    runtime_dir = Path(tempfile.mkdtemp(prefix="gh-", dir="/tmp"))
    note.write_text(str(runtime_dir), encoding="utf-8")
    stack.callback(note.unlink, missing_ok=True)
    stack.callback(shutil.rmtree, runtime_dir, ignore_errors=True)
    return runtime_dir


def _left_by_a_killed_run(note: Path) -> Path | None:
    return Path(note.read_text(encoding="utf-8")) if note.exists() else None


async def _on_simulator(settings: Settings, simulator: Simulator) -> Settings:
    return settings.model_copy(
        update={
            "discord_token": SecretStr(BOT_TOKEN),
            "discord_client_id": CLIENT_ID,
            "discord_client_secret": SecretStr(CLIENT_SECRET),
            "discord_api_base": f"{simulator.url}/api/v10",
            "discord_authorize_url": f"{simulator.url}/oauth2/authorize",
            "shards": settings.shards or DEMO_SHARDS,
            "operators": settings.operators or frozenset({await simulator.operator()}),
        }
    )


def _require_shared_services(settings: Settings) -> None:
    if not (settings.database_url and settings.redis_url):
        raise ConfigurationInvalid(
            "On a Ray cluster (RAY_ADDRESS is set) every node must reach Postgres and Redis: "
            "set GUILDHALL_DATABASE_URL and GUILDHALL_REDIS_URL."
        )


async def _assign_demo_roles(simulator: Simulator, database_url: str) -> None:
    store = await PostgresRoleStore.open(database_url)
    try:
        for wanted in await simulator.roles():
            await store.give(wanted.guild_id, wanted.user_id, wanted.role)
    finally:
        await store.close()


async def _until_healthy(settings: Settings) -> None:
    """Ask the front door until it answers well."""
    async with httpx2.AsyncClient() as client:
        async for attempt in stamina.retry_context(
            on=httpx2.HTTPError, timeout=30.0, attempts=None, wait_initial=0.05, wait_max=0.5
        ):
            with attempt:
                answer = await client.get(f"http://{settings.door}/health")
                answer.raise_for_status()


async def _until_sockets_reach_relays(settings: Settings) -> None:
    """Open sockets until one reaches a relay.

    HAProxy learns of new relays a moment after they stand. Until then it hands sockets to Serve's fallback
    proxy, and they are told to come again (``SERVICE_RESTART``).
    """
    async with aiohttp.ClientSession() as http:
        for _ in range(SOCKETS_TRIES):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with http.ws_connect(f"ws://{settings.door}/ws") as socket:
                    told = await socket.receive(timeout=SOCKETS_TIMEOUT_S)
                if told.data != CloseCode.SERVICE_RESTART:
                    return  # a relay, which asks us to log in first
            await asyncio.sleep(SOCKETS_RETRY_S)
    raise ServiceFailed("No socket reaches a relay through the front door.")


def _write_addresses(running: Running, file: Path) -> Callable[[], None]:
    """Leave all addresses where tools find them while we run, the embedded services' too."""
    file.touch(mode=0o600)
    file.write_text(
        json.dumps(
            {
                "url": running.url,
                "sim_url": running.sim_url,
                "ray_dashboard": running.ray_dashboard,
                "ray_address": running.ray_address,
                "database_url": running.services.database_url,
                "redis_url": running.services.redis_url,
            }
        )
        + "\n",
        encoding="utf-8",
    )
    return partial(file.unlink, missing_ok=True)


def _announce(running: Running, stages: Stages, *, as_json: bool) -> None:
    if as_json:
        ready = {
            "url": running.url,
            "sim_url": running.sim_url,
            "ray_dashboard": running.ray_dashboard,
            "ready_s": round(stages.elapsed_s, 1),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        return
    stages.say()
    stages.say(f"[bold]Guildhall is ready[/] after {stages.elapsed_s:.0f} s.")
    stages.say(f"  Dashboard      [bold cyan]{running.url}[/]")
    if running.sim_url:
        stages.say(f"  Local Discord  {running.sim_url}")
    stages.say(f"  Ray dashboard  {running.ray_dashboard}  (its token is in {running.token_file})")
    stages.say("Ctrl-C stops everything.")


async def _restart_relays_when_told(signals: Signals, running: Running, stages: Stages) -> None:
    """Replace the relays at each SIGHUP; several during one replacement count as one."""
    while True:
        await signals.restart.wait()
        signals.restart.clear()
        stages.say("Restarting the relays …")
        try:
            await running.restart_relays()
        except Exception as error:  # noqa: BLE001 - whatever it was, the old ones go on
            stages.say(f"The relays were not restarted: {error!r}")
        else:
            stages.say("The relays are new.")
