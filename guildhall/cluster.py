"""Ray, Serve and the actors of one network, started and stopped in order.

Importing this module imports Ray: :func:`guildhall.environment.prepare` must have run before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray
import structlog

from actors.backoff import Backoff
from actors.director import DirectorSettings
from actors.handles import (
    DIRECTOR_NAME,
    NAMESPACE,
    RBAC_NAME,
    RESOLVER_NAME,
    AnyDirector,
    DirectorHandle,
    RbacHandle,
    ResolverHandle,
    find_director,
    find_rbac,
    find_resolver,
    find_runners,
)
from actors.runner_presence import RunnerPresence
from actors.supervisor import ChildPolicy, Supervisor
from adapters.clock import now_ms
from adapters.discord_api import GatewayInfo
from adapters.redis_supervision import RedisSupervision
from domain.errors import GuildhallError, ServiceFailed, StoreUnavailable
from guildhall.actors import (
    create_director,
    create_rbac,
    create_resolver,
    find_online_guilds,
    open_presence_outbox,
    plan_runners,
)
from guildhall.children import FrontDoor, ResidentChild, RunnerChild
from guildhall.cluster_lease import acquire_lease, clear_cluster
from guildhall.connecting import until_connected
from guildhall.deployments import deploy, relays_are_new, restart_relays
from guildhall.front_door import SERVE_HOST
from guildhall.haproxy_process import HAProxyProcess
from guildhall.settings import Settings, secret_of
from guildhall.stages import Stages
from guildhall.wiring import Wiring
from tasks import SupervisedTasks

log = structlog.get_logger()
T = TypeVar("T")

STOP_WITHIN_S = 10.0
THREADS_END_WITHIN_S = 30.0
RELAYS_NEW_WITHIN_S = 300.0
LOOK_AT_RELAYS_EVERY_S = 0.5
LOOK_EVERY_S = 2.0
DIRECTOR = ChildPolicy(unhealthy_for_s=120.0)
"""It may wait for hosts that start, and for a database that comes back."""

DOOR = ChildPolicy(
    probe_every_s=1.0,
    probe_timeout_s=10.0,
    start_timeout_s=180.0,
    unhealthy_for_s=60.0,
    backoff=Backoff(max_s=120.0),
)
"""A HAProxy that ended is noticed within a second, one that hangs within nine. Deploying replaces every
replica: not for a door that is only busy."""

RUNNER = ChildPolicy(backoff=Backoff(stable_after_s=5.0))
"""One whose shards were all connected for so long is in no loop; and to RESUME again costs nothing."""

LOGICAL_CPUS = 16
"""Only Serve's own actors ask for any; how much work there is for the real ones, nobody reserves."""


class Cluster:
    """What runs on Ray. Owned by the process that started it: when that ends, so does all of it."""

    def __init__(self, stages: Stages, settings: Settings, supervisor: Supervisor) -> None:
        self._stages = stages
        self._settings = settings
        self._wiring: Wiring
        self._serve_host = ""
        self._supervisor = supervisor
        self._supervising: asyncio.Task[None] | None = None
        self._tasks = SupervisedTasks("cluster")
        self._board: RedisSupervision | None = None
        self._director: ResidentChild[DirectorHandle] | None = None
        self._runners: list[RunnerChild] = []
        self._shard_count = 0
        self._asking: set[asyncio.Future[Any]] = set()
        self._lease: Any = None
        """On a cluster that is not ours alone: kept for as long as we run on it."""
        self.dashboard_url = ""
        self.ray_address = ""

    def start_ray(self, temp_dir: Path) -> None:
        """Start a cluster on this machine, with its dashboard on loopback. Blocks."""
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        self._serve_host = SERVE_HOST  # HAProxy alone listens where people come from
        context = ray.init(
            namespace=NAMESPACE,
            num_cpus=LOGICAL_CPUS,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=256 << 20,
            _temp_dir=str(temp_dir),
        )
        self._note(context)

    def join_ray(self, address: str) -> None:
        """Join the cluster at ``address``. Blocks. Raises ``ServiceFailed`` when it does not let us in."""
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            context = ray.init(
                address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING
            )
        except Exception as error:
            first_line = str(error).partition("\n")[0]
            raise ServiceFailed(f"The Ray cluster at {address} cannot be joined: {first_line}") from error
        self._note(context)

    async def take_cluster(self) -> None:
        """Take the cluster that was joined for this process, and clear away what a killed run has left there.

        Raises:
            ConfigurationInvalid: Guildhall runs on it already.

        """
        self._lease = await asyncio.to_thread(acquire_lease, self._settings.url)
        await asyncio.to_thread(clear_cluster)

    def _note(self, context: Any) -> None:
        self.dashboard_url = f"http://{context.dashboard_url}" if context.dashboard_url else "none"
        self.ray_address = context.address_info["gcs_address"]

    async def supervise(self) -> asyncio.Task[None]:
        """Look after everything that was started, until ``stop``; the task ends only if that broke.

        Returned, it has written up once how all are: who is told that all is ready finds them there.
        """
        self._board = RedisSupervision(self._wiring.redis_url, now_ms)
        await self._publish()
        self._tasks.every("write up the children", LOOK_EVERY_S, self._publish)
        self._tasks.keep("presence", self._tell_presence)
        self._supervising = asyncio.create_task(self._supervisor.run(), name="The supervisor")
        return self._supervising

    async def _publish(self) -> None:
        """Write up how the children are, for health and for who operates the network."""
        if self._board is not None:
            with contextlib.suppress(StoreUnavailable):  # then nobody can say, and the next round comes soon
                await self._board.publish(self._supervisor.board())

    async def _tell_presence(self) -> None:
        """Tell for runners that do not answer that their guilds are offline."""
        find_online = partial(find_online_guilds, self._wiring.database_url, self._shard_count)
        async with open_presence_outbox() as outbox:
            presence = RunnerPresence(find_online, outbox.add, now_ms)
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                with contextlib.suppress(StoreUnavailable):  # the next look comes soon
                    await presence.look({runner.runner_id: runner.sign() for runner in self._runners})

    async def start_network(self, settings: Settings, wiring: Wiring, gateway: GatewayInfo) -> None:
        """Start hosts, Serve and shards; return when people can log in and events flow."""
        self._settings, self._wiring = settings, wiring
        supervisor = self._supervisor
        shard_count = self._shard_count = settings.shards or gateway.shards
        with self._stages.stage(f"Director and {settings.hosts} guild hosts"):
            await _all_started(supervisor, self._own_residents(wiring))
        with self._stages.stage(f"Serve with HAProxy, {shard_count} shards on the gateway"):
            await _all_started(supervisor, [*self._own_runners(gateway, shard_count), self._own_door(wiring)])
            await until_connected(self._stages, shard_count, find_runners)

    def _own_residents(self, wiring: Wiring) -> list[str]:
        """Let the supervisor own the actors that everybody asks; return their names."""
        settings, supervisor = self._settings, self._supervisor
        directing = DirectorSettings(settings.hosts, retention_days=settings.retention_days)
        self._director = ResidentChild(
            DIRECTOR_NAME,
            find_director,
            partial(create_director, wiring, directing),
            begin=DirectorHandle.start,
            ping=DirectorHandle.ping,
        )
        supervisor.own("director", self._director, DIRECTOR)
        rbac = ResidentChild(
            RBAC_NAME,
            find_rbac,
            partial(create_rbac, wiring),
            begin=RbacHandle.start,
            ping=RbacHandle.ping,
        )
        supervisor.own("rbac", rbac)
        resolvers = [f"users {number}" for number in range(settings.user_resolvers)]
        for number, name in enumerate(resolvers):
            resolver = ResidentChild(
                RESOLVER_NAME.format(number=number),
                partial(find_resolver, number),
                partial(create_resolver, wiring, number),
                begin=ResolverHandle.stats,
                ping=_answers,
            )
            supervisor.own(name, resolver)
        return ["director", "rbac", *resolvers]

    def _own_runners(self, gateway: GatewayInfo, shard_count: int) -> list[str]:
        settings = self._settings
        plans = plan_runners(
            secret_of(settings.discord_token),
            self._wiring.redis_url,
            shard_count=shard_count,
            per_runner=settings.shards_per_runner,
            api_base=settings.discord_api_base,
            gateway_url=gateway.url,
            spool_dir=settings.spool_folder,
            spool_max_bytes=settings.spool_max_bytes,
        )
        names = []
        director = AnyDirector()
        for runner_id, plan in plans.items():
            runner = RunnerChild(runner_id, plan.shard_ids, plan.create, director.find_runner)
            self._runners.append(runner)
            names.append(f"runner {runner_id}")
            self._supervisor.own(names[-1], runner, RUNNER)
        return names

    def _own_door(self, wiring: Wiring) -> str:
        settings = self._settings
        serve = partial(
            deploy,
            wiring,
            host=self._serve_host or settings.host,
            port=settings.port,
            api_replicas=settings.api_replicas,
            relay_replicas=settings.relay_replicas,
        )
        door = FrontDoor(settings.door, partial(self._in_thread, serve), HAProxyProcess())
        self._supervisor.own("front door", door, DOOR)
        return "front door"

    async def restart_relays(self) -> None:
        """Replace the relays one after the other, under those who watch."""
        log.info("relays_restarting")
        await self._in_thread(partial(restart_relays, self._wiring, self._settings.relay_replicas))
        async with asyncio.timeout(RELAYS_NEW_WITHIN_S):
            while not await self._in_thread(relays_are_new):  # noqa: ASYNC110 - Serve tells nobody
                await asyncio.sleep(LOOK_AT_RELAYS_EVERY_S)
        log.info("relays_restarted")

    async def _in_thread(self, ask_serve: Callable[[], T]) -> T:
        """Ask Serve something that blocks, in a thread that ``stop`` waits for.

        One that outlived the cluster would find none, and Serve would start another.
        """
        asking = asyncio.ensure_future(asyncio.to_thread(ask_serve))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        return await asyncio.shield(asking)

    async def stop(self, reason: str) -> None:
        """Let the shards deliver what they have, then end everything."""
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        await self._tasks.stop()
        if self._board is not None:
            await self._board.close()
        director = self._director.handle if self._director else None
        for actors in (self._runners, [director] if director else []):
            with contextlib.suppress(GuildhallError, TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await asyncio.gather(*(actor.stop(reason) for actor in actors), return_exceptions=True)
        try:
            if self._lease is not None:
                await asyncio.to_thread(clear_cluster)
        finally:
            if self._asking:
                await asyncio.wait(self._asking, timeout=THREADS_END_WITHIN_S)
            if ray.is_initialized():
                await asyncio.to_thread(ray.shutdown)


async def _all_started(supervisor: Supervisor, names: list[str]) -> None:
    """Start children at once; when one fails, end the other starts and say why."""
    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(supervisor.start(name), name=f"start {name}")
    except* GuildhallError as failed:
        raise failed.exceptions[0] from None
    except* Exception as failed:
        raise ServiceFailed(f"Guildhall cannot start: {failed.exceptions[0]!r}") from failed


async def _answers(resolver: ResolverHandle) -> None:
    await resolver.stats()
