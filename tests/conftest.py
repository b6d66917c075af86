"""The running system that integration and browser tests share: one ``guildhall demo``, started once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest

from guildhall.settings import free_port

START_WITHIN_S = 120
STOP_WITHIN_S = 60


class DemoProcess:
    """A ``guildhall demo`` or ``guildhall up`` of its own, as a user would start it."""

    def __init__(self, data_dir: Path, *options: str, command: str = "demo", **environment: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.ready: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("guildhall"), command, "--json"),
                *("--port", str(self.port), "--data-dir", str(data_dir)),
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        return self.ready["url"]

    @property
    def sim_url(self) -> str:
        return self.ready["sim_url"]

    @property
    def database_url(self) -> str:
        return json.loads((self.data_dir / "addresses.json").read_text())["database_url"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when the line of JSON came; fail with what was said instead."""
        timer = psutil.Process(self.pid)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, said = self._process.communicate()
            pytest.fail(f"it did not start (process {timer.pid}): {said}")
        self.ready = json.loads(line)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on standard error."""
        self._process.send_signal(number)
        _, said = self._process.communicate(timeout=STOP_WITHIN_S)
        return self._process.returncode, said

    def result(self) -> tuple[int, str]:
        """Wait for an end that comes by itself."""
        _, said = self._process.communicate(timeout=START_WITHIN_S)
        return self._process.returncode, said

    def make_sure_it_ended(self) -> None:
        if self._process.poll() is None:
            descendants = self.descendants()
            self._process.kill()
            for process in descendants:
                if process.is_running():
                    process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """Run a quiet demo: nothing happens in it but what a test makes happen."""
    demo = DemoProcess(tmp_path_factory.mktemp("stack"), "--guilds", "40", "--rate", "0")
    try:
        demo.wait_ready()
        yield demo
        code, said = demo.end()
        assert code == 0, said
    finally:
        demo.make_sure_it_ended()


@pytest.fixture
async def database(stack: DemoProcess) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the stack's own Postgres."""
    connection = await asyncpg.connect(stack.database_url)
    yield connection
    await connection.close()


class Sim:
    """The control API of the local Discord."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **query: Any) -> Any:
        async with self._http.get(f"{self.url}/_sim/{path}", params=query) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def post(self, path: str, **body: Any) -> Any:
        async with self._http.post(f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def put(self, path: str, **body: Any) -> Any:
        async with self._http.put(f"{self.url}/_sim/{path}", json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def guild(self, index: int) -> dict[str, Any]:
        return (await self.get("world"))["guilds"][index]

    async def person(self, name: str) -> int:
        return int((await self.get("world"))["people"][name]["id"])


@pytest.fixture
async def sim(stack: DemoProcess) -> AsyncIterator[Sim]:
    async with aiohttp.ClientSession() as http:
        yield Sim(stack.sim_url, http)
