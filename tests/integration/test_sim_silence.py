"""The bot on a Discord that falls silent without closing a connection."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from adapters.clock import now_ms
from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.gateway_silence import Patience
from adapters.memory import MemoryIdentifyGrants
from domain.authority import AuthorityNotice
from domain.detection import Message
from domain.events import BotPresenceChanged, Event, Gap
from domain.identify import IdentifyRules
from domain.ports import Position
from tests.waiting import eventually

SHARDS = (0, 1)
FREQUENT = Patience(ask_after_s=0.5, answer_within_s=3.0)


class Listener:
    """Writes down what the bot tells; implements :class:`domain.ports.BotHandler`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.online: dict[int, bool] = {}
        self.gaps: list[Gap] = []

    def on_message(self, message: Message, at: Position | None = None) -> None:
        del at
        self.texts.append(message.content)

    def on_event(self, event: Event, at: Position | None = None) -> None:
        del at
        if isinstance(event, BotPresenceChanged):
            self.online[event.guild_id] = event.online

    def on_authority(self, notice: AuthorityNotice) -> None:
        pass

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)


class Discord:
    """A local Discord in a process of its own, in which nobody says anything unasked."""

    def __init__(self, pid: int, line: dict[str, Any], http: aiohttp.ClientSession) -> None:
        self.pid, self.line, self.http = pid, line, http
        self.heard = Listener()
        self.bot: DiscordBot

    async def connect(self, patience: Patience) -> None:
        """Connect a bot, and return when all shards are."""
        rules = IdentifyRules(interval_ms=60)
        settings = ShardSettings(
            self.line["token"],
            SHARDS,
            len(SHARDS),
            f"{self.line['url']}/api/v10",
            self.line["gateway"],
            rules,
            patience,
        )
        grants = MemoryIdentifyGrants(rules)
        self.bot = DiscordBot(settings, lambda: grants)
        await self.bot.start(self.heard)
        await eventually(self.is_connected)

    def freeze(self) -> None:
        """Let it say nothing more, with all connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def is_connected(self) -> bool:
        return self.bot.progress().connected == len(SHARDS)

    async def stats(self) -> dict[str, Any]:
        async with self.http.get("/_sim/stats") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def say(self, text: str) -> None:
        """Let somebody post in every guild."""
        for guild_id in self.heard.online:
            body = {"guild_id": str(guild_id), "content": text}
            async with self.http.post("/_sim/messages", json=body) as answer:
                assert answer.status == 200, await answer.text()

    async def heard_beyond(self, time_ms: int) -> None:
        """Return when all shards are known to have heard what was before some time."""

        async def is_heard() -> bool:
            return all((shard.heard_ms or 0) > time_ms for shard in self.bot.shards())

        await eventually(is_heard)


@pytest.fixture
async def discord(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Discord]:
    monkeypatch.setattr(Route, "BASE", Route.BASE)  # the adapter sets both
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL("ws://unset.invalid"))
    options = ("--guilds", "6", "--rate", "0", "--identify-interval", "0.05", "--exit-with-stdin")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "discord_sim", *options, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    line = json.loads(await asyncio.wait_for(process.stdout.readline(), 20.0))
    async with aiohttp.ClientSession(line["url"]) as http:
        discord = Discord(process.pid, line, http)
        try:
            yield discord
            await discord.bot.stop()
        finally:
            process.kill()  # a frozen one hears no SIGTERM
            await process.communicate()


async def test_a_frozen_discord_is_noticed_within_15_seconds(discord: Discord) -> None:
    """Its shards are called blind, its guilds hear that the bot is away; RESUME brings what they missed."""
    await discord.connect(Patience())
    await discord.say("before")
    frozen_ms, frozen_s = now_ms(), time.monotonic()
    discord.freeze()

    async def is_away() -> bool:
        return not any(discord.heard.online.values())

    await eventually(is_away)
    assert time.monotonic() - frozen_s < 15.0
    progress = discord.bot.progress()
    assert progress.connected == 0
    assert [each.shard_id for each in progress.blind] == [0, 1]
    assert all(each.since_ms is not None and each.since_ms <= frozen_ms + 1_000 for each in progress.blind)

    discord.thaw()
    await discord.say("meanwhile")

    async def is_back() -> bool:
        return all(discord.heard.online.values()) and discord.heard.texts.count("meanwhile") == 6

    await eventually(is_back, within_s=40.0)
    assert discord.bot.progress().blind == ()
    assert discord.heard.texts.count("before") == 6
    assert discord.heard.gaps == []
    stats = await discord.stats()
    assert (stats["identifies"], stats["resumes"]) == (2, 2)


async def test_quiet_guilds_and_a_stalled_bot_are_not_blind(discord: Discord) -> None:
    """Long before a heartbeat is due, answers to early ones show that there was nothing to hear."""
    await discord.connect(FREQUENT)
    began_ms = now_ms()
    await discord.heard_beyond(began_ms + 5_000)
    discord.freeze()
    await asyncio.sleep(1.5)  # the question is on its way
    discord.thaw()
    time.sleep(4.0)  # noqa: ASYNC251 - the stall of the event loop is what this is about
    await discord.heard_beyond(now_ms())
    assert all(discord.heard.online.values())
    stats = await discord.stats()
    assert (stats["identifies"], stats["resumes"]) == (2, 0)
