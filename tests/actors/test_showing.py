"""From events to frames: what goes at once, what shares a frame, and what lies between two frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from actors.fan_out import FanOut, Item
from actors.guild import GuildActor, Watcher
from actors.showing import Showing
from domain.guild import GuildState

LONG_S = 3_600.0
GUILD, OTHER = 1, 2


class Watched:
    """Guilds that are watched through relays, and what these get."""

    def __init__(self, tick_s: float) -> None:
        self.fan_out: FanOut[Item] = FanOut()
        self.showing = Showing(self.fan_out, tick_s)
        self._streams: dict[str, AsyncGenerator[list[Item], None]] = {}

    def guild(self, guild_id: int, *relay_ids: str) -> GuildActor:
        actor = GuildActor(GuildState(guild_id), 7, 0)
        for relay_id in relay_ids:
            actor.admit(Watcher(relay_id, 1), 1, None)
        return actor

    async def listen(self, relay_id: str) -> None:
        stream = self._streams[relay_id] = self.fan_out.stream(relay_id)
        assert await anext(stream) == []

    async def next(self, relay_id: str) -> list[tuple[int, list[int]]]:
        """Return the next list: for each frame its guild and the offsets in it."""
        items = await asyncio.wait_for(anext(self._streams[relay_id]), 5)
        frames: list[dict[str, Any]] = [json.loads(item.frame) for item in items]
        for item, frame in zip(items, frames, strict=True):
            assert (item.guild_id, item.epoch) == (int(frame["guild_id"]), frame["epoch"])
            assert item.offset == frame["events"][-1]["offset"]
        return [(int(frame["guild_id"]), [event["offset"] for event in frame["events"]]) for frame in frames]

    def say(self, *guilds: GuildActor) -> None:
        self.showing.show([(guild, guild.publish("notification", 0, {})) for guild in guilds])


async def test_what_comes_alone_goes_at_once_and_a_storm_shares_frames() -> None:
    """The first event does not wait for the tick; those behind it wait, a frame a guild."""
    watched = Watched(LONG_S)
    await watched.listen("r")
    one, other = watched.guild(GUILD, "r"), watched.guild(OTHER, "r")
    watched.say(one)
    assert await watched.next("r") == [(GUILD, [1])]
    watched.say(one)
    watched.say(other, one)
    watched.showing.flush()
    assert await watched.next("r") == [(GUILD, [2, 3]), (OTHER, [1])]


async def test_the_tick_ends_by_itself() -> None:
    """Nobody has to say that it is over."""
    watched = Watched(0.001)
    await watched.listen("r")
    one = watched.guild(GUILD, "r")
    for _ in range(3):
        watched.say(one)
    assert await watched.next("r") == [(GUILD, [1])]
    assert await watched.next("r") == [(GUILD, [2, 3])]


async def test_without_a_tick_each_event_has_its_frame() -> None:
    """Also those that were made durable together."""
    watched = Watched(0)
    await watched.listen("r")
    one = watched.guild(GUILD, "r")
    watched.say(one, one, one)
    assert await watched.next("r") == [(GUILD, [1]), (GUILD, [2]), (GUILD, [3])]


async def test_a_relay_hears_only_of_what_is_watched_through_it() -> None:
    """Once a relay however many watch there; a guild that nobody watches costs no frame."""
    watched = Watched(LONG_S)
    await watched.listen("r")
    await watched.listen("s")
    both, one, nobodys = watched.guild(GUILD, "r", "s"), watched.guild(OTHER, "s"), watched.guild(3)
    both.admit(Watcher("r", 2), 2, None)
    watched.say(both, one, nobodys)
    assert await watched.next("r") == [(GUILD, [1])]
    assert await watched.next("s") == [(GUILD, [1]), (OTHER, [1])]


@pytest.mark.parametrize("waiting", [0, 2])
async def test_a_frame_never_lies_across_an_admission(waiting: int) -> None:
    """Who begins to watch in the middle of a tick gets what comes behind that, and nothing twice."""
    watched = Watched(LONG_S)
    await watched.listen("r")
    one = watched.guild(GUILD, "r")
    watched.say(one)
    await watched.next("r")
    for _ in range(waiting):
        watched.say(one)
    watched.showing.flush_guild(one)
    admission = one.admit(Watcher("r", 2), 2, (7, 0))
    assert admission.offset == 1 + waiting
    watched.say(one)
    watched.showing.flush()
    if waiting:
        assert await watched.next("r") == [(GUILD, [2, 3])]
    assert await watched.next("r") == [(GUILD, [admission.offset + 1])]
