"""The budget of connections against a real server."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from adapters.postgres import connections_allowed
from domain.errors import ConfigurationInvalid
from guildhall.connection_budget import ConnectionBudget, Share, require_connections


@pytest.fixture
async def limited_dsn(postgres_server: str) -> AsyncIterator[str]:
    """Give a database that takes twenty connections."""
    connection = await asyncpg.connect(postgres_server)
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 20")
    yield postgres_server
    await connection.execute(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
    await connection.close()


async def test_what_a_server_keeps_for_others_is_not_ours(postgres_server: str) -> None:
    """Of a hundred connections, three are kept for superusers."""
    assert await connections_allowed(postgres_server) == 97


async def test_a_server_that_allows_too_few_is_refused_with_the_sum(limited_dsn: str) -> None:
    """The sentence says who would take how many, how many there are, and what to set."""
    few, many = (ConnectionBudget((Share("guild hosts", n, 3),)) for n in (4, 5))
    await require_connections(limited_dsn, few)
    with pytest.raises(ConfigurationInvalid, match=r"23 \(5 × 3 for guild hosts.*allows it 20: raise"):
        await require_connections(limited_dsn, many)
