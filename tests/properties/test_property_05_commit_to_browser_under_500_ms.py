"""Property 5: from the commit to the browser it takes less than 500 ms."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guildhall.testing import DemoProcess, Person, Sim, Watching

LIMIT_MS = 500
EXCUSES = 3
"""A machine that does something else for half a second is no fault of ours, so many times in a row."""
GUILDS = 4


class Watched:
    """Some servers of a running system, each with a socket that watches it."""

    def __init__(self, sim: Sim, guild_ids: list[str], sockets: list[Watching]) -> None:
        self.sim = sim
        self.guild_ids = guild_ids
        self.sockets = sockets

    async def delays_ms(self, guild: int, contents: list[str]) -> list[float]:
        """Post messages that offend; return how long after its commit each of them was at the browser."""
        delays = []
        for content in contents:
            posted = await self.sim.post("messages", guild_id=self.guild_ids[guild], content=content)
            event = await self.sockets[guild].event("violation", message_id=posted["id"])
            delays.append(time.time() * 1000 - event["data"]["committed_at"])
        return delays


@pytest.fixture(scope="module")
async def watched(stack: DemoProcess) -> AsyncIterator[Watched]:
    async with aiohttp.ClientSession() as http, Person(stack.url) as person:
        await person.log_in("owner")
        sim = Sim(stack.sim_url, http)
        guild_ids = [(await sim.guild(number))["id"] for number in range(GUILDS)]
        sockets = [await person.watch() for _ in guild_ids]
        for socket, guild_id in zip(sockets, guild_ids, strict=True):
            assert (await socket.subscribe(guild_id))["op"] == "subscribed"
        yield Watched(sim, guild_ids, sockets)


offences = st.builds(
    "{} {}".format,
    st.text("abcdefghij ", max_size=40),
    st.sampled_from(["kys", "discord.gg/abcdef", "https://free-nitro-claim.xyz/"]),
)


@settings(max_examples=100, deadline=None)
@given(guild=st.integers(0, GUILDS - 1), contents=st.lists(offences, min_size=1, max_size=3))
async def test_commit_to_browser_under_500_ms(watched: Watched, guild: int, contents: list[str]) -> None:
    """Through Postgres, the host, the relay and the front door, in a system that has just been started."""
    for _ in range(EXCUSES):
        delays = await watched.delays_ms(guild, contents)
        if max(delays) < LIMIT_MS:
            break
    assert min(delays) > -LIMIT_MS
    assert max(delays) < LIMIT_MS
