"""Starting, stopping, starting again; and what is said when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from functools import partial
from pathlib import Path

import asyncpg
import psutil
import pytest

from guildhall.testing import DemoProcess, Sim
from tests.waiting import eventually


def runtime_dir(demo: DemoProcess) -> Path:
    """Return the folder in which a demo that runs keeps what ends with it."""
    found = Path((demo.data_dir / "runtime-dir").read_text(encoding="utf-8"))
    assert found.is_dir()
    return found


def still_running(processes: list[psutil.Process]) -> list[str]:
    """Return the command lines of those that still run."""
    still = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                still.append(" ".join(process.cmdline()))
    return still


@pytest.mark.timeout(600)
async def test_it_leaves_nothing_behind_and_finds_its_data_again(tmp_path: Path) -> None:
    """SIGTERM and SIGINT end every process, port and temporary file; a start after SIGKILL clears up first.

    The data is there again each time.
    """
    first = DemoProcess(tmp_path / "data", "--guilds", "6", "--rate", "30")
    try:
        first.wait_ready()
        processes, folder = first.descendants(), runtime_dir(first)
        assert len(processes) > 10

        connection = await asyncpg.connect(first.database_url)
        assert await eventually(lambda: connection.fetchval("SELECT count(*) > 0 FROM violations"))
        await connection.close()
        code, said = first.end(signal.SIGTERM)
        assert code == 0, said
        assert still_running(processes) == []
        assert not folder.exists()
        with socket.create_server(("127.0.0.1", first.port)):
            pass
    finally:
        first.make_sure_it_ended()

    second = DemoProcess(tmp_path / "data", "--guilds", "6", "--rate", "0")
    try:
        assert await eventually(partial(asyncio.to_thread, (second.data_dir / "runtime-dir").exists))
        second.hang_up()  # there are no relays yet that could be replaced: it starts all the same
        second.wait_ready()
        processes, folder = second.descendants(), runtime_dir(second)
        assert second.end(signal.SIGKILL)[0] == -signal.SIGKILL
    finally:
        second.make_sure_it_ended()

    third = DemoProcess(tmp_path / "data", "--guilds", "6", "--rate", "0")
    try:
        third.wait_ready()
        assert still_running(processes) == []
        assert not folder.exists()
        processes, folder = third.descendants(), runtime_dir(third)
        connection = await asyncpg.connect(third.database_url)
        assert await connection.fetchval("SELECT count(*) FROM violations") > 0
        assert await connection.fetchval("SELECT count(*) FROM placement") == 3
        await connection.close()
        third.hang_up()  # it is asked to stop while its relays are being replaced
        code, said = third.end(signal.SIGINT)
        assert code == 0, said
        assert still_running(processes) == []
        assert not folder.exists()
    finally:
        third.make_sure_it_ended()


def refused(demo: DemoProcess) -> str:
    """Return the one sentence that a start ended with."""
    try:
        code, said = demo.result()
    finally:
        demo.make_sure_it_ended()
    assert code == 1, said
    lines = [line for line in said.splitlines() if not line.startswith("✓")]
    assert len(lines) == 1, said
    return lines[0]


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    """The sentence names the port and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refused(DemoProcess(tmp_path, "--port", str(port)))
    assert str(port) in sentence
    assert "--port" in sentence


def test_a_data_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The sentence names the folder and the option that chooses another."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    sentence = refused(DemoProcess(blocked / "data"))
    assert str(blocked) in sentence
    assert "--data-dir" in sentence


def test_a_data_folder_in_use_is_told(stack: DemoProcess) -> None:
    """Two processes never share a data folder."""
    sentence = refused(DemoProcess(stack.data_dir))
    assert str(stack.pid) in sentence


def test_a_missing_token_is_told(tmp_path: Path) -> None:
    """Starting for real Discord without its secrets names them, and the way to look around without."""
    sentence = refused(DemoProcess(tmp_path, command="up", GUILDHALL_DISCORD_CLIENT_ID="1"))
    assert "GUILDHALL_DISCORD_TOKEN" in sentence
    assert "GUILDHALL_DISCORD_CLIENT_ID" not in sentence
    assert "guildhall demo" in sentence


async def test_a_wrong_token_is_told(tmp_path: Path, sim: Sim) -> None:
    """Discord's refusal of a token is told at once, without the token."""
    sentence = refused(
        DemoProcess(
            tmp_path,
            command="up",
            GUILDHALL_DISCORD_TOKEN="not-the-token",
            GUILDHALL_DISCORD_CLIENT_ID="1",
            GUILDHALL_DISCORD_CLIENT_SECRET="secret",
            GUILDHALL_DISCORD_API_BASE=f"{sim.url}/api/v10",
        )
    )
    assert "token" in sentence
    assert "not-the-token" not in sentence


def test_settings_that_make_no_sense_are_told(tmp_path: Path) -> None:
    """All that is wrong is told at once, each by its name."""
    sentence = refused(DemoProcess(tmp_path, GUILDHALL_HOSTS="none", GUILDHALL_API_REPLICAS="0"))
    assert "GUILDHALL_HOSTS" in sentence
    assert "GUILDHALL_API_REPLICAS" in sentence
