"""What every use of Postgres shares: the pool, the time format, and which errors mean "away"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from adapters.queries import load_queries
from domain.errors import StoreUnavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

COMMAND_TIMEOUT_S = 20.0

IDLE_IN_TRANSACTION_MS = 3_000
"""A host that freezes within a transaction holds its row; Postgres ends that, so that it can be replaced."""

GUILD_STORE_CONNECTIONS = 3
ROLE_STORE_CONNECTIONS = 8
USER_TABLE_CONNECTIONS = 2
API_CONNECTIONS = 8
INSIGHTS_CONNECTIONS = 4
RELAY_CONNECTIONS = 2
"""How many connections a process of each kind may have; their sum over all is checked at the start
(:mod:`guildhall.connection_budget`)."""

_AWAY = (
    OSError,  # asyncio's TimeoutError is one of these since Python 3.11
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised when the connection was just ended
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
)


async def open_pool(
    database_url: str,
    *,
    min_size: int = 1,
    max_size: int,
    name: str = "guildhall",
    settings: Mapping[str, str] | None = None,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
) -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool, perhaps with settings of Postgres; raise :class:`StoreUnavailable` when it is away."""
    with unavailable_when_away():
        return await asyncpg.create_pool(
            database_url,
            min_size=min_size,
            max_size=max_size,
            command_timeout=command_timeout_s,
            timeout=10,
            server_settings={
                "application_name": name,
                "timezone": "UTC",
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
                **(settings or {}),
            },
        )


async def connections_allowed(database_url: str) -> int | None:
    """Return how many connections this role may have to this database.

    None where a pooler such as PgBouncer answers in Postgres' place: no statement tells what it allows.
    """
    with unavailable_when_away():
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            # A pooler gives each client a number of its own, for cancelling.
            if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
                return None
            allowed: int = await connection.fetchval(load_queries("server.sql")["connections_allowed"])
        finally:
            await connection.close()
    return allowed


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that says "the database is away" into :class:`StoreUnavailable`.

    Errors that say that a statement is wrong are bugs, and pass.
    """
    try:
        yield
    except _AWAY as error:
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"The database cannot be reached: {reason}") from error


def to_datetime(ts_ms: int) -> datetime:
    """Return Unix milliseconds as Postgres takes times; exact, unlike float seconds."""
    return _EPOCH + timedelta(milliseconds=ts_ms)


def to_ms(moment: datetime) -> int:
    """Return a time from Postgres as Unix milliseconds."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
