"""The bot on the local Discord: what it missed it tells once, and what it did not miss it does not tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route
from msgspec.structs import replace

from adapters.clock import now_ms
from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.guild_snapshot import encode_guild
from adapters.memory import MemoryIdentifyGrants
from discord_sim.app import DiscordSim, Settings
from discord_sim.gateway_session import GatewayOptions
from discord_sim.world import ADMINISTRATOR, Guild
from domain.authority import AuthorityNotice, GuildAuthority, MemberAuthority
from domain.detection import Message
from domain.events import Event, Gap, GuildDescribed
from domain.identify import IdentifyRules
from domain.ports import EarlierLife, Position
from tests.waiting import eventually

DEADLINE_S = 20.0
SHARDS = (0, 1)


class Listener:
    """Writes down what the bot tells; implements :class:`domain.ports.BotHandler`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.messages: list[Message] = []
        self.events: list[Event] = []
        self.gaps: list[Gap] = []
        self.authority: list[AuthorityNotice] = []
        self._changed = asyncio.Event()

    def on_message(self, message: Message, at: Position | None = None) -> None:
        del at
        self.texts.append(message.content)
        self.messages.append(message)
        self._changed.set()

    def on_event(self, event: Event, at: Position | None = None) -> None:
        del at
        self.events.append(event)

    def on_authority(self, notice: AuthorityNotice) -> None:
        self.authority.append(notice)
        self._changed.set()

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Bot:
    """A bot of two shards, its listener, and what happens around it."""

    def __init__(self, sim: DiscordSim, http: aiohttp.ClientSession, make: Callable[[], DiscordBot]) -> None:
        self.adapter, self.heard = make(), Listener()
        self._make = make
        self._http, self._sim = http, sim
        self._guilds = {
            shard: next(
                guild for guild in sim.simulation.world.guilds if (guild >> 22) % len(SHARDS) == shard
            )
            for shard in SHARDS
        }

    async def begin(self, earlier: EarlierLife | None = None) -> None:
        """Connect, and return when all shards are."""
        await self.adapter.start(self.heard, earlier)
        await eventually(self.is_connected)

    def left(self, positions: dict[int, int] | None = None) -> EarlierLife:
        """Return what a life leaves that is killed now, with some shards' positions further back."""
        behind = positions or {}
        shards = tuple(
            msgspec.structs.replace(
                shard,
                session=msgspec.structs.replace(
                    shard.session, sequence=behind.get(shard.shard_id, shard.session.sequence)
                ),
            )
            for shard in self.adapter.shards()
            if shard.session is not None
        )
        guilds = {guild_id: known for guild_id, known in self.adapter.changed_guilds().items() if known}
        return EarlierLife(self.heard_until_ms(), shards, guilds)

    async def next_life(self, earlier: EarlierLife) -> None:
        """Kill this life, and begin another with what it left."""
        await self.adapter.stop()
        self.adapter, self.heard = self._make(), Listener()
        await self.begin(earlier)

    def sequence(self, shard_id: int) -> int:
        """Return how far a shard is."""
        [session] = [each.session for each in self.adapter.shards() if each.shard_id == shard_id]
        assert session is not None
        return session.sequence

    async def say(self, shard: int, text: str) -> None:
        """Let somebody post where a shard listens."""
        await self._post("/_sim/messages", {"guild_id": str(self._guilds[shard]), "content": text})

    async def hears(self, shard: int, text: str) -> None:
        """Let somebody post, and return when the bot has heard it."""
        await self.say(shard, text)
        await self.heard.until(lambda: text in self.heard.texts)

    async def fault(self, kind: str, **options: Any) -> None:
        """Let something go wrong with shard 0."""
        found = await self._post("/_sim/faults", {"kind": kind, "shard": 0, **options})
        assert found == {"affected": 1}

    async def hears_again(self) -> None:
        """Let people post until one of them is heard: what is lost is lost."""

        async def is_heard() -> bool:
            await self.say(0, "anybody there?")
            return "anybody there?" in self.heard.texts

        await eventually(is_heard)

    def heard_until_ms(self) -> int | None:
        """Return until when all shards heard everything."""
        return min((shard.heard_ms for shard in self.adapter.shards() if shard.heard_ms), default=None)

    async def heard_beyond(self, time_ms: int) -> None:
        """Return when all shards are known to have heard what was before some time."""

        async def is_heard() -> bool:
            return (self.heard_until_ms() or 0) > time_ms

        await eventually(is_heard)

    async def began_anew(self) -> bool:
        """Return whether shard 0 has a new session whose guilds are not described yet."""
        return 0 in self.adapter._client.hearing._missed_since_ms

    async def is_connected(self) -> bool:
        """Return whether all shards are connected, and their guilds described."""
        return self.adapter.progress().connected == len(SHARDS)

    async def stats(self) -> dict[str, Any]:
        async with self._http.get("/_sim/stats") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    def guild(self, shard: int) -> Guild:
        """Return the guild in which a shard listens."""
        return self._sim.simulation.world.guilds[self._guilds[shard]]

    @property
    def bot_id(self) -> int:
        """The bot's own user id."""
        return self._sim.simulation.world.bot.id

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self.ask("POST", path, body)

    async def ask(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask the control API of the local Discord."""
        async with self._http.request(method, path, json=body) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found


@pytest.fixture
async def bot(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bot]:
    monkeypatch.setattr(Route, "BASE", Route.BASE)  # the adapter sets both
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL("ws://unset.invalid"))
    # Heartbeats often enough to see some, and patience enough for a busy machine.
    gateway = GatewayOptions(
        identify_interval_s=0.05, heartbeat_interval_ms=200, heartbeat_grace=100, sends_per_window=10_000
    )
    rules = IdentifyRules(interval_ms=60)
    async with (
        DiscordSim(Settings(guilds=12, gateway=gateway)) as sim,
        aiohttp.ClientSession(sim.url) as http,
    ):
        settings = ShardSettings(
            sim.settings.token, SHARDS, len(SHARDS), f"{sim.url}/api/v10", sim.gateway_url, rules
        )
        grants = MemoryIdentifyGrants(rules)
        bot = Bot(sim, http, lambda: DiscordBot(settings, lambda: grants))
        await bot.begin()
        yield bot
        await bot.adapter.stop()


@pytest.mark.parametrize(
    "fault",
    [
        # Until the client knows what happened the gateway stays shut, so that some is certainly missed.
        {"kind": "drop_gateway", "close_code": 4009, "hold_ms": 500},  # the client tries to resume, in vain
        {"kind": "invalid_session", "hold_ms": 500},
    ],
    ids=lambda fault: fault["kind"],
)
async def test_a_session_that_cannot_be_resumed_leaves_one_gap(bot: Bot, fault: dict[str, Any]) -> None:
    """It begins where the shard last heard something and ends when it hears again."""
    before_ms = now_ms()
    await bot.hears(0, "before")
    await bot.fault(**fault)
    cut_off_ms = now_ms()
    await bot.say(0, "never heard")
    await bot.hears(1, "the other shard goes on")
    missed_ms = now_ms()
    until_ms = bot.heard_until_ms()
    assert until_ms is not None
    assert before_ms <= until_ms <= cut_off_ms
    await bot.heard.until(lambda: bool(bot.heard.gaps))
    back_ms = now_ms()
    await bot.hears_again()
    await bot.heard_beyond(back_ms)
    [gap] = bot.heard.gaps
    assert (gap.lost_events, gap.reason) == (0, "blind")
    assert before_ms <= gap.since_ms <= cut_off_ms
    assert missed_ms <= gap.until_ms <= back_ms
    assert "never heard" not in bot.heard.texts
    assert (await bot.stats())["resumes"] == 0


async def test_a_resumed_session_leaves_no_gap(bot: Bot) -> None:
    """Discord replays what was missed, each message once; until then nobody can say that it was heard."""
    before_ms = now_ms()
    await bot.hears(0, "before")
    await bot.fault("drop_gateway", hold_ms=500)
    cut_off_ms = now_ms()
    await bot.say(0, "replayed")
    await bot.hears(1, "the other shard goes on")
    assert before_ms <= (bot.heard_until_ms() or 0) <= cut_off_ms
    await bot.heard.until(lambda: "replayed" in bot.heard.texts)
    await bot.heard_beyond(now_ms())
    assert bot.heard.gaps == []
    assert sorted(bot.heard.texts) == ["before", "replayed", "the other shard goes on"]
    assert (await bot.stats())["resumes"] == 1
    assert (await bot.stats())["identifies"] == len(SHARDS)


async def test_a_resume_does_not_save_what_the_session_before_missed(bot: Bot) -> None:
    """A new session, cut off and resumed before its guilds are described: the gap is told all the same."""
    before_ms = now_ms()
    await bot.hears(0, "before")
    await bot.fault("drop_gateway", close_code=4009, hold_ms=500)
    cut_off_ms = now_ms()
    await eventually(bot.began_anew)
    await bot.fault("drop_gateway")
    await bot.heard.until(lambda: bool(bot.heard.gaps))
    await bot.heard_beyond(now_ms())
    [gap] = bot.heard.gaps
    assert before_ms <= gap.since_ms <= cut_off_ms
    assert (await bot.stats())["resumes"] == 1


async def test_silence_is_heard_too(bot: Bot) -> None:
    """Where nobody says anything, the answers to heartbeats show that there was nothing to hear."""
    await bot.heard_beyond(now_ms())
    assert bot.heard.texts == []


async def test_who_loses_authority_is_told(bot: Bot) -> None:
    """Members that leave, are banned or lose a role; roles that lose ADMINISTRATOR or are deleted; owners."""
    guild = bot.guild(0)
    admin_role = next(role.id for role in guild.roles.values() if role.permissions & ADMINISTRATOR)
    one, two, three = [who for who in guild.members if who not in (guild.owner_id, bot.bot_id)][:3]
    where = {"guild_id": str(guild.id)}
    since_ms = now_ms()
    steps: list[tuple[str, str, dict[str, Any], AuthorityNotice]] = [
        (
            "PUT",
            "members",
            {"user_id": str(one), "role_ids": [str(admin_role)]},
            MemberAuthority(guild.id, one, 0, frozenset({guild.id, admin_role}), administrator=True),
        ),
        (
            "PUT",
            "members",
            {"user_id": str(one), "role_ids": []},
            MemberAuthority(guild.id, one, 0, frozenset({guild.id})),
        ),
        ("DELETE", "members", {"user_id": str(two)}, MemberAuthority(guild.id, two, 0, None)),
        (
            "POST",
            "members",
            {"user_id": str(two)},
            MemberAuthority(guild.id, two, 0, frozenset({guild.id})),
        ),
        ("POST", "bans", {"user_id": str(two)}, MemberAuthority(guild.id, two, 0, None)),
        (
            "PUT",
            "roles",
            {"role_id": str(admin_role), "permissions": 0},
            GuildAuthority(guild.id, 0, guild.owner_id),
        ),
        (
            "DELETE",
            "roles",
            {"role_id": str(admin_role)},
            GuildAuthority(guild.id, 0, guild.owner_id, deleted=frozenset({admin_role})),
        ),
        ("PUT", "guilds", {"user_id": str(three)}, GuildAuthority(guild.id, 0, three)),
        ("DELETE", "guilds", {}, GuildAuthority(guild.id, 0, None)),
    ]
    for number, (method, what, body, expected) in enumerate(steps, 1):
        await bot.ask(method, f"/_sim/{what}", where | body)
        await bot.heard.until(lambda number=number: len(bot.heard.authority) == number)  # type: ignore[misc]
        heard = bot.heard.authority[-1]
        assert since_ms <= heard.at_ms <= now_ms()
        assert replace(heard, at_ms=0) == expected, what


async def test_nothing_is_heard_after_leaving(bot: Bot) -> None:
    """What happens from then on the next life tells as missed."""
    await bot.hears(0, "before")
    await bot.adapter.stop()
    left_ms = now_ms()
    await bot.say(0, "after")
    assert (bot.heard_until_ms() or 0) <= left_ms
    looked_again = bot.heard_until_ms()
    assert looked_again is not None
    assert looked_again == bot.heard_until_ms() <= left_ms


async def test_the_next_life_takes_the_sessions_up(bot: Bot) -> None:
    """From the position that the last one left: no IDENTIFY, no gap, and guilds known as they were."""
    await bot.hears(0, "durable")
    position = bot.sequence(0)
    await bot.hears(0, "heard, and lost with the process")
    channel = bot.heard.messages[-1].channel_name
    earlier = bot.left({0: position})
    await bot.next_life(earlier)
    await bot.hears(0, "afterwards")
    await bot.hears(1, "the other shard too")
    assert bot.heard.texts[0] == "heard, and lost with the process"
    assert sorted(bot.heard.texts[1:]) == ["afterwards", "the other shard too"]
    assert channel is not None
    assert bot.heard.messages[0].channel_name == channel
    assert bot.heard.gaps == []
    assert (await bot.stats())["identifies"] == len(SHARDS)
    assert (await bot.stats())["resumes"] == len(SHARDS)


@pytest.mark.parametrize("session_lives", [True, False])
async def test_a_session_whose_address_is_gone_is_taken_up_at_the_door_for_everybody(
    bot: Bot, unused_tcp_port: int, session_lives: bool
) -> None:
    """The machine behind it may be gone for good: the next try goes elsewhere, whatever comes of it."""
    await bot.hears(0, "before")
    earlier = bot.left()
    gone = f"ws://127.0.0.1:{unused_tcp_port}/gateway"
    shards = tuple(
        replace(shard, session=replace(shard.session, resume_url=gone)) for shard in earlier.shards
    )
    if not session_lives:
        await bot.adapter.stop()
        bot._sim.simulation.gateway.sessions.clear()
    await bot.next_life(replace(earlier, shards=shards))
    await bot.hears(0, "again")
    assert (await bot.stats())["identifies"] == len(SHARDS) * (1 if session_lives else 2)
    assert len(bot.heard.gaps) == (0 if session_lives else len(SHARDS))


async def test_what_is_known_of_guilds_goes_on_from_life_to_life(bot: Bot) -> None:
    """Names, owner and roles; what is not told again is not forgotten either, however often it dies."""
    before = {guild.id: encode_guild(guild) for guild in bot.adapter._client.guilds}
    earlier = bot.left()
    await bot.next_life(earlier)
    assert {guild.id: encode_guild(guild) for guild in bot.adapter._client.guilds} == before
    assert bot.adapter.changed_guilds() == {}
    assert not any(isinstance(event, GuildDescribed) for event in bot.heard.events)


async def test_a_session_that_is_gone_begins_anew_with_a_gap(bot: Bot) -> None:
    """From where the life before had everything; for the shard whose session it is, and for no other."""
    await bot.hears(0, "before")
    earlier = bot.left()
    await bot.adapter.stop()
    sessions = bot._sim.simulation.gateway.sessions
    for session in [session for session in sessions.values() if session.shard_id == 0]:
        del sessions[session.session_id]
    cut_off_ms = now_ms()
    await bot.next_life(earlier)
    [gap] = bot.heard.gaps
    assert gap.since_ms == next(shard.heard_ms for shard in earlier.shards if shard.shard_id == 0)
    assert gap.until_ms >= cut_off_ms
    await bot.hears(0, "again")
    assert (await bot.stats())["identifies"] == len(SHARDS) + 1
