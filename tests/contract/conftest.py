"""Real servers for the contract suites: one Redis and one local Discord for all of them."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from tests.contract.stores import fresh_id


@pytest.fixture
async def empty(embedded_postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """Give the DSN of a database with nothing in it, as its owner connects."""
    name = f"empty{fresh_id()}"
    admin = await asyncpg.connect(embedded_postgres.superuser_dsn)
    await admin.execute(f"CREATE DATABASE {name} OWNER guildhall_app")
    yield urlunsplit(urlsplit(embedded_postgres.dsn)._replace(path=f"/{name}"))
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture(scope="session")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="gh-") as runtime_dir:
        async with EmbeddedRedis(tmp_path_factory.mktemp("redis"), Path(runtime_dir)) as url:
            yield url


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[EmbeddedRedis]:
    """Start a Redis of the test's own, to be stopped, frozen and started again."""
    with tempfile.TemporaryDirectory(prefix="gh-") as runtime_dir:
        redis = EmbeddedRedis(tmp_path, Path(runtime_dir))
        await redis.start()
        yield redis
        await redis.stop()


@pytest.fixture(scope="session")
async def discord() -> AsyncIterator[dict[str, Any]]:
    """Start a local Discord; give what it says about itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "discord_sim", "--port", "0", "--guilds", "3", "--rate", "0"),
        "--exit-with-stdin",
        stdin=PIPE,
        stdout=PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    process.stdin.close()
    await process.communicate()
