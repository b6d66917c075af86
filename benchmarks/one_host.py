"""What benchmarks of the guild core run on: an embedded Postgres and guild hosts in a Ray of their own.

No Serve, no Redis, no Director and no dashboard: nothing but what is measured uses the cores. Ray must not
be imported before :func:`system` has prepared its environment, so this module imports it late.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import psutil

from actors.group_commit import CommitSettings
from actors.guild_table import TableSettings
from adapters.clock import now_ms
from adapters.data_folder import DataFolder
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.guild_store import PostgresGuildStore
from adapters.migrate import migrate
from benchmarks.own_demo import signals_cancel
from domain.placement import place
from guildhall import environment
from guildhall.descendants import adopt_orphans, end_descendants

if TYPE_CHECKING:
    from actors.handles import HostHandle

HOST_ID = "bench"
LOGICAL_CPUS = 4
"""Workers that Ray starts in advance; actors of ours ask for none."""


class System:
    """Where Postgres is, and how to begin a host on it."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url

    async def begin_host(
        self,
        table: TableSettings | None = None,
        commit: CommitSettings | None = None,
        tick_ms: int = 1_000,
    ) -> HostHandle:
        """Begin a life of the one host, which owns every guild."""
        from actors.host import HostSettings  # noqa: PLC0415
        from actors.remote import create_host  # noqa: PLC0415 - Ray

        actor_name = f"guildhall-host-{HOST_ID}-{secrets.token_hex(4)}"
        settings = HostSettings(
            HOST_ID,
            actor_name,
            commit or CommitSettings(),
            table or TableSettings(),
            tick_ms,
            owns_process=True,
        )
        host = create_host(actor_name, settings, partial(PostgresGuildStore.open, self.database_url), now_ms)
        await host.start()
        await host.assign(place(1, [HOST_ID]))
        return host


_RAY_TOKEN = secrets.token_hex(32)
"""One for all clusters of this process, which come after each other: Ray reads it once."""


@contextlib.asynccontextmanager
async def system() -> AsyncIterator[System]:
    """Start Postgres and Ray in a folder of their own; end both, and remove it, whatever happens."""
    async with _postgres() as (database_url, folder), _ray(folder):
        with signals_cancel():  # again: Ray put handlers of its own in their place
            yield System(database_url)


@contextlib.asynccontextmanager
async def database() -> AsyncIterator[str]:
    """Start Postgres alone, with today's schema; give its address."""
    async with _postgres() as (database_url, _):
        yield database_url


@contextlib.asynccontextmanager
async def _postgres() -> AsyncIterator[tuple[str, Path]]:
    adopt_orphans()
    with signals_cancel():
        async with contextlib.AsyncExitStack() as stack:
            # In /tmp whatever TMPDIR says: paths of Unix sockets may have 107 bytes.
            folder = Path(tempfile.mkdtemp(prefix="ghb-", dir="/tmp"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.push_async_callback(end_descendants)
            data = stack.enter_context(DataFolder(folder / "data"))
            database_url = await stack.enter_async_context(EmbeddedPostgres(data.path, folder))
            await migrate(database_url)
            store = await PostgresGuildStore.open(database_url)
            await store.ensure_partitions(now_ms())
            await store.close()
            yield database_url, folder


@contextlib.asynccontextmanager
async def _ray(folder: Path) -> AsyncIterator[None]:
    before = dict(os.environ)
    os.environ.setdefault("RAY_AUTH_TOKEN", _RAY_TOKEN)
    environment.prepare(folder, folder / "ray-token")
    import ray  # noqa: PLC0415 - it reads the environment when it is imported

    from actors.handles import NAMESPACE  # noqa: PLC0415

    try:
        ray.init(  # blocks: in another thread it could not put its signal handlers in place
            namespace=NAMESPACE,
            num_cpus=LOGICAL_CPUS,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=256 << 20,
            _temp_dir=str(folder / "ray"),
        )
        yield
    finally:
        await asyncio.to_thread(ray.shutdown)
        # What comes after this benchmark in the same process has a Ray of its own.
        os.environ.clear()
        os.environ.update(before)


def actor_processes(class_name: str) -> list[psutil.Process]:
    """Return the processes of this benchmark's actors of a class."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if re.match(rf"ray::{class_name}\b", " ".join(process.cmdline())):
                found.append(process)
    return found


class Weight(NamedTuple):
    """Memory of a process in megabytes."""

    pss: float
    """Its own pages, and its part of those that it shares with others."""
    uss: float
    """Its own pages alone: what it grows by does not depend on which other processes come and go."""
    rss: float


def weigh(process: psutil.Process) -> Weight:
    """Return what a process weighs now."""
    info = process.memory_full_info()
    return Weight(info.pss / 1e6, info.uss / 1e6, info.rss / 1e6)


@contextlib.asynccontextmanager
async def connected(database_url: str) -> AsyncIterator[Any]:
    """Hold a plain connection."""
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()
