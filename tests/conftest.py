"""The running system that integration and browser tests share: one ``guildhall demo``, started once."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import aiohttp
import asyncpg
import pytest
from hypothesis import settings

from guildhall.testing import DemoProcess, Sim

# In CI the same examples each time: a change is judged by what it changed. Everywhere else, new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """Run a quiet demo: nothing happens in it but what a test makes happen."""
    demo = DemoProcess(tmp_path_factory.mktemp("stack"), "--guilds", "40", "--rate", "0")
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
