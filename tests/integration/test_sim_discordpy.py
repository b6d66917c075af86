"""The local Discord as the real discord.py sees it."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import yarl

from discord_sim.app import DiscordSim, Settings
from discord_sim.gateway_session import GatewayOptions

with warnings.catch_warnings():
    # discord.py imports audioop, which Python 3.13 no longer has.
    warnings.filterwarnings("ignore", "'audioop' is deprecated", DeprecationWarning)
    import discord
    from discord.gateway import DiscordWebSocket
    from discord.http import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEADLINE_S = 15.0
GUILDS = 12


class Recorder(discord.AutoShardedClient):  # the methods are named by the library
    """An unmodified client that writes down what it hears."""

    def __init__(self) -> None:
        intents = discord.Intents.default()
        intents.members = True
        intents.message_content = True
        super().__init__(
            intents=intents, shard_count=2, chunk_guilds_at_startup=False, guild_ready_timeout=0.1
        )
        self.heard: list[discord.Message] = []
        self.removed: list[int] = []
        self.joined: list[discord.Member] = []
        self.resumed: list[int] = []
        self.connects: list[int] = []
        self._changed = asyncio.Event()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Identify at once; the default waits five seconds."""

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)
        self._changed.set()

    async def on_raw_message_delete(self, payload: discord.RawMessageDeleteEvent) -> None:
        self.removed.append(payload.message_id)
        self._changed.set()

    async def on_raw_bulk_message_delete(self, payload: discord.RawBulkMessageDeleteEvent) -> None:
        self.removed.extend(payload.message_ids)
        self._changed.set()

    async def on_member_join(self, member: discord.Member) -> None:
        self.joined.append(member)
        self._changed.set()

    async def on_shard_resumed(self, shard_id: int) -> None:
        self.resumed.append(shard_id)
        self._changed.set()

    async def on_shard_connect(self, shard_id: int) -> None:
        self.connects.append(shard_id)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, looking after each event."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def contents(self) -> list[str]:
        """Return the texts that were heard, in order."""
        return [message.content for message in self.heard]


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    options = GatewayOptions(identify_interval_s=0.05)
    async with DiscordSim(Settings(guilds=GUILDS, gateway=options)) as running:
        yield running


@pytest.fixture
async def http(sim: DiscordSim) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sim.url) as session:
        yield session


@pytest.fixture
async def bot(sim: DiscordSim, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    monkeypatch.setattr(Route, "BASE", f"{sim.url}/api/v10")
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(sim.gateway_url))
    client = Recorder()
    async with client:
        running = asyncio.create_task(client.start(sim.settings.token))
        ready = asyncio.create_task(client.wait_until_ready())
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait((running, ready), return_when=asyncio.FIRST_COMPLETED)
        assert ready.done(), running
        yield client
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with http.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def stats(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/_sim/stats") as answer:
        found: dict[str, Any] = await answer.json()
        return found


def on_shard(bot: Recorder, shard_id: int) -> str:
    return str(next(guild.id for guild in bot.guilds if guild.shard_id == shard_id))


async def test_both_shards_become_ready_with_all_their_guilds(sim: DiscordSim, bot: Recorder) -> None:
    """Every guild arrives whole on the shard it belongs to."""
    world = sim.simulation.world
    assert {guild.id for guild in bot.guilds} == set(world.guilds)
    assert {guild.shard_id for guild in bot.guilds} == {0, 1}
    for guild in bot.guilds:
        known = world.guilds[guild.id]
        assert (guild.name, guild.owner_id) == (known.name, known.owner_id)
        assert guild.member_count == len(known.members)
        assert [channel.id for channel in guild.text_channels] == [each.id for each in known.text_channels]
        assert guild.me.guild_permissions.manage_messages
        assert not guild.unavailable
    assert bot.application_id == sim.settings.client_id


async def test_a_posted_message_is_heard_and_can_be_deleted(
    sim: DiscordSim, bot: Recorder, http: aiohttp.ClientSession
) -> None:
    """A message reaches the client with author and mentions; its deletion reaches everybody."""
    guild_id = on_shard(bot, 1)
    viewer = sim.simulation.world.people["viewer"]
    body = {"guild_id": guild_id, "content": f"hi <@{viewer.id}>", "author": "owner"}
    posted = await post(http, "/_sim/messages", body)
    await bot.until(lambda: bool(bot.heard))
    message = bot.heard[0]
    assert (str(message.id), message.author.name) == (posted["id"], "owner")
    assert [user.name for user in message.mentions] == ["viewer"]
    assert isinstance(message.author, discord.Member)
    await message.delete()
    await bot.until(lambda: message.id in bot.removed)
    async with http.get("/_sim/deleted", params={"guild_id": guild_id}) as answer:
        assert [each["message_id"] for each in (await answer.json())["deleted"]] == [posted["id"]]
    with pytest.raises(discord.NotFound, match="10008"):
        await message.delete()


async def test_messages_are_deleted_in_bulk(sim: DiscordSim, bot: Recorder) -> None:
    """One request, one event, all gone."""
    channel = bot.guilds[0].text_channels[0]
    author = sim.simulation.world.people["viewer"].id
    posted = [
        sim.simulation.post(channel_id=channel.id, author_id=author, content=str(number))
        for number in range(3)
    ]
    await bot.until(lambda: len(bot.heard) == 3)
    await channel.delete_messages(bot.heard)
    await bot.until(lambda: bool(bot.removed))
    assert set(bot.removed) == {message.id for message in posted}
    assert [message async for message in channel.history()] == []


async def test_rest_calls_of_the_library_work(sim: DiscordSim, bot: Recorder) -> None:
    """Fetching users, guilds, members, channels and history, and sending, answer what the library parses."""
    world = sim.simulation.world
    guild = bot.guilds[0]
    owner = await bot.fetch_user(guild.owner_id or 0)
    assert owner.name == world.users[owner.id].username
    assert (await bot.fetch_guild(guild.id)).name == guild.name
    assert (await guild.fetch_member(owner.id)).id == owner.id
    assert len([member async for member in guild.fetch_members(limit=None)]) == guild.member_count
    channel = guild.text_channels[0]
    assert (await bot.fetch_channel(channel.id)).id == channel.id
    sent = await channel.send("hello there", nonce=7)
    assert [message.content async for message in channel.history()] == ["hello there"]
    assert (await channel.fetch_message(sent.id)).author == bot.user
    assert (await bot.application_info()).id == sim.settings.client_id
    assert len(await guild.chunk()) == guild.member_count
    with pytest.raises(discord.NotFound, match="10013"):
        await bot.fetch_user(1)


async def test_a_member_who_joins_is_heard(bot: Recorder, http: aiohttp.ClientSession) -> None:
    """GUILD_MEMBER_ADD reaches the guild's shard."""
    guild_id = on_shard(bot, 0)
    await post(http, "/_sim/members", {"guild_id": guild_id, "name": "New Person"})
    await bot.until(lambda: bool(bot.joined))
    assert (bot.joined[0].name, str(bot.joined[0].guild.id)) == ("new_person", guild_id)


@pytest.mark.parametrize("close_code", [None, 4000])
async def test_what_a_dropped_connection_missed_is_replayed_once(
    bot: Recorder, http: aiohttp.ClientSession, close_code: int | None
) -> None:
    """A client that lost its connection resumes and hears each message exactly once."""
    guild_id = on_shard(bot, 1)
    await post(http, "/_sim/messages", {"guild_id": guild_id, "content": "before"})
    await bot.until(lambda: bot.contents() == ["before"])
    fault = {"kind": "drop_gateway", "shard": 1, "close_code": close_code, "hold_ms": 300}
    assert await post(http, "/_sim/faults", fault) == {"affected": 1}
    for number in range(5):
        await post(http, "/_sim/messages", {"guild_id": guild_id, "content": f"missed {number}"})
    await bot.until(lambda: bot.resumed == [1])
    await post(http, "/_sim/messages", {"guild_id": guild_id, "content": "after"})
    await bot.until(lambda: "after" in bot.contents())
    assert bot.contents() == ["before", *(f"missed {number}" for number in range(5)), "after"]
    assert (await stats(http))["resumes"] == 1


async def test_reconnect_makes_the_client_resume(bot: Recorder, http: aiohttp.ClientSession) -> None:
    """Op 7 sends both shards away; both resume, nothing is identified again."""
    assert await post(http, "/_sim/faults", {"kind": "reconnect"}) == {"affected": 2}
    await bot.until(lambda: sorted(bot.resumed) == [0, 1])
    assert (await stats(http))["identifies"] == 2
    await post(http, "/_sim/messages", {"guild_id": on_shard(bot, 0), "content": "still there?"})
    await bot.until(lambda: bot.contents() == ["still there?"])


async def test_an_invalid_session_makes_the_client_identify(
    bot: Recorder, http: aiohttp.ClientSession
) -> None:
    """Op 9 ends the session; the client identifies anew and hears again."""
    await bot.until(lambda: sorted(bot.connects) == [0, 1])
    assert await post(http, "/_sim/faults", {"kind": "invalid_session", "shard": 0}) == {"affected": 1}
    await bot.until(lambda: bot.connects.count(0) == 2)
    assert (await stats(http))["identifies"] == 3
    await post(http, "/_sim/messages", {"guild_id": on_shard(bot, 0), "content": "hello again"})
    await bot.until(lambda: bot.contents() == ["hello again"])


async def test_rate_limits_and_server_errors_are_survived(bot: Recorder, http: aiohttp.ClientSession) -> None:
    """The library waits out a 429 on demand and a 5xx, and gets its answer."""
    await post(http, "/_sim/faults", {"kind": "rate_limit", "path": "/users", "retry_after_s": 0.05})
    await post(
        http,
        "/_sim/faults",
        {"kind": "rate_limit", "path": "/users", "retry_after_s": 0.05, "scope": "global"},
    )
    owner_id = bot.guilds[0].owner_id or 0
    assert (await bot.fetch_user(owner_id)).id == owner_id
    assert (await stats(http))["rate_limited"] == 2
    await post(http, "/_sim/faults", {"kind": "server_error", "path": "/users", "status": 503})
    with pytest.raises(discord.DiscordServerError):
        await bot.fetch_user(owner_id)


async def test_more_sends_than_the_bucket_holds_all_arrive(bot: Recorder) -> None:
    """Eight messages through a bucket of five a second: the client paces itself by the headers."""
    channel = bot.guilds[0].text_channels[0]
    await asyncio.gather(*(channel.send(f"number {number}") for number in range(8)))
    await bot.until(lambda: len(bot.heard) == 8)
    assert sorted(bot.contents()) == [f"number {number}" for number in range(8)]
