"""The benchmark of the fan-out runs, and every socket had every event once. How fast it was, no test says."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

SMALL = "--sockets 10 --seconds 0.5 --rounds 1 --paced-seconds 1 --many 20 --slow 0"
SOCKETS, PACED_PER_S = 10, 100


async def bench_fanout() -> dict[str, Any]:
    """Run a small one as a user does; return what it printed."""
    program = Path(sys.executable).with_name("guildhall")
    process = await asyncio.create_subprocess_exec(
        *(program, "bench", "fanout", "--json", *SMALL.split()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it ends what it started
            await process.wait()
    assert process.returncode == 0, said.decode()
    [line] = printed.decode().splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


@pytest.mark.timeout(240)
async def test_every_socket_has_every_event_once() -> None:
    """A turn in which a socket lacks an event, or has one twice or out of order, fails the benchmark."""
    result = await bench_fanout()

    figures = result["figures"]
    assert result["name"] == "fanout"
    assert figures["shared_frames_per_s"] > 0
    assert figures["own_frames_per_s"] > 0
    paced = f"paced_{PACED_PER_S}_per_s_{SOCKETS}_sockets"
    assert figures[f"{paced}_events"] == PACED_PER_S
    assert figures[f"{paced}_deliveries"] == PACED_PER_S * SOCKETS
    assert figures["paced_4_per_s_20_sockets_deliveries"] == 4 * 20
    if figures.get("nchan") == "not installed":
        assert result["ratio"] is None
    else:
        assert result["ratio"] > 0
        assert result["baseline"]["nchan_per_s"] > 0
