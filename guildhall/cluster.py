"""Ray, Serve and the actors of one network, started and stopped in order.

Importing this module imports Ray: :func:`guildhall.environment.prepare` must have run before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import structlog

from actors.director import DirectorSettings
from actors.handles import NAMESPACE, DirectorHandle, RunnerHandle, find_runners
from adapters.discord_api import GatewayInfo
from domain.errors import GuildhallError, HostUnreachable
from guildhall.connecting import until_connected
from guildhall.deployments import deploy, restart_relays
from guildhall.settings import Settings, secret_of
from guildhall.stages import Stages
from guildhall.wiring import Wiring, create_director, create_rbac, create_resolvers, plan_runners

log = structlog.get_logger()

STOP_WITHIN_S = 10.0
LOOK_EVERY_S = 2.0
LOGICAL_CPUS = 16
"""Only Serve's own actors ask for any; how much work there is for the real ones, nobody reserves."""


class Cluster:
    """What runs on Ray. Owned by the process that started it: when that ends, so does all of it."""

    def __init__(self, stages: Stages, settings: Settings, temp_dir: Path) -> None:
        self._stages = stages
        self._settings = settings
        self._temp_dir = temp_dir
        self._director: DirectorHandle | None = None
        self._wiring: Wiring
        self._plans: list[Callable[[], RunnerHandle]] = []
        self._runners: list[RunnerHandle] = []
        self.dashboard_url = ""
        self.ray_address = ""

    def start_ray(self) -> None:
        """Start a cluster on this machine, with its dashboard on loopback. Blocks."""
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        context = ray.init(
            namespace=NAMESPACE,
            num_cpus=LOGICAL_CPUS,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=256 << 20,
            _temp_dir=str(self._temp_dir),
        )
        self._note(context)

    def join_ray(self, address: str) -> None:
        """Join the cluster at ``address``. Blocks."""
        context = ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
        self._note(context)

    def _note(self, context: Any) -> None:
        self.dashboard_url = f"http://{context.dashboard_url}"
        self.ray_address = context.address_info["gcs_address"]

    async def watch_over(self) -> None:
        """Look now and then after what nobody else looks after: the Director and the shard runners.

        A Director that Ray restarted recovers when it is asked something. A runner that died is created
        anew, takes up its spool, and tells for how long it was away.
        """
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self._director is not None:
                    await self._director.routing()
            except GuildhallError as error:
                log.warning("director_does_not_answer", error=str(error))
            for number, runner in enumerate(self._runners):
                try:
                    await runner.stats()
                except HostUnreachable:
                    await self._revive(number)

    async def _revive(self, number: int) -> None:
        log.warning("runner_replaced", runner=number)
        try:
            runner = self._plans[number]()
            await runner.start()
            self._runners[number] = runner
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look tries again
            log.error("runner_not_replaced", runner=number, error=repr(error))  # noqa: TRY400

    async def start_network(self, wiring: Wiring, gateway: GatewayInfo) -> None:
        """Start hosts, Serve and shards; return when people can log in and events flow."""
        settings = self._settings
        self._wiring = wiring
        shard_count = settings.shards or gateway.shards
        with self._stages.stage(f"Director and {settings.hosts} guild hosts"):
            self._director = create_director(
                wiring, DirectorSettings(settings.hosts, retention_days=settings.retention_days)
            )
            create_resolvers(wiring)
            await asyncio.gather(create_rbac(wiring).start(), self._director.start())
        with self._stages.stage(f"Serve with HAProxy, {shard_count} shards on the gateway"):
            self._plans = plan_runners(
                secret_of(settings.discord_token),
                wiring.redis_url,
                shard_count=shard_count,
                per_runner=settings.shards_per_runner,
                api_base=settings.discord_api_base,
                gateway_url=gateway.url,
                spool_dir=settings.spool_folder,
                spool_max_bytes=settings.spool_max_bytes,
            )
            self._runners = [plan() for plan in self._plans]
            await asyncio.gather(
                asyncio.to_thread(
                    deploy,
                    wiring,
                    host=settings.host,
                    port=settings.port,
                    api_replicas=settings.api_replicas,
                    relay_replicas=settings.relay_replicas,
                ),
                *(runner.start() for runner in self._runners),
            )
            await until_connected(self._stages, shard_count, find_runners)

    async def restart_relays(self) -> None:
        """Replace the relays one after the other, under those who watch."""
        log.info("relays_restarting")
        await asyncio.to_thread(restart_relays, self._wiring, self._settings.relay_replicas)
        log.info("relays_restarted")

    async def stop(self, reason: str) -> None:
        """Let the shards deliver what they have, then end everything."""
        for actors in (self._runners, [self._director] if self._director else []):
            with contextlib.suppress(GuildhallError, TimeoutError):
                async with asyncio.timeout(STOP_WITHIN_S):
                    await asyncio.gather(*(actor.stop(reason) for actor in actors), return_exceptions=True)
        if ray.is_initialized():
            await asyncio.to_thread(ray.shutdown)
