"""What every use of Postgres shares: the pool, bounded waits, the time format, which errors mean "away"."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from typing import Any, Literal

import asyncpg
import structlog

from adapters.circuit_breaker import CircuitBreaker
from adapters.queries import load_queries
from domain.errors import StoreUnavailable
from tasks import SupervisedTasks

log = structlog.get_logger()

_SQL = load_queries("server.sql")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ANSWERS_WITHIN_S = 5.0
"""For how long a conversation may wait for a connection and hold it, unless its pool is told otherwise."""

COMMITS_WITHIN_S = 20.0
"""The same for hosts and the Director: a transaction of theirs may hold two thousand events."""

CONNECTS_WITHIN_S = 5.0

DOUBTED_AFTER_S = 1.0
"""A conversation that takes longer makes its pool ask whether Postgres still answers, ..."""

DOUBTED_AGAIN_AFTER_S = 5.0
"""... and again, for as long as it takes."""

PROBED_WITHIN_S = 2.0
"""A Postgres that takes longer than this to let somebody in, and to answer ``SELECT 1``, hangs."""

_RELEASED_WITHIN_S = 1.0
"""A connection that is not fit for the next use by then is ended."""

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


class StoreTooSlow(StoreUnavailable):
    """Postgres answers others, but this took longer than it may."""


class PostgresPool:
    """Some connections to Postgres, and whoever waits for them. No wait is longer than it says.

    A conversation has one time for all of it. When that is over, or when whoever asked gives up, it ends at
    once: its connection is given back, or ended if that takes long, by a task of this pool. (By itself the
    driver waits until the server has cancelled the statement, which a server that hangs never does.)

    A Postgres that hangs costs those who meet it first ``DOUBTED_AFTER_S`` and ``PROBED_WITHIN_S``. Then all
    who wait are told, and everybody after them at once, until a probe gets an answer. Probes have a
    connection of their own, so that a pool that is merely busy does not count as a server that hangs.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        connect: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
        *,
        within_s: float = ANSWERS_WITHIN_S,
    ) -> None:
        """Take a pool, how to connect beside it, and how long a conversation may take."""
        self._pool = pool
        self._connect = connect
        self._within_s = within_s
        self._breaker = CircuitBreaker(self._probe)
        self._waiting: dict[asyncio.Timeout, asyncio.TimerHandle] = {}
        """Of all conversations: their time, and when they are doubted next."""
        self._doubting: asyncio.Task[None] | None = None
        self._doubted_s = -math.inf
        self._closed = False
        self._tasks = SupervisedTasks("postgres pool")

    async def close(self) -> None:
        """Let the connections go, at once, whatever is asked on them."""
        self._closed = True
        self._pool.terminate()
        await self._breaker.close()
        await self._tasks.stop()

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self.fetchval(_SQL["ping"])

    async def fetch(self, statement: str, *parameters: Any, within_s: float | None = None) -> list[Any]:
        """Return all rows of a statement."""
        async with self.connection(within_s) as connection:
            return await connection.fetch(statement, *parameters)  # type: ignore[no-any-return]

    async def fetchrow(self, statement: str, *parameters: Any, within_s: float | None = None) -> Any:
        """Return the first row of a statement, or None."""
        async with self.connection(within_s) as connection:
            return await connection.fetchrow(statement, *parameters)

    async def fetchval(self, statement: str, *parameters: Any, within_s: float | None = None) -> Any:
        """Return the first value of the first row, or None."""
        async with self.connection(within_s) as connection:
            return await connection.fetchval(statement, *parameters)

    async def execute(self, statement: str, *parameters: Any, within_s: float | None = None) -> None:
        """Run a statement."""
        async with self.connection(within_s) as connection:
            await connection.execute(statement, *parameters)

    def connection(self, within_s: float | None = None) -> AbstractAsyncContextManager[Any]:
        """Hold a connection for as long as that, ``within_s`` at most.

        Raises:
            StoreTooSlow: the time is over, and Postgres answers others.
            StoreUnavailable: Postgres cannot be reached, or hangs.

        """
        return self._conversation(within_s, None)

    def transaction(
        self,
        within_s: float | None = None,
        *,
        isolation: Literal["read_committed", "repeatable_read"] = "read_committed",
        readonly: bool = False,
        dry: bool = False,
    ) -> AbstractAsyncContextManager[Any]:
        """Likewise, in a transaction, made at the end unless it is dry or something is raised."""
        return self._conversation(
            within_s, methodcaller("transaction", isolation=isolation, readonly=readonly), dry=dry
        )

    @asynccontextmanager
    async def _conversation(
        self, within_s: float | None, begin: Callable[[Any], Any] | None, *, dry: bool = False
    ) -> AsyncIterator[Any]:
        if self._breaker.is_open:
            raise StoreUnavailable("The database does not answer.")
        connection = transaction = None
        with unavailable_when_away():
            try:
                async with asyncio.timeout(self._within_s if within_s is None else within_s) as time:
                    with self._doubted(time):
                        connection = await self._pool.acquire()
                        if begin is None:
                            yield connection
                        else:
                            transaction = begin(connection)
                            await transaction.start()
                            yield connection
                            await (transaction.rollback() if dry else transaction.commit())
            except BaseException as error:
                if connection is not None:
                    self._tasks.spawn("give back", self._give_back(connection, transaction))
                if not (isinstance(error, TimeoutError) and time.expired()):
                    raise
                if self._breaker.is_open:
                    raise StoreUnavailable("The database does not answer.") from error
                raise StoreTooSlow("The database took too long.") from error
            await self._give_back(connection)

    async def _give_back(self, connection: Any, broken_off: Any = None) -> None:
        """Make a connection fit for the next use, or end it; that is known of within a second or two."""
        try:
            if broken_off is not None:
                async with asyncio.timeout(_RELEASED_WITHIN_S):
                    await broken_off.rollback()
            await self._pool.release(connection, timeout=_RELEASED_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next who needs one makes another
            log.debug("connection_not_fit", error=repr(error))
            with suppress(asyncpg.InterfaceError):  # it has been ended
                connection.terminate()

    @contextmanager
    def _doubted(self, time: asyncio.Timeout) -> Iterator[None]:
        """Find out whether Postgres hangs when this takes long."""
        loop = asyncio.get_running_loop()
        self._waiting[time] = loop.call_later(DOUBTED_AFTER_S, self._doubt, time)
        try:
            yield
        except asyncio.CancelledError:
            del self._waiting[time]  # the doubt stays: who gives up sooner had no answer, either
            raise
        except BaseException:
            self._waiting.pop(time).cancel()
            raise
        else:
            self._waiting.pop(time).cancel()

    def _doubt(self, time: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        if time in self._waiting:
            self._waiting[time] = loop.call_later(DOUBTED_AGAIN_AFTER_S, self._doubt, time)
        if loop.time() - self._doubted_s < DOUBTED_AFTER_S or self._breaker.is_open or self._closed:
            return
        if self._doubting is None or self._doubting.done():
            self._doubted_s = loop.time()
            self._doubting = self._tasks.spawn("find out", self._find_out())

    async def _find_out(self) -> None:
        try:
            await self._probe()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
            log.warning("database_does_not_answer", waiting=len(self._waiting), error=repr(error))
            self._breaker.trip()
            now_s = asyncio.get_running_loop().time()
            for time in self._waiting:
                if not time.expired():
                    time.reschedule(now_s)

    async def _probe(self) -> None:
        async with asyncio.timeout(PROBED_WITHIN_S):
            try:
                connection = await self._connect()
            except asyncpg.InsufficientResourcesError:
                return  # it is full, and says so
            try:
                await connection.fetchval(_SQL["ping"])
            finally:
                connection.terminate()


async def open_pool(
    database_url: str,
    *,
    max_size: int,
    within_s: float = ANSWERS_WITHIN_S,
    name: str = "guildhall",
    settings: Mapping[str, str] | None = None,
) -> PostgresPool:
    """Open a pool, perhaps with settings of Postgres. It connects when it is first asked, not before."""
    chosen = {
        "application_name": name,
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
        **(settings or {}),
    }

    async def connect(*_: Any, **options: Any) -> asyncpg.Connection[asyncpg.Record]:
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            database_url, timeout=CONNECTS_WITHIN_S, server_settings=chosen, **options
        )
        return connection

    pool = await asyncpg.create_pool(connect=connect, min_size=0, init_size=0, max_size=max_size)
    return PostgresPool(pool, connect, within_s=within_s)


async def connections_allowed(database_url: str) -> int | None:
    """Return how many connections this role may have to this database.

    None where a pooler such as PgBouncer answers in Postgres' place: no statement tells what it allows.
    """
    with unavailable_when_away():
        connection = await asyncpg.connect(database_url, timeout=CONNECTS_WITHIN_S)
        try:
            # A pooler gives each client a number of its own, for cancelling.
            if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
                return None
            allowed: int = await connection.fetchval(_SQL["connections_allowed"])
        finally:
            await connection.close()
    return allowed


@contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Turn every error that says "the database is away" into :class:`StoreUnavailable`.

    Errors that say that a statement or a value is wrong are bugs, and pass.
    """
    try:
        yield
    except asyncpg.QueryCanceledError as error:
        raise StoreTooSlow("The database ended this for taking too long.") from error
    except _AWAY as error:
        if isinstance(error, ValueError):  # what the driver says of a value that fits no column
            raise
        reason = str(error) or type(error).__name__
        raise StoreUnavailable(f"The database cannot be reached: {reason}") from error


def to_datetime(ts_ms: int) -> datetime:
    """Return Unix milliseconds as Postgres takes times; exact, unlike float seconds."""
    return _EPOCH + timedelta(milliseconds=ts_ms)


def to_ms(moment: datetime) -> int:
    """Return a time from Postgres as Unix milliseconds."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)
