"""PostgreSQL and Redis of our own: real servers, started, stopped, killed and started again."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from adapters.child_process import ChildProcess
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from domain.errors import DataFolderUnusable, ServiceFailed
from tests.waiting import eventually

_PARENT = """
import asyncio, sys
from pathlib import Path
import uvloop
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis

async def main():
    postgres = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]))
    redis = EmbeddedRedis(Path(sys.argv[1]), Path(sys.argv[2]))
    await postgres.start()
    await redis.start()
    print(postgres.pid, redis.pid, flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def runtime_dir() -> Iterator[Path]:
    """Give a short folder, and prove afterwards that nothing was left in it."""
    with tempfile.TemporaryDirectory(prefix="gh-") as folder:
        yield Path(folder)
        assert list(Path(folder).iterdir()) == []


async def _execute(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgres_keeps_its_data_over_a_restart(data_dir: Path, runtime_dir: Path) -> None:
    """Stop and start: same DSN, same rows, nothing half made beside them."""
    async with EmbeddedPostgres(data_dir, runtime_dir) as dsn:
        await _execute(dsn, "CREATE TABLE kept AS SELECT 'é' AS word")
    async with EmbeddedPostgres(data_dir, runtime_dir) as again:
        assert again == dsn
        assert await _execute(again, "SELECT word FROM kept") == "é"
    assert _names_in(data_dir) == {"postgres", "postgres.log", "postgres.log.1"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("server_encoding", "UTF8"),
        ("data_checksums", "on"),
        ("shared_buffers", "128MB"),
        ("timezone", "UTC"),
    ],
)
async def test_postgres_is_set_to_be_durable_and_private(shared_dsn: str, setting: str, value: str) -> None:
    """No port, and a commit means the disk."""
    assert await _execute(shared_dsn, f"SHOW {setting}") == value


@pytest.fixture(scope="module")
def shared_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="gh-") as folder:
        yield tmp_path_factory.mktemp("data"), Path(folder)


@pytest.fixture
async def shared_dsn(shared_folders: tuple[Path, Path]) -> object:
    async with EmbeddedPostgres(*shared_folders) as dsn:
        yield dsn


async def ended(service: EmbeddedPostgres | EmbeddedRedis) -> None:
    """Return when a server's process is gone."""

    async def gone() -> bool:
        return service.pid is None

    assert await eventually(gone)


async def test_postgres_starts_again_after_it_was_killed(data_dir: Path, runtime_dir: Path) -> None:
    """A stale postmaster.pid, even one whose number is alive again, and a stale socket block nothing."""
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    dsn = await postgres.start()
    await _execute(dsn, "CREATE TABLE kept AS SELECT 7 AS number")
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    await ended(postgres)
    stale = data_dir / "postgres" / "postmaster.pid"
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join(["1", *lines[1:]]) + "\n")

    successor = EmbeddedPostgres(data_dir, runtime_dir)
    assert await _execute(await successor.start(), "SELECT number FROM kept") == 7
    await successor.stop()
    await postgres.stop()


async def test_guildhall_is_no_superuser_of_its_own_postgres(shared_dsn: str) -> None:
    """What gets hold of the application's connection cannot read files, or other databases' settings."""
    assert await _execute(shared_dsn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _execute(shared_dsn, "SELECT pg_read_file('postgresql.conf')")


async def test_a_database_of_the_superuser_is_taken_over(data_dir: Path, runtime_dir: Path) -> None:
    """Data folders of releases that worked as the superuser: the application owns everything from then on."""
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    async with postgres:
        for statement in (
            "ALTER DATABASE guildhall OWNER TO guildhall",
            "ALTER SCHEMA public OWNER TO guildhall",
            "CREATE TABLE old (id bigserial PRIMARY KEY, at int) PARTITION BY RANGE (id)",
            "CREATE TABLE old_1 PARTITION OF old DEFAULT",
            "CREATE SEQUENCE numbers",
            "CREATE FUNCTION old_one() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            await _execute(postgres.superuser_dsn, statement)
    async with postgres as dsn:
        await _execute(dsn, "INSERT INTO old (at) VALUES (1)")
        await _execute(dsn, "ALTER TABLE old ADD COLUMN word text")
        assert await _execute(dsn, "SELECT nextval('numbers')") == 1
        await _execute(dsn, "DROP FUNCTION old_one()")
        await _execute(dsn, "CREATE TABLE new ()")


async def test_a_killed_initdb_does_not_poison_the_folder(data_dir: Path, runtime_dir: Path) -> None:
    """What an interrupted first start left behind is removed."""
    unfinished = data_dir / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(data_dir, runtime_dir):
        assert not unfinished.exists()


async def test_a_cancelled_first_start_leaves_nothing(data_dir: Path, runtime_dir: Path) -> None:
    """Ctrl-C while the data folder is being created ends initdb and removes what it made."""
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    start = asyncio.create_task(postgres.start())
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 10
    while "postgres.new" not in _names_in(data_dir):
        assert loop.time() < deadline
        await asyncio.sleep(0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await postgres.stop()
    assert _names_in(data_dir) <= {"postgres.log"}
    assert _workers_in(data_dir) == []


async def test_data_of_another_major_version_is_refused(data_dir: Path, runtime_dir: Path) -> None:
    """The sentence names both versions."""
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    await postgres.start()
    await postgres.stop()
    (data_dir / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(DataFolderUnusable, match="PostgreSQL 17 and this is 18"):
        await postgres.start()
    await postgres.stop()


async def test_a_failed_start_says_what_the_server_said(data_dir: Path, runtime_dir: Path) -> None:
    """The error carries the last lines of the log, and no process is left."""
    postgres = EmbeddedPostgres(data_dir, runtime_dir)
    await postgres.start()
    await postgres.stop()
    (data_dir / "postgres" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(ServiceFailed, match=r"PostgreSQL ended while starting: .*no_such_setting"):
        await postgres.start()
    assert _workers_in(data_dir) == []


async def test_a_long_socket_path_is_refused(data_dir: Path, tmp_path: Path) -> None:
    """Refused by us in words, before the kernel does it in none."""
    for service in (
        EmbeddedPostgres(data_dir, tmp_path / ("x" * 100)),
        EmbeddedRedis(data_dir, tmp_path / ("x" * 100)),
    ):
        with pytest.raises(ServiceFailed, match="107 is the limit"):
            await service.start()


async def test_redis_keeps_its_keys_even_when_killed(data_dir: Path, runtime_dir: Path) -> None:
    """A session that was answered for is still there after kill -9 and after a stop."""
    server = EmbeddedRedis(data_dir, runtime_dir)
    for number in range(3):
        async with redis.asyncio.Redis.from_url(await server.start(), decode_responses=True) as client:
            assert await client.get("session") == (str(number - 1) if number else None)
            assert (await client.config_get("port"))["port"] == "0"
            await client.set("session", number)
        assert server.pid is not None
        if number == 0:
            os.kill(server.pid, signal.SIGKILL)
            await ended(server)
        await server.stop()
    await server.stop()


async def test_redis_reads_what_an_older_release_wrote(data_dir: Path, runtime_dir: Path) -> None:
    """Sessions outlive the step from one release's server to the next."""
    (data_dir / "redis").mkdir()
    old = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$7\r\nsession\r\n$4\r\nkept\r\n"
    (data_dir / "redis" / "appendonly.aof").write_bytes(old)
    async with (
        EmbeddedRedis(data_dir, runtime_dir) as url,
        redis.asyncio.Redis.from_url(url, decode_responses=True) as client,
    ):
        assert await client.get("session") == "kept"


async def test_children_inherit_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that Guildhall runs knows how to run, and no token of anything."""
    for name in ("GUILDHALL_DISCORD_TOKEN", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "hush")
    child = ChildProcess("env", ["/usr/bin/env"], log=tmp_path / "log")
    await child.start()
    assert await child.wait(10) == 0
    said = (tmp_path / "log").read_text()
    assert f"PATH={os.environ['PATH']}" in said
    assert "hush" not in said


async def test_a_killed_parent_takes_its_servers_along(data_dir: Path, runtime_dir: Path) -> None:
    """SIGKILL of the process that started them leaves no server, and the next start has all data."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(data_dir), str(runtime_dir), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    line = await asyncio.wait_for(parent.stdout.readline(), 60)
    servers = [psutil.Process(int(pid)) for pid in line.split()]
    assert len(servers) == 2
    parent.kill()
    await parent.communicate()

    # At once, while they may still be shutting down.
    async with EmbeddedPostgres(data_dir, runtime_dir) as dsn, EmbeddedRedis(data_dir, runtime_dir):
        assert await _execute(dsn, "SELECT 1") == 1
        _, alive = psutil.wait_procs(servers, timeout=20)
        assert alive == []
    assert _workers_in(data_dir) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user needs no other user")
async def test_as_root_closed_folders_stay_closed(tmp_path: Path, runtime_dir: Path) -> None:
    """A data folder deep below 0700 folders works, and nobody else gets in by it."""
    deep = tmp_path / "closed" / "data"
    deep.mkdir(parents=True)
    deep.parent.chmod(0o700)
    deep.chmod(0o700)
    postgres = EmbeddedPostgres(deep, runtime_dir)
    await postgres.start()
    assert postgres.pid is not None
    assert psutil.Process(postgres.pid).uids().effective != 0
    await postgres.stop()
    assert deep.parent.stat().st_mode & 0o777 == 0o700
    assert deep.stat().st_mode & 0o007 == 0


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _workers_in(data_dir: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cwd"])
        if (cwd := process.info["cwd"]) and Path(cwd).is_relative_to(data_dir)
    ]
