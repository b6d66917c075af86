"""A runner's shards on Discord's gateway, by an unmodified discord.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import discord
import msgspec
import structlog
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route
from msgspec.structs import replace

from adapters.clock import now_ms
from adapters.discord_authority import guild_authority, member_authority, on_member_update
from adapters.gateway_shard import GatewayShard, Session
from adapters.gateway_silence import Patience
from adapters.guild_snapshot import encode_guild, restore_guild
from adapters.identify_turns import IdentifyTurns
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
from domain.identify import IdentifyGrants, IdentifyRules, SessionStarts
from domain.ports import BlindShard, BotHandler, BotProgress, EarlierLife, GatewaySession, ShardState
from domain.text import storable
from tasks import SupervisedTasks

log = structlog.get_logger()

DISCORD_API = "https://discord.com/api/v10"

AWAY_AFTER_S = 5.0
"""A shard that is back sooner was never away for anybody: RESUME brings what it missed."""

AWAY_AFTER_SILENCE_S = 3.0
"""The same for one that was blind for some seconds before anybody could know."""

_UNKNOWN_MESSAGE, _UNKNOWN_CHANNEL = 10008, 10003
_DISALLOWED_INTENTS = 4014

_CHANGES_A_GUILD = frozenset(
    {
        *("guild_available", "guild_join", "guild_update", "guild_remove", "guild_unavailable"),
        *("guild_channel_create", "guild_channel_update", "guild_channel_delete"),
        *("guild_role_create", "guild_role_update", "guild_role_delete"),
        *("thread_create", "thread_join", "thread_update", "thread_remove", "raw_thread_delete"),
        *("member_join", "raw_member_remove"),  # they change the number of members
    }
)


class ShardSettings(msgspec.Struct, frozen=True):
    """Which shards of the network a runner connects, and how."""

    token: str
    shard_ids: tuple[int, ...]
    shard_count: int
    api_base: str = DISCORD_API
    gateway_url: str | None = None
    identify: IdentifyRules = IdentifyRules()
    patience: Patience = Patience()


class DiscordBot:
    """Implements :class:`domain.ports.BotConnection`."""

    def __init__(self, settings: ShardSettings, open_grants: Callable[[], IdentifyGrants]) -> None:
        self._settings = settings
        self._open_grants = open_grants
        self._client: _Client
        self._shards: dict[int, GatewayShard] = {}
        self._turns: IdentifyTurns
        self._tasks = SupervisedTasks("gateway")
        self._refusal: str | None = None

    async def start(self, handler: BotHandler, earlier: EarlierLife | None = None) -> None:
        """See the port."""
        settings = self._settings
        # discord.py has no setting for these: its own constants are where the address is changed.
        Route.BASE = settings.api_base
        if settings.gateway_url is not None:
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(settings.gateway_url)
        self._client = client = _Client(settings, handler, self._shards)
        try:
            await client.login(settings.token)
        except discord.LoginFailure as error:
            raise BotRefused("Discord does not know this bot token.") from error
        except (discord.HTTPException, OSError) as error:
            raise BotRefused(f"Discord does not let the bot log in now: {error}.") from error
        self._turns = IdentifyTurns(self._open_grants(), self._session_starts, settings.identify)
        self._go_on(earlier or EarlierLife())
        self._tasks.keep("stay connected", self._stay_connected, may_end=True)

    async def stop(self) -> None:
        """See the port."""
        if self._tasks:
            await self._tasks.stop()
            await self._client.close()

    def shards(self) -> tuple[ShardState, ...]:
        """See the port."""
        return self._client.states()

    def changed_guilds(self) -> dict[int, bytes | None]:
        """See the port."""
        return self._client.changed_guilds()

    def progress(self) -> BotProgress:
        """See the port."""
        starts, shards = self._turns.starts, self._shards.values()
        blind = self._client.blind_shards()
        failures = [shard.failure for shard in shards if shard.failure is not None]
        return BotProgress(
            shards=len(self._shards),
            connected=len(self._shards) - len(blind),
            max_concurrency=starts.max_concurrency if starts else None,
            waits_for=min(self._turns.waiting.values(), default=None),
            budget_wait_ms=self._turns.budget_wait_ms,
            refusal=self._refusal or min(failures, default=None),
            blind=blind,
            ailing=self._tasks.ailing(),
        )

    def _go_on(self, earlier: EarlierLife) -> None:
        """Make the shards, and let each go on where an earlier life of this runner left it."""
        known = {state.shard_id: state for state in earlier.shards}
        for shard_id in self._settings.shard_ids:
            state = known.get(shard_id, ShardState(shard_id, earlier.heard_until_ms))
            session = None if state.session is None else Session(*msgspec.structs.astuple(state.session))
            self._shards[shard_id] = GatewayShard(
                self._client, shard_id, self._turns, session, patience=self._settings.patience
            )
            if state.heard_ms is not None:
                self._client.hearing.was_heard(shard_id, state.heard_ms)
        self._client.restore(earlier.guilds)

    async def _stay_connected(self) -> None:
        """Keep all shards connected; end when Discord never wants one of them back."""
        try:
            async with asyncio.TaskGroup() as group:
                for shard in self._shards.values():
                    group.create_task(shard.run(), name=f"shard-{shard.shard_id}")
        except* discord.ConnectionClosed as errors:
            self._refusal = _why(errors.exceptions[0])
            log.error("gateway_ended", reason=self._refusal)  # noqa: TRY400 - the reason says it all

    async def _session_starts(self) -> SessionStarts:
        limits = await self._client.fetch_session_start_limits()
        return SessionStarts(limits.total, limits.remaining, limits.reset_after, limits.max_concurrency)

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

    def __init__(self, settings: ShardSettings, handler: BotHandler, shards: dict[int, GatewayShard]) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True, members=True, guild_messages=True, message_content=True),
            shard_ids=list(settings.shard_ids),
            shard_count=settings.shard_count,
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            guild_ready_timeout=1.0,
        )
        # Set by discord.py's own launching of shards, which is not used.
        self._connection.shard_ids = list(settings.shard_ids)
        self._connection.shard_count = settings.shard_count
        self._settings = settings
        self._handler = handler
        self._gateway = shards
        self._leaving: dict[int, asyncio.TimerHandle] = {}
        self._away: set[int] = set()
        on_member_update(self, self._member_changed)
        self._undescribed: set[int] = set()
        """Shards with a new session, whose guilds discord.py has not told of yet."""
        self.hearing = ShardHearing()
        self._changed: set[int] = set()
        """Guilds of which something is known that is not kept yet."""
        self._handled: dict[str, Callable[..., None]] = {
            "message": self._message,
            "guild_available": self._guild_available,
            "guild_join": self._guild_join,
            "guild_update": self._guild_update,
            "guild_remove": self._guild_remove,
            "guild_unavailable": self._guild_unavailable,
            "member_join": self._member_join,
            "raw_member_remove": self._member_remove,
            "shard_connect": self._shard_connect,
            "shard_disconnect": self._shard_disconnect,
            "shard_resumed": self._shard_resumed,
            "shard_ready": self._shard_ready,
            "guild_role_update": self._guild_role_update,
            "guild_role_delete": self._guild_role_delete,
        }

    def dispatch(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        """Handle an event at once, in the gateway's order, and not some time later in a task of its own."""
        self._note_change(event, args)
        handle = self._handled.get(event)
        if handle is not None:
            try:
                handle(*args)
            except Exception:
                # One event that cannot be handled must not cost its shard the connection.
                log.exception("event_broke", gateway_event=event)
        super().dispatch(event, *args, **kwargs)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Let nobody identify without a grant that is still good."""
        del initial
        if not self._gateway[shard_id or 0].may_identify():
            raise TimeoutError

    def _message(self, message: discord.Message) -> None:
        if message.guild is None:
            return
        shard = self._hear(message.guild.id)
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
            ),
            shard.position(),
        )

    def _guild_available(self, guild: discord.Guild) -> None:
        self._describe(guild)
        # No sign of life: discord.py may say it long after Discord did.
        self._handler.on_event(BotPresenceChanged(guild.id, online=True, ts_ms=now_ms()))
        if guild.shard_id not in self._undescribed:  # it was away, and nobody told what happened in it
            self._handler.on_authority(replace(guild_authority(guild, now_ms()), missed=True))

    def _guild_join(self, guild: discord.Guild) -> None:
        self._guild_available(guild)
        self._handler.on_authority(guild_authority(guild, now_ms()))

    def _guild_update(self, before: discord.Guild, after: discord.Guild) -> None:
        self._describe(after)
        if before.owner_id != after.owner_id:
            self._handler.on_authority(guild_authority(after, now_ms()))

    def _guild_remove(self, guild: discord.Guild) -> None:
        self._tell(GuildLeft(guild.id))
        self._handler.on_authority(GuildAuthority(guild.id, now_ms(), None))

    def _guild_role_update(self, before: discord.Role, after: discord.Role) -> None:
        if before.permissions.administrator != after.permissions.administrator:
            self._handler.on_authority(guild_authority(after.guild, now_ms()))

    def _guild_role_delete(self, role: discord.Role) -> None:
        self._handler.on_authority(guild_authority(role.guild, now_ms(), deleted=role.id))

    def _guild_unavailable(self, guild: discord.Guild) -> None:
        self._tell(BotPresenceChanged(guild.id, online=False, ts_ms=now_ms()))

    def _member_join(self, member: discord.Member) -> None:
        joined = member.joined_at
        ts_ms = int(joined.timestamp() * 1000) if joined else now_ms()
        self._tell(MemberJoined(member.guild.id, _user(member), ts_ms))
        role_ids = [role.id for role in member.roles]
        self._handler.on_authority(member_authority(member.guild, member.id, role_ids, now_ms()))

    def _member_remove(self, payload: discord.RawMemberRemoveEvent) -> None:
        self._tell(MemberLeft(payload.guild_id, payload.user.id, now_ms()))
        self._handler.on_authority(MemberAuthority(payload.guild_id, payload.user.id, now_ms(), None))

    def _shard_connect(self, shard_id: int) -> None:
        self._gateway[shard_id].answered()
        self._undescribed.add(shard_id)
        self.hearing.began_anew(shard_id, now_ms())

    def _shard_disconnect(self, shard_id: int) -> None:
        self.hearing.cut_off(shard_id)
        if shard_id not in self._leaving and shard_id not in self._away:
            after_s = AWAY_AFTER_SILENCE_S if self._gateway[shard_id].fell_silent else AWAY_AFTER_S
            self._leaving[shard_id] = self.loop.call_later(after_s, self._is_away, shard_id)

    def _shard_resumed(self, shard_id: int) -> None:
        shard = self._gateway[shard_id]
        if shard.is_first and now_ms() - (self.hearing.until_ms(shard_id) or 0) > AWAY_AFTER_S * 1000:
            self._away.add(shard_id)  # nobody was there to say so
        shard.answered()
        self.hearing.resumed(shard_id, now_ms())
        self._is_back(shard_id)

    def _shard_ready(self, shard_id: int) -> None:
        # Not at READY itself: until its guild is described, discord.py drops what happens there.
        self._undescribed.discard(shard_id)
        gap = self.hearing.described(shard_id, now_ms())
        if gap is not None:
            self._handler.on_gap(gap)
        self._is_back(shard_id)

    def _member_changed(self, guild_id: int, user_id: int, role_ids: list[int]) -> None:
        guild = self.get_guild(guild_id)
        if guild is not None:  # else it was not described yet, and who is what there, nobody was told
            self._handler.on_authority(member_authority(guild, user_id, role_ids, now_ms()))

    def states(self) -> tuple[ShardState, ...]:
        """Look whether heartbeats were answered meanwhile; return how each shard stands."""
        return tuple(self._state(shard) for shard in self._gateway.values())

    def _state(self, shard: GatewayShard) -> ShardState:
        shard_id, session = shard.shard_id, shard.session()
        self.hearing.pulse(shard_id, shard.latency_s, now_ms())
        heard_ms = self.hearing.until_ms(shard_id)
        # A session that is taken up again does not describe its guilds: not before that is done.
        if session is None or shard_id in self._undescribed or self.hearing.is_missing(shard_id):
            return ShardState(shard_id, heard_ms)
        return ShardState(shard_id, heard_ms, GatewaySession(*session))

    def restore(self, guilds: dict[int, bytes]) -> None:
        """Know again what an earlier life knew of the guilds whose shards go on; forget the others."""
        for guild_id, payload in guilds.items():
            shard = self._gateway.get((guild_id >> 22) % self._settings.shard_count)
            if shard is not None and shard.session() is not None:
                restore_guild(self, payload)
            else:
                self._changed.add(guild_id)

    def changed_guilds(self) -> dict[int, bytes | None]:
        """Return what is known of the guilds that changed since the last call."""
        changed, self._changed = self._changed, set()
        known = {guild_id: self.get_guild(guild_id) for guild_id in changed}
        return {guild_id: encode_guild(guild) if guild else None for guild_id, guild in known.items()}

    def _note_change(self, event: str, args: tuple[Any, ...]) -> None:
        """Note the guild of an event that changes what is kept of guilds."""
        if event not in _CHANGES_A_GUILD:
            return
        for arg in args:
            guild = arg if isinstance(arg, discord.Guild) else getattr(arg, "guild", None)
            guild_id = guild.id if guild is not None else getattr(arg, "guild_id", None)
            if guild_id is not None:
                self._changed.add(guild_id)

    def is_described(self, shard_id: int) -> bool:
        """Return whether a shard is connected, and its guilds are known."""
        return self._gateway[shard_id].connected and shard_id not in self._undescribed

    def blind_shards(self) -> tuple[BlindShard, ...]:
        """Return the shards that hear nothing now, and since when."""
        return tuple(
            BlindShard(shard_id, self.hearing.until_ms(shard_id))
            for shard_id in self._gateway
            if not self.is_described(shard_id)
        )

    def _hear(self, guild_id: int) -> GatewayShard:
        shard = self._gateway[(guild_id >> 22) % self._settings.shard_count]
        self.hearing.heard(shard.shard_id, now_ms())
        return shard

    def _tell(self, event: Event) -> None:
        self._handler.on_event(event, self._hear(event.guild_id).position())

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


def _why(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _why(error.exceptions[0])
    code = error.code if isinstance(error, discord.ConnectionClosed) else None
    if code == _DISALLOWED_INTENTS:
        return (
            "Discord grants this bot neither the server members nor the message content intent: "
            "switch both on in the developer portal, under Bot."
        )
    return f"Discord closed the connection: {error}."
