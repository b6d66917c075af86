"""Guildhall on a Ray cluster that somebody else runs: it comes, is alone, and goes without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from adapters.embedded_postgres import EmbeddedPostgres
from adapters.embedded_redis import EmbeddedRedis
from guildhall import environment
from guildhall.simulator import BOT_TOKEN, CLIENT_ID, CLIENT_SECRET, Simulator
from guildhall.testing import DemoProcess
from tests.waiting import eventually

NOT_OURS = ("ray::IDLE", "ray::Other", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Titles of Ray's own processes, and of somebody else's actor."""


class RayCluster:
    """The process of ``ray_cluster.py``, and what runs below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = self._environment()
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ray_cluster.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | self.environment | {"RAY_TMPDIR": str(folder)},
        )
        self.address = self._line()

    def _environment(self) -> dict[str, str]:
        """Return what whoever runs such a cluster gives its nodes."""
        with pytest.MonkeyPatch.context() as patch:
            given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
            patch.setattr(os, "environ", dict(given))
            environment.prepare(self._folder, self._folder / "token")
            return {name: value for name, value in os.environ.items() if name not in given}

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line
        return line

    def others_live(self) -> bool:
        """Whether the actor that is not ours lives."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._line() == "True"

    def working(self) -> list[str]:
        """Return the titles of actors but somebody else's, and HAProxy, whoever its parent is by now."""
        titles, below = [], self._below()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                title = " ".join(process.cmdline())
                worker = process.pid in below and title.startswith("ray::")
                if worker and title.startswith(NOT_OURS):
                    continue
                if worker or (str(self._folder) in title and "haproxy" in title):
                    titles.append(title)
        return titles

    def _below(self) -> set[int]:
        return {process.pid for process in psutil.Process(self._process.pid).children(recursive=True)}

    def end(self) -> None:
        below = [psutil.Process(pid) for pid in self._below()]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=30)
        self._process.kill()
        self._process.communicate()
        for process in below:
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture
async def surroundings() -> AsyncIterator[tuple[RayCluster, dict[str, str]]]:
    """Run a Ray cluster, a database, a Redis and a Discord that are not Guildhall's; give what finds them."""
    folder = Path(tempfile.mkdtemp(prefix="gr-", dir="/tmp"))
    (data := folder / "data").mkdir()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        database_url = await stack.enter_async_context(EmbeddedPostgres(data, folder))
        redis_url = await stack.enter_async_context(EmbeddedRedis(data, folder))
        sim = Simulator(guilds=6, rate=0, log=folder / "sim.log")
        stack.push_async_callback(sim.stop)
        await sim.start()
        cluster = RayCluster(folder)
        stack.callback(cluster.end)
        yield (
            cluster,
            cluster.environment
            | {
                "RAY_ADDRESS": cluster.address,
                "GUILDHALL_DATABASE_URL": database_url,
                "GUILDHALL_REDIS_URL": redis_url,
                "GUILDHALL_DISCORD_TOKEN": BOT_TOKEN,
                "GUILDHALL_DISCORD_CLIENT_ID": CLIENT_ID,
                "GUILDHALL_DISCORD_CLIENT_SECRET": CLIENT_SECRET,
                "GUILDHALL_DISCORD_API_BASE": f"{sim.url}/api/v10",
                "GUILDHALL_DISCORD_AUTHORIZE_URL": f"{sim.url}/oauth2/authorize",
                "GUILDHALL_SHARDS": "2",
            },
        )


async def no_trace(cluster: RayCluster) -> None:
    """Wait until nothing of Guildhall works there; fail with what does."""

    async def is_gone() -> bool:
        return cluster.working() == []

    with contextlib.suppress(TimeoutError):
        await eventually(is_gone)
    assert cluster.working() == []


@pytest.mark.timeout(400)
async def test_it_is_alone_there_and_leaves_nothing(
    surroundings: tuple[RayCluster, dict[str, str]], tmp_path: Path
) -> None:
    """A second one is refused; stopped, nothing of it is left; it starts again, after SIGKILL too.

    The cluster and what others run on it stay.
    """
    cluster, given = surroundings

    def up(name: str) -> DemoProcess:
        return DemoProcess(tmp_path / name, command="up", **given)

    first = up("first")
    try:
        first.wait_ready()
        assert any("ShardRunner" in title for title in cluster.working())
        second = up("second")
        try:
            code, said = second.result()
        finally:
            second.make_sure_it_ended()
        assert code == 1
        sentence = said.strip().splitlines()[-1]
        assert str(first.pid) in sentence
        assert first.url in sentence
        assert "already" in sentence
        code, said = first.end()
        assert code == 0, said
        await no_trace(cluster)
        with socket.create_server(("127.0.0.1", first.port)):
            pass
        assert cluster.others_live()
    finally:
        first.make_sure_it_ended()

    killed = up("first")
    try:
        killed.wait_ready()
        assert killed.end(signal.SIGKILL)[0] == -signal.SIGKILL
    finally:
        killed.make_sure_it_ended()
    assert cluster.working() != []

    third = up("third")
    try:
        third.wait_ready()
        code, said = third.end()
        assert code == 0, said
        await no_trace(cluster)
        assert cluster.others_live()
    finally:
        third.make_sure_it_ended()
