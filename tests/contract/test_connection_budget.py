"""The budget of connections against a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from structlog.testing import capture_logs

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


@pytest.fixture
async def pooled_dsn(postgres_server: str, tmp_path: Path) -> AsyncIterator[str]:
    """Give an address at which every client gets another number than its process, as poolers do it."""
    [folder] = parse_qs(urlsplit(postgres_server).query)["host"]

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            before, key, after = data.partition(b"K\0\0\0\x0c")  # BackendKeyData, of twelve bytes
            writer.write(before + key + (b"\x7f" + after[1:] if key else after))
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))

    async with await asyncio.start_unix_server(serve, f"{tmp_path}/.s.PGSQL.5432"):
        yield postgres_server.replace(folder, str(tmp_path))


async def test_what_a_pooler_allows_cannot_be_asked(pooled_dsn: str) -> None:
    """Nothing is refused for what the server behind it allows; it is said how many connections there are."""
    assert await connections_allowed(pooled_dsn) is None
    with capture_logs() as logs:
        await require_connections(pooled_dsn, ConnectionBudget((Share("guild hosts", 1_000, 3),)))
    assert [(entry["event"], entry["connections"]) for entry in logs] == [("connection_pooler", 3_008)]
