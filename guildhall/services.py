"""Postgres and Redis: the user's own where their URLs are set, and otherwise embedded ones."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from adapters.migrate import migrate
from guildhall.connection_budget import connection_budget, require_connections
from guildhall.settings import Settings, secret_of
from guildhall.stages import Stages

FOR_ADMINISTRATION = 20
"""What the embedded PostgreSQL allows beyond the budget: it keeps three for its superuser."""


class Services(NamedTuple):
    """Where the services are, and what to watch: a task that is done says that one of ours ended."""

    database_url: str
    redis_url: str
    ends: list[asyncio.Task[int]]


async def start_services(
    settings: Settings, data_dir: Path, runtime_dir: Path, stages: Stages, stack: AsyncExitStack
) -> Services:
    """Start what is embedded, and bring the schema up to date; the stack stops it all again."""
    database_url, redis_url = secret_of(settings.database_url), secret_of(settings.redis_url)
    ends: list[asyncio.Task[int]] = []
    budget = connection_budget(settings)
    if not database_url:
        with stages.stage("PostgreSQL"):
            room = max(100, budget.total + FOR_ADMINISTRATION)
            postgres = EmbeddedPostgres(data_dir, runtime_dir, max_connections=room)
            database_url = await stack.enter_async_context(postgres)
            ends.append(asyncio.create_task(postgres.wait(), name="PostgreSQL"))
    if not redis_url:
        with stages.stage("Redis"):
            redis = EmbeddedRedis(data_dir, runtime_dir)
            redis_url = await stack.enter_async_context(redis)
            ends.append(asyncio.create_task(redis.wait(), name="Redis"))
    await require_connections(database_url, budget)
    with stages.stage("Database schema"):
        await migrate(database_url)
    return Services(database_url, redis_url, ends)
