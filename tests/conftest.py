"""What several kinds of tests share: one PostgreSQL and one ``guildhall demo``, each started if needed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from hypothesis import settings

from adapters.embedded_postgres import EmbeddedPostgres
from adapters.migrate import migrate
from guildhall.testing import CROWD_AT_ONE_ADDRESS, DemoProcess, Sim

# In CI the same examples each time: a change is judged by what it changed. Everywhere else, new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

PATIENT = {
    "GUILDHALL_LIMIT_READS": "100000 per second",
    "GUILDHALL_LIMIT_CHANGES": "100000 per second",
    "GUILDHALL_LIMIT_STRANGERS": "100000 per second",
    "GUILDHALL_LIMIT_HANDSHAKES": "100000 per second",
    "GUILDHALL_LIMIT_LOGINS": "300 per minute",
    **CROWD_AT_ONE_ADDRESS,
}
"""Tests are a few people at one address who do in seconds what others do in a day."""


@pytest.fixture(scope="session")
async def embedded_postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """Start a server."""
    with tempfile.TemporaryDirectory(prefix="gh-") as runtime_dir:
        postgres = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), Path(runtime_dir))
        async with postgres:
            yield postgres


@pytest.fixture(scope="session")
async def postgres_server(embedded_postgres: EmbeddedPostgres) -> str:
    """Give the DSN of the server's database, which is empty."""
    return embedded_postgres.dsn


@pytest.fixture(scope="session")
async def postgres_dsn(postgres_server: str) -> str:
    """Give the DSN of a database with today's schema."""
    await migrate(postgres_server)
    return postgres_server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """Run a quiet demo, two replicas of each kind: nothing happens in it but what a test makes happen."""
    options = ("--guilds", "40", "--rate", "0")
    demo = DemoProcess(
        tmp_path_factory.mktemp("stack"),
        *options,
        **PATIENT,
        GUILDHALL_API_REPLICAS="2",
        GUILDHALL_RELAY_REPLICAS="2",
    )
    try:
        demo.wait_ready()
        yield demo
        code, said = demo.end()
        assert code == 0, said
    finally:
        demo.make_sure_it_ended()


@pytest.fixture
async def database(stack: DemoProcess) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the stack's own Postgres."""
    connection = await asyncpg.connect(stack.database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def sim(stack: DemoProcess) -> AsyncIterator[Sim]:
    async with aiohttp.ClientSession() as http:
        yield Sim(stack.sim_url, http)
