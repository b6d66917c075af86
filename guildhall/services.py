"""Postgres and Redis: the user's own where their URLs are set, and otherwise embedded ones.

The supervisor owns the embedded ones: one that is killed begins anew on the same socket with the same data,
and everything else goes on as it does whenever Postgres or Redis is away.
"""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from actors.supervisor import ChildEnded, ChildPolicy, Complaint, Supervisor
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from adapters.migrate import migrate
from guildhall.connection_budget import connection_budget, require_connections
from guildhall.settings import Settings, secret_of
from guildhall.stages import Stages

FOR_ADMINISTRATION = 20
"""What the embedded PostgreSQL allows beyond the budget: it keeps three for its superuser."""


SERVICE = ChildPolicy(missed_probes=20)
"""One that ended is replaced at once; one that is busy, or frozen for a while, has a minute and a half."""


class Services(NamedTuple):
    """Where the services are."""

    database_url: str
    redis_url: str


class Service(Protocol):
    """A server that runs as a child of this process."""

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        ...

    async def start(self) -> str:
        """Start it on the data that it had, and return its address, which is the same each time."""
        ...

    async def ping(self) -> None:
        """Return when it answers."""
        ...

    async def stop(self) -> None:
        """End it."""
        ...


class EmbeddedService:
    """Postgres or Redis as a child process."""

    def __init__(self, name: str, service: Service) -> None:
        self._name = name
        self._service = service

    async def start(self) -> None:
        """Start the server; what a killed one left is ended first."""
        await self._service.start()

    async def progress(self) -> Hashable:
        """Say which process tries."""
        return self._service.pid

    async def probe(self) -> Complaint | None:
        """Ask it something."""
        if self._service.pid is None:
            raise ChildEnded(f"{self._name} ended.")
        await self._service.ping()
        return None

    async def kill(self) -> None:
        """End the server, by force where it does not obey."""
        await self._service.stop()


async def start_services(
    settings: Settings,
    data_dir: Path,
    runtime_dir: Path,
    stages: Stages,
    stack: AsyncExitStack,
    *,
    supervisor: Supervisor,
) -> Services:
    """Start what is embedded, and bring the schema up to date; the stack stops it all again."""
    database_url, redis_url = secret_of(settings.database_url), secret_of(settings.redis_url)
    budget = connection_budget(settings)
    if not database_url:
        with stages.stage("PostgreSQL"):
            room = max(100, budget.total + FOR_ADMINISTRATION)
            postgres = EmbeddedPostgres(data_dir, runtime_dir, max_connections=room)
            stack.push_async_callback(postgres.stop)
            supervisor.own("PostgreSQL", EmbeddedService("PostgreSQL", postgres), SERVICE)
            await supervisor.start("PostgreSQL")
            database_url = postgres.dsn
    if not redis_url:
        with stages.stage("Redis"):
            redis = EmbeddedRedis(data_dir, runtime_dir)
            stack.push_async_callback(redis.stop)
            supervisor.own("Redis", EmbeddedService("Redis", redis), SERVICE)
            await supervisor.start("Redis")
            redis_url = redis.url
    await require_connections(database_url, budget)
    with stages.stage("Database schema"):
        await migrate(database_url)
    return Services(database_url, redis_url)
