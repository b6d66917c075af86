"""Waits until all shards are on Discord's gateway, and says how far they are when that takes long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog

from actors.network import RunnerCalls, ask_runners, shards_view
from domain.errors import BotRefused
from domain.network import ShardsView
from guildhall.stages import Stages

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
FIRST_WORD_S = 15.0
WORD_EVERY_S = 60.0


async def until_connected(
    stages: Stages,
    shard_count: int,
    find_runners: Callable[[], Awaitable[Mapping[str, RunnerCalls]]],
    *,
    look_every_s: float = LOOK_EVERY_S,
    first_word_s: float = FIRST_WORD_S,
) -> None:
    """Return when every shard is connected, however long Discord's limits make that take.

    Raises:
        BotRefused: Discord does not let a shard in at all; the sentence says why.

    """
    next_word_s = time.monotonic() + first_word_s
    while True:
        stats = await ask_runners(await find_runners())
        refusals = [each.progress.refusal for each in stats.values() if each and each.progress.refusal]
        if refusals:
            raise BotRefused(min(refusals))
        shards = shards_view(stats.values())
        if shards.connected >= shard_count:
            return
        if time.monotonic() >= next_word_s:
            next_word_s = time.monotonic() + WORD_EVERY_S
            stages.say(progress_line(shards, shard_count))
            log.info("shards_connecting", connected=shards.connected, of=shard_count)
        await asyncio.sleep(look_every_s)


def progress_line(shards: ShardsView, shard_count: int) -> str:
    """Return a line for a person who waits."""
    line = f"  {shards.connected} of {shard_count} shards are connected"
    if shards.expected_s is not None:
        line += f"; about {_span(shards.expected_s)} to go"
    if shards.waits_for is not None:
        line += f" (waiting for {shards.waits_for})"
    return f"{line}."


def _span(seconds: int) -> str:
    minutes = -(-seconds // 60)
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - two hours
