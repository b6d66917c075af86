"""A runner's shards on Discord's gateway, by an unmodified discord.py."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict

import discord
import msgspec
import structlog
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from adapters.clock import now_ms
from adapters.discord_authority import guild_authority, member_authority, on_member_update
from adapters.shard_hearing import ShardHearing
from domain.authority import GuildAuthority, MemberAuthority
from domain.detection import Message
from domain.errors import BotRefused
from domain.events import (
    BotPresenceChanged,
    Event,
    GuildDescribed,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    UserRef,
)
from domain.ports import BotHandler
from domain.text import storable

log = structlog.get_logger()

DISCORD_API = "https://discord.com/api/v10"

IDENTIFY_PERIOD_S = 5.0
READY_WITHIN_S = 300.0
AWAY_AFTER_S = 5.0
"""A shard that is back sooner was never away for anybody: RESUME brings what it missed."""

_UNKNOWN_MESSAGE, _UNKNOWN_CHANNEL = 10008, 10003


class ShardSettings(msgspec.Struct, frozen=True):
    """Which shards of the network a runner connects, and how."""

    token: str
    shard_ids: tuple[int, ...]
    shard_count: int
    max_concurrency: int
    api_base: str = DISCORD_API
    gateway_url: str | None = None


class DiscordBot:
    """Implements :class:`domain.ports.BotConnection`."""

    def __init__(self, settings: ShardSettings) -> None:
        self._settings = settings
        self._client: _Client
        self._connection: asyncio.Task[None]

    async def start(self, handler: BotHandler) -> None:
        """See the port."""
        settings = self._settings
        # discord.py has no setting for these: its own constants are where the address is changed.
        Route.BASE = settings.api_base
        if settings.gateway_url is not None:
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(settings.gateway_url)
        self._client = _Client(settings, handler)
        try:
            await self._client.login(settings.token)
        except discord.LoginFailure as error:
            raise BotRefused("Discord does not know this bot token.") from error
        self._connection = asyncio.create_task(self._client.connect(), name="gateway")
        ready = asyncio.create_task(self._client.wait_until_ready())
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await asyncio.wait({self._connection, ready}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise BotRefused(f"Discord did not describe the guilds within {READY_WITHIN_S:.0f} s.") from error
        finally:
            ready.cancel()
        if self._connection.done():
            raise BotRefused(_why(self._connection.exception()))
        self._connection.add_done_callback(_report_end)

    async def stop(self) -> None:
        """See the port."""
        await self._client.close()
        self._connection.cancel()
        with contextlib.suppress(asyncio.CancelledError, discord.DiscordException):
            await self._connection

    def heard_until_ms(self) -> int:
        """See the port."""
        return self._client.heard_until_ms()

    async def delete_message(self, channel_id: int, message_id: int) -> bool:
        """See the port. discord.py waits out rate limits by itself."""
        try:
            await self._client.http.delete_message(
                channel_id, message_id, reason="Guildhall: a rule was broken"
            )
        except discord.NotFound as error:
            return error.code in (_UNKNOWN_MESSAGE, _UNKNOWN_CHANNEL)
        except (discord.HTTPException, OSError) as error:
            log.warning("deletion_failed", channel=channel_id, message=message_id, error=str(error))
            return False
        return True


class _Client(discord.AutoShardedClient):
    """Turns what discord.py says into what the domain knows. Caches no members and no messages."""

    def __init__(self, settings: ShardSettings, handler: BotHandler) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True, members=True, guild_messages=True, message_content=True),
            shard_ids=list(settings.shard_ids),
            shard_count=settings.shard_count,
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            guild_ready_timeout=1.0,
        )
        self._settings = settings
        self._handler = handler
        self._identified: defaultdict[int, int] = defaultdict(int)
        self._leaving: dict[int, asyncio.TimerHandle] = {}
        self._away: set[int] = set()
        self._hearing = ShardHearing()
        on_member_update(self, self._member_changed)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Wait only when a bucket is used again: Discord lets ``max_concurrency`` shards in per 5 s."""
        del initial
        bucket = (shard_id or 0) % self._settings.max_concurrency
        self._identified[bucket] += 1
        if self._identified[bucket] > 1:
            await asyncio.sleep(IDENTIFY_PERIOD_S)

    async def on_message(self, message: discord.Message) -> None:
        if message.guild is None:
            return
        self._hear(message.guild.id)
        if message.author.bot or message.webhook_id is not None:
            return
        self._handler.on_message(
            Message(
                guild_id=message.guild.id,
                channel_id=message.channel.id,
                channel_name=storable(getattr(message.channel, "name", None) or "") or None,
                message_id=message.id,
                author=_user(message.author),
                content=storable(message.content),
                mentions=len({user.id for user in message.mentions}),
                ts_ms=int(message.created_at.timestamp() * 1000),
            )
        )

    async def on_guild_available(self, guild: discord.Guild) -> None:
        self._describe(guild)
        # No sign of life: discord.py may say it long after Discord did.
        self._handler.on_event(BotPresenceChanged(guild.id, online=True, ts_ms=now_ms()))

    async def on_guild_join(self, guild: discord.Guild) -> None:
        await self.on_guild_available(guild)
        self._handler.on_authority(guild_authority(guild, now_ms()))

    async def on_guild_update(self, before: discord.Guild, after: discord.Guild) -> None:
        self._describe(after)
        if before.owner_id != after.owner_id:
            self._handler.on_authority(guild_authority(after, now_ms()))

    async def on_guild_remove(self, guild: discord.Guild) -> None:
        self._tell(GuildLeft(guild.id))
        self._handler.on_authority(GuildAuthority(guild.id, now_ms(), None))

    async def on_guild_role_update(self, before: discord.Role, after: discord.Role) -> None:
        if before.permissions.administrator != after.permissions.administrator:
            self._handler.on_authority(guild_authority(after.guild, now_ms()))

    async def on_guild_role_delete(self, role: discord.Role) -> None:
        self._handler.on_authority(guild_authority(role.guild, now_ms(), deleted=role.id))

    async def on_guild_unavailable(self, guild: discord.Guild) -> None:
        self._tell(BotPresenceChanged(guild.id, online=False, ts_ms=now_ms()))

    async def on_member_join(self, member: discord.Member) -> None:
        joined = member.joined_at
        ts_ms = int(joined.timestamp() * 1000) if joined else now_ms()
        self._tell(MemberJoined(member.guild.id, _user(member), ts_ms))
        role_ids = [role.id for role in member.roles]
        self._handler.on_authority(member_authority(member.guild, member.id, role_ids, now_ms()))

    async def on_raw_member_remove(self, payload: discord.RawMemberRemoveEvent) -> None:
        self._tell(MemberLeft(payload.guild_id, payload.user.id, now_ms()))
        self._handler.on_authority(MemberAuthority(payload.guild_id, payload.user.id, now_ms(), None))

    async def on_shard_connect(self, shard_id: int) -> None:
        self._hearing.began_anew(shard_id, now_ms())

    async def on_shard_disconnect(self, shard_id: int) -> None:
        self._hearing.cut_off(shard_id)
        if shard_id not in self._leaving and shard_id not in self._away:
            self._leaving[shard_id] = self.loop.call_later(AWAY_AFTER_S, self._is_away, shard_id)

    async def on_shard_resumed(self, shard_id: int) -> None:
        self._hearing.resumed(shard_id, now_ms())
        self._is_back(shard_id)

    async def on_shard_ready(self, shard_id: int) -> None:
        # Not at READY itself: until its guild is described, discord.py drops what happens there.
        gap = self._hearing.described(shard_id, now_ms())
        if gap is not None:
            self._handler.on_gap(gap)
        self._is_back(shard_id)

    def _member_changed(self, guild_id: int, user_id: int, role_ids: list[int]) -> None:
        guild = self.get_guild(guild_id)
        if guild is not None:  # else it was not described yet, and who is what there, nobody was told
            self._handler.on_authority(member_authority(guild, user_id, role_ids, now_ms()))

    def heard_until_ms(self) -> int:
        """Look whether heartbeats were answered meanwhile; return until when all shards heard everything."""
        for shard_id, shard in self.shards.items():
            self._hearing.pulse(shard_id, shard.latency, now_ms())
        return self._hearing.until_ms()

    def _hear(self, guild_id: int) -> None:
        self._hearing.heard((guild_id >> 22) % self._settings.shard_count, now_ms())

    def _tell(self, event: Event) -> None:
        self._hear(event.guild_id)
        self._handler.on_event(event)

    def _is_away(self, shard_id: int) -> None:
        del self._leaving[shard_id]
        self._away.add(shard_id)
        self._tell_presence(shard_id, online=False)

    def _is_back(self, shard_id: int) -> None:
        if shard_id in self._leaving:
            self._leaving.pop(shard_id).cancel()
        if shard_id in self._away:
            self._away.remove(shard_id)
            self._tell_presence(shard_id, online=True)

    def _tell_presence(self, shard_id: int, *, online: bool) -> None:
        for guild in self.guilds:
            if guild.shard_id == shard_id:
                self._handler.on_event(BotPresenceChanged(guild.id, online=online, ts_ms=now_ms()))

    def _describe(self, guild: discord.Guild) -> None:
        self._handler.on_event(
            GuildDescribed(
                guild_id=guild.id,
                name=storable(guild.name),
                owner_id=guild.owner_id or 0,
                icon_url=guild.icon.url if guild.icon else None,
                member_count=guild.member_count or 0,
            )
        )


def _user(user: discord.User | discord.Member) -> UserRef:
    avatar = user.avatar
    return UserRef(
        user_id=user.id,
        username=storable(user.name),
        display_name=storable(user.display_name),
        avatar_url=avatar.with_size(64).url if avatar else None,
    )


def _why(error: BaseException | None) -> str:
    if isinstance(error, discord.PrivilegedIntentsRequired):
        return (
            "Discord grants this bot neither the server members nor the message content intent: "
            "switch both on in the developer portal, under Bot."
        )
    return f"Discord closed the connection: {error or 'no reason given'}."


def _report_end(connection: asyncio.Task[None]) -> None:
    """Say when the connection ends for good; discord.py itself comes back from everything else."""
    if not connection.cancelled() and (error := connection.exception()) is not None:
        log.error("gateway_ended", reason=_why(error))
