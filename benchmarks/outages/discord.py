"""Discord gone: frozen with its connections open, or refusing everything and without its sessions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil

from benchmarks.outages import check
from benchmarks.outages.people import WATCHING, People, settle, shown_wrong, until_whole
from benchmarks.result import part
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess

WHOLE_WITHIN_S = 90.0
"""A shard tries again after 36 s at the latest, and may have to wait for its turn to identify."""
NOTICED_WITHIN_S = 75.0
"""What a gap may begin before the outage, and so long may a half-open connection be believed."""
ASK_EVERY_S = 1.0


async def frozen(demo: DemoProcess, crowd: People, gone_s: float) -> dict[str, Any]:
    """Stop the local Discord's process: connections stand, and nothing is ever answered on them.

    Nobody posts meanwhile. When it wakes it takes who was not heard for a minute for gone, as Discord does
    (4009, which ends the session), and what is posted until the shards are back is missing, and told.
    """
    [process] = [each for each in demo.descendants() if "discord_sim" in each.cmdline()]
    before = crowd.closed()
    process.suspend()
    try:
        async with _asking(crowd) as answers:
            await asyncio.sleep(gone_s)
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
    figures = await _afterwards(demo, crowd, answers, before)
    return part(
        bound=f"every loss told, nobody turned out, whole in {WHOLE_WITHIN_S:.0f} s",
        met=_met(figures),
        gone_s=gone_s,
        **figures,
    )


async def refused(demo: DemoProcess, crowd: People, gone_s: float) -> dict[str, Any]:
    """Let the local Discord refuse everything while people go on talking, and forget its sessions."""
    before = crowd.closed()
    gaps_before = len((await check.read(demo.database_url)).gaps)
    await crowd.sim.post("faults", kind="outage", hold_ms=gone_s * 1000, resumable=False)
    async with _asking(crowd) as answers:
        await asyncio.sleep(gone_s)
        await _until_back(crowd)
    figures = await _afterwards(demo, crowd, answers, before)
    longest_s = gone_s + NOTICED_WITHIN_S + WHOLE_WITHIN_S
    told = figures["gaps"] - gaps_before
    return part(
        bound=f"every loss told, in gaps of {longest_s:.0f} s at most, nobody turned out, "
        f"whole in {WHOLE_WITHIN_S:.0f} s",
        met=_met(figures) and told > 0 and figures["longest_gap_s"] <= longest_s,
        gone_s=gone_s,
        **figures,
    )


def _met(figures: dict[str, Any]) -> bool:
    wrong = (*check.WRONG, "turned_out", *(name for name in figures if name.startswith("shown_")))
    whole_s = figures["whole_again_s"]
    answered = figures["answers"].keys() <= {"200"}
    return not any(figures[name] for name in wrong) and answered and whole_s is not None


async def _until_back(crowd: People) -> None:
    """Wait until the local Discord listens again: it counts its time itself."""
    try:
        async with asyncio.timeout(WHOLE_WITHIN_S):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await crowd.sim.get("stats")
                    return
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise ServiceFailed("The local Discord did not come back.") from error


async def _afterwards(
    demo: DemoProcess, crowd: People, answers: Counter[str], closed_before: Counter[str]
) -> dict[str, Any]:
    whole_s = await until_whole(crowd, WHOLE_WITHIN_S)
    figures, settled_s = await settle(demo.database_url, crowd.sim)
    return {
        "watchers": len(crowd.visitors),
        "turned_out": crowd.turned_out(),
        "sockets_ended": dict(crowd.closed() - closed_before),
        "answers": dict(answers),
        "whole_again_s": None if whole_s is None else round(whole_s, 1),
        "settled_s": round(settled_s, 1),
        **figures,
        **await shown_wrong(demo.database_url, crowd),
    }


@contextlib.asynccontextmanager
async def _asking(crowd: People) -> AsyncIterator[Counter[str]]:
    """Let everybody read the guild's violations over HTTP meanwhile; yield how they were answered."""
    answers: Counter[str] = Counter()

    async def ask_forever() -> None:
        while True:
            began = time.monotonic()
            for name in WATCHING:
                person = crowd.persons[name]
                status, _ = await person.ask("GET", f"/api/servers/{crowd.guild_id}/violations")
                answers[str(status)] += 1
            await asyncio.sleep(max(0.0, began + ASK_EVERY_S - time.monotonic()))

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask_forever())
        yield answers
        asking.cancel()
