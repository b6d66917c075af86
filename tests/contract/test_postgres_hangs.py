"""A Postgres that hangs refuses nothing and answers nothing: nobody waits for it longer than is said."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from actors.host import GuildHost, HostSettings
from adapters.clock import now_ms
from adapters.dashboard_store import PostgresDashboardStore
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.guild_store import PostgresGuildStore
from adapters.insight_store import PostgresInsightStore
from adapters.migrate import migrate
from adapters.postgres import API_CONNECTIONS, PostgresPool, open_pool
from adapters.role_store import PostgresRoleStore
from domain.errors import StoreUnavailable
from domain.events import Accepted, Batch, Busy, MessagesCounted, decode_reply, encode_batch
from domain.ids import hour_start
from domain.insights import Wanted
from domain.placement import place
from domain.roles import Member

NOBODY_WAITS_SO_LONG_S = 15.0


class Hanging:
    """A Postgres that can be frozen."""

    def __init__(self, postgres: EmbeddedPostgres, dsn: str) -> None:
        self.dsn = dsn
        self._server = psutil.Process(postgres.pid)

    def freeze(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now
                process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        # The server first, so that it begins no more of them meanwhile.
        return [self._server, *self._server.children(recursive=True)]


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hanging]:
    folder = tmp_path_factory.mktemp("postgres")
    folder.chmod(0o700)
    with tempfile.TemporaryDirectory(prefix="gh-") as runtime:
        postgres = EmbeddedPostgres(folder, Path(runtime))
        dsn = await postgres.start()
        await migrate(dsn)
        yield Hanging(postgres, dsn)
        await postgres.stop()


@pytest.fixture
async def postgres(server: Hanging) -> AsyncIterator[Hanging]:
    yield server
    server.thaw()


async def _back(ask: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):
        while True:
            try:
                await ask()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


def _is_refused_at_once(asked: Coroutine[Any, Any, Any]) -> None:
    """Without waiting for anything."""
    with pytest.raises(StoreUnavailable):
        asked.send(None)


async def _ask_impatiently(pool: PostgresPool) -> None:
    """Ask again and again, and never wait for long."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await pool.ping()


async def _until_taken(send: Callable[[], Awaitable[Any]]) -> None:
    while isinstance(answer := await send(), Busy):  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.05)
    assert isinstance(answer, Accepted)


async def test_all_who_ask_are_told_and_later_ones_at_once(postgres: Hanging) -> None:
    """However many wait, for whatever of a pool; and afterwards it has all its connections, and no more."""
    dashboard = await PostgresDashboardStore.open(postgres.dsn)
    insights = await PostgresInsightStore.open(postgres.dsn)
    roles = await PostgresRoleStore.open(postgres.dsn)
    asked: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        *([dashboard.ping] * (API_CONNECTIONS + 4)),
        partial(dashboard.guilds, [1]),
        partial(insights.violations, 1, Wanted(), limit=10, offset=0),
        partial(roles.records, [Member(1, 1, owns=False, discord_permissions=0)]),
    ]
    await asyncio.gather(*(ask() for ask in asked))
    postgres.freeze()
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):
        told = await asyncio.gather(*(ask() for ask in asked), return_exceptions=True)
    assert [type(error) for error in told] == [StoreUnavailable] * len(asked)
    for ask in asked:
        _is_refused_at_once(ask())
    postgres.thaw()
    for store in (dashboard.ping, asked[-2], asked[-1]):
        await _back(store)
    await asyncio.gather(*(ask() for ask in asked))
    pool = await open_pool(postgres.dsn, max_size=1)
    (count,) = await pool.fetchrow("SELECT count(*) FROM pg_stat_activity WHERE usename = current_user")
    assert count <= API_CONNECTIONS + 2 + 1
    for each in (dashboard, insights, roles, pool):
        await each.close()


async def test_who_gives_up_need_not_wait(postgres: Hanging) -> None:
    """Neither in a statement nor in a transaction, nor for a connection; the next finds the pool whole."""
    pool = await open_pool(postgres.dsn, max_size=2)

    async def change() -> None:
        async with pool.transaction() as connection:
            await connection.execute("SELECT 1")

    await asyncio.gather(change(), change())
    postgres.freeze()
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):
        for ask in (pool.ping, change, pool.ping):
            waiting = asyncio.create_task(ask())
            await asyncio.sleep(0.05)
            waiting.cancel()
            # A driver that asks the frozen server to cancel would still be there.
            done, _ = await asyncio.wait({waiting}, timeout=1.0)
            assert done
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):  # it is found out all the same
        with pytest.raises(StoreUnavailable):
            await _ask_impatiently(pool)
    postgres.thaw()
    await _back(pool.ping)
    await asyncio.gather(*(change() for _ in range(6)))
    await pool.close()


async def test_a_pool_that_is_busy_does_not_count_as_a_server_that_hangs(postgres: Hanging) -> None:
    """What takes too long is ended, on the server too; what has more time goes on, and so do all others."""
    pool = await open_pool(postgres.dsn, max_size=1, within_s=1.5)
    other = await open_pool(postgres.dsn, max_size=1)
    with pytest.raises(StoreUnavailable):
        await pool.execute("SELECT pg_sleep(600)")
    await pool.ping()
    await pool.execute("SELECT pg_sleep(1.7)", within_s=10)
    still = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%(600)'"
    assert await other.fetchval(still + " AND pid <> pg_backend_pid()") == 0
    for each in (pool, other):
        await each.close()


async def test_a_commit_that_is_broken_off_is_made_once(postgres: Hanging) -> None:
    """In doubt while nobody can say whether it was made; afterwards it is asked, and counts once."""
    host = GuildHost(
        HostSettings("h-hang", tick_ms=50), partial(PostgresGuildStore.open, postgres.dsn), now_ms
    )
    await host.start()
    await host.assign(place(1, ["h-hang"]))

    async def send(number: int) -> Any:
        events = (MessagesCounted(7, hour_start(now_ms()), 1),)
        return decode_reply(await host.ingest(encode_batch(Batch("s-hang", number, events))))

    assert isinstance(await send(1), Accepted)
    committing = asyncio.create_task(send(2))
    await asyncio.sleep(0)
    postgres.freeze()
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):
        assert isinstance(await committing, Accepted | Busy)
        assert isinstance(await send(3), Busy)
    postgres.thaw()
    async with asyncio.timeout(NOBODY_WAITS_SO_LONG_S):
        for number in (2, 3):
            await _until_taken(partial(send, number))
    pool: PostgresPool = await open_pool(postgres.dsn, max_size=1)
    assert await pool.fetchval("SELECT sum(messages) FROM metrics_hourly WHERE guild_id = 7") == 3
    await pool.close()
    await host.stop("the test is over")
    await host._store.close()  # type: ignore[attr-defined]
