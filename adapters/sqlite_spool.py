"""A runner's spool in an SQLite file of its own."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from adapters.queries import load_queries
from adapters.takeover_lock import TakeoverLock
from domain.detection import SeenText
from domain.errors import StoreUnavailable
from domain.ports import SEEN_KEPT_MS, SpoolChanges, SpoolContents, SpooledBatch

log = structlog.get_logger()

SCHEMA = 3
"""Schema 1 had no sessions, schema 2 no id; a file of them is taken over as it is."""
LOCKED_FOR_S = 2.0
WAL_BYTES = 16 << 20

_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY = 0xFF
"""SQLite's extended codes carry the primary one in the lowest byte."""

T = TypeVar("T")


class SqliteSpool:
    """Implements :class:`domain.ports.Spool`.

    One thread does all the work, so the calls keep their order and the event loop never waits for a disk.
    A process that has the file already, which can only be an earlier life of the runner, is ended.
    A file that turns out to be broken while it is used is put aside too: what was in it reads as None.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queries = load_queries("sqlite_spool.sql")
        self._connection: sqlite3.Connection | None = None
        self._lock = TakeoverLock(path.with_name(f"{path.name}.lock"))
        self._id = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")

    async def open(self) -> SpoolContents:
        """See the port."""
        return await self._run(self._open)

    async def write(self, changes: SpoolChanges) -> None:
        """See the port."""
        await self._run(lambda: self._write(changes))

    async def read(self, position: int) -> bytes | None:
        """See the port."""
        return await self._run(lambda: self._read(position))

    async def close(self) -> None:
        """See the port."""
        await self._run(self._close)
        self._lock.release()
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"The spool {self._path} cannot be used: {error}.") from error

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            if self._connection is not None and _is_broken(error):
                self._close()
                self._put_aside(error)
                self._connect()
            raise

    # -- in the thread --------------------------------------------------------------------------

    def _open(self) -> SpoolContents:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire(LOCKED_FOR_S)
        alive_ms = self._last_written_ms()
        try:
            self._connect()
            return self._load()
        except sqlite3.Error as error:
            self._close()
            if not _is_broken(error):
                raise
            self._put_aside(error)
            self._connect()
            # Whatever it held is not known; that it was written to, and when last, is.
            return SpoolContents(alive_ms=alive_ms, spool_id=self._id)

    def _connect(self) -> None:
        connection = sqlite3.connect(
            self._path, timeout=LOCKED_FOR_S, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        # Two runners on one file would each send its batches as their own.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL does not wait for the disk at each commit. A killed process loses nothing by that, what it
        # wrote is the kernel's; a power cut may take the last commits, but never one without those behind
        # it: batches that were removed come back and are known by their numbers; with the newest goes the
        # position behind them, so Discord tells those events again while it has the session. Violations are
        # known by their ids; messages that were counted in that moment count twice. FULL would save that, for
        # a disk flush a batch.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        # Each batch passes through here, and a checkpoint waits for the disk: seldom, then.
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version not in range(SCHEMA + 1):
            raise _Broken(f"schema {version} is not ours")
        if version < SCHEMA:
            self._create(connection)
        [self._id] = connection.execute(self._queries["load_id"]).fetchone()

    def _create(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection):
            connection.execute(self._queries["create_identity"])
            # A file that takes the place of one that broke under this life is this life's as well.
            connection.execute(self._queries["put_id"], (self._id or secrets.token_hex(8),))
            connection.execute(self._queries["create_batches"])
            connection.execute(self._queries["create_life"])
            connection.execute(self._queries["create_saved"])
            connection.execute(self._queries["create_guilds"])
            connection.execute(self._queries["create_seen"])
            connection.execute(f"PRAGMA user_version = {SCHEMA}")

    def _load(self) -> SpoolContents:
        connection = self._require()
        [verdict] = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _Broken(verdict)
        rows = connection.execute(self._queries["load_batches"]).fetchall()
        alive = connection.execute(self._queries["load_alive"]).fetchone()
        saved = connection.execute(self._queries["load_saved"]).fetchone()
        return SpoolContents(
            tuple(SpooledBatch(*row) for row in rows),
            alive[0] if alive else None,
            bytes(saved[0]) if saved else None,
            {guild_id: bytes(known) for guild_id, known in connection.execute(self._queries["load_guilds"])},
            tuple(SeenText(*row) for row in connection.execute(self._queries["load_seen"])),
            self._id,
        )

    def _write(self, changes: SpoolChanges) -> None:
        connection = self._require()
        with _transaction(connection):
            connection.executemany(
                self._queries["remove_batch"], [(position,) for position in changes.removed]
            )
            connection.executemany(
                self._queries["put_batch"],
                [(*msgspec.structs.astuple(batch)[:-1], payload) for batch, payload in changes.put],
            )
            if changes.alive_ms is not None:
                connection.execute(self._queries["put_alive"], (changes.alive_ms,))
            if changes.saved is not None:
                connection.execute(self._queries["put_saved"], (changes.saved,))
            if changes.seen:
                connection.executemany(self._queries["put_seen"], changes.seen)
                oldest_ms = max(each.ts_ms for each in changes.seen) - SEEN_KEPT_MS
                connection.execute(self._queries["forget_seen"], (2 * len(changes.seen), oldest_ms))
            gone = [(guild_id,) for guild_id, known in changes.guilds.items() if known is None]
            connection.executemany(self._queries["remove_guild"], gone)
            known_now = [item for item in changes.guilds.items() if item[1] is not None]
            connection.executemany(self._queries["put_guild"], known_now)

    def _read(self, position: int) -> bytes | None:
        row = self._require().execute(self._queries["read_payload"], (position,)).fetchone()
        return bytes(row[0]) if row else None

    def _require(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("it is not open")
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _files(self) -> list[Path]:
        return [self._path.with_name(self._path.name + suffix) for suffix in ("", "-wal", "-shm")]

    def _last_written_ms(self) -> int | None:
        times = [file.stat().st_mtime_ns // 1_000_000 for file in self._files() if file.exists()]
        return max(times, default=None)

    def _put_aside(self, error: Exception) -> None:
        log.error("spool_put_aside", file=str(self._path), error=str(error))
        for file in self._files():
            if file.exists():
                file.replace(file.with_name(file.name + ".corrupt"))


class _Broken(sqlite3.DatabaseError):
    """The file is a database, but not one that can be used."""


def _is_broken(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, _Broken) or (code is not None and code & _PRIMARY in _BROKEN)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
