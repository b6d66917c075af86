"""The command that starts the local Discord."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import pytest

DEADLINE_S = 20.0


async def start(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "discord_sim", "--guilds", "5", *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def first_line(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(await asyncio.wait_for(process.stdout.readline(), DEADLINE_S))
    return found


async def finish(process: Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_it_says_where_it_is_and_ends_with_its_stdin() -> None:
    """One line of JSON, then nothing; exit 0 when the parent is gone."""
    process = await start("--exit-with-stdin", "--rate", "5")
    line = await first_line(process)
    assert line.keys() == {"url", "gateway", "token", "client_id", "client_secret"}
    assert line["gateway"] == line["url"].replace("http", "ws") + "/gateway"
    assert line["client_id"].isdecimal()
    assert process.stdin is not None
    process.stdin.close()
    assert await finish(process) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """Exit 0, no traceback."""
    process = await start()
    await first_line(process)
    process.send_signal(number)
    assert await finish(process) == (0, "", "")


async def test_a_port_in_use_is_one_sentence() -> None:
    """Exit 1."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        code, out, err = await finish(await start("--port", str(port)))
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert f"127.0.0.1:{port}" in err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--host", "0.0.0.0"], "--allow-remote"),
        (["--port", "70000"], "--port"),
        (["--rate", "-1"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--client-id", "abc"], "snowflake"),
    ],
)
async def test_options_that_make_no_sense_are_refused(arguments: list[str], word: str) -> None:
    """Exit 2 and the option's name."""
    code, out, err = await finish(await start(*arguments))
    assert (code, out) == (2, "")
    assert word in err
