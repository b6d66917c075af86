"""What the REST API can do, endpoint by endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import errors, payloads
from .errors import ApiError
from .rate_limits import Limit
from .rest import Caller, Endpoint
from .snowflake import iso, timestamp_ms

if TYPE_CHECKING:
    from aiohttp import web

    from .simulation import Simulation
    from .world import Channel, Guild

_MAX_CONTENT = 2_000
_MAX_MEMBERS, _MAX_MESSAGES, _MAX_GUILDS = 1_000, 100, 200
_MIN_BULK, _MAX_BULK, _BULK_AGE_MS = 2, 100, 14 * 86_400_000
_GUILDS_PER_SHARD = 1_000
_MAX_DIGITS = 20


class Endpoints:
    """The handlers; each takes a request and its caller, and returns what becomes JSON (None becomes 204)."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world

    def all(self) -> list[Endpoint]:
        """Return every endpoint with its limit."""
        message = "/channels/{channel_id}/messages/{message_id}"
        return [
            _get("/gateway", self.gateway, anonymous=True),
            _get("/gateway/bot", self.gateway_bot, Limit(2, 5.0)),
            _get("/oauth2/applications/@me", self.application),
            _get("/applications/@me", self.application),
            _get("/oauth2/@me", self.authorization, people=True),
            _get("/users/@me", self.me, people=True),
            # The limit that makes dashboards fail which ask on every page.
            _get("/users/@me/guilds", self.my_guilds, Limit(1, 1.0), people=True),
            _get("/users/@me/guilds/{guild_id}/member", self.my_member, Limit(5, 5.0), people=True),
            _get("/users/{user_id}", self.user, Limit(30, 30.0)),
            _get("/guilds/{guild_id}", self.guild),
            _get("/guilds/{guild_id}/channels", self.channels),
            _get("/guilds/{guild_id}/roles", self.roles),
            _get("/guilds/{guild_id}/members", self.members, Limit(10, 10.0)),
            _get("/guilds/{guild_id}/members/{user_id}", self.member, Limit(5, 1.0)),
            _get("/channels/{channel_id}", self.channel),
            _get("/channels/{channel_id}/messages", self.messages, Limit(5, 1.0)),
            _get(message, self.message, Limit(5, 1.0)),
            Endpoint(
                method="POST",
                path="/channels/{channel_id}/messages",
                handler=self.post_message,
                limit=Limit(5, 1.0),
            ),
            Endpoint(
                method="POST",
                path="/channels/{channel_id}/messages/bulk-delete",
                handler=self.bulk_delete,
                limit=Limit(1, 1.0),
            ),
            Endpoint(method="DELETE", path=message, handler=self.delete_message, limit=Limit(5, 1.0)),
        ]

    # -- gateway and application

    async def gateway(self, _request: web.Request, _caller: Caller) -> Any:
        """Say where the gateway is."""
        return {"url": self._simulation.gateway_url}

    async def gateway_bot(self, _request: web.Request, _caller: Caller) -> Any:
        """Say where the gateway is, and how many shards are enough."""
        return {
            "url": self._simulation.gateway_url,
            "shards": max(1, -(-len(self._world.guilds) // _GUILDS_PER_SHARD)),
            "session_start_limit": self._simulation.gateway.session_start_limit(self._simulation.clock()),
        }

    async def application(self, _request: web.Request, _caller: Caller) -> Any:
        """Return the bot's application."""
        return payloads.application(self._world)

    async def authorization(self, _request: web.Request, caller: Caller) -> Any:
        """Return what an access token allows."""
        return {
            "application": payloads.application(self._world),
            "scopes": sorted(caller.scopes),
            "expires": iso(self._simulation.now_ms() + 604_800_000),
            "user": payloads.user(self._world.users[caller.user_id]),
        }

    # -- users

    async def me(self, _request: web.Request, caller: Caller) -> Any:
        """Return the caller."""
        caller.needs("identify")
        return payloads.self_user(self._world.users[caller.user_id], email="email" in caller.scopes)

    async def my_guilds(self, request: web.Request, caller: Caller) -> Any:
        """Return the guilds of the caller, with the caller's permissions in each."""
        caller.needs("guilds")
        limit = _limit(request, _MAX_GUILDS, default=_MAX_GUILDS)
        before, after = _optional_id(request, "before"), _optional_id(request, "after")
        guilds = [
            guild
            for guild in self._world.guilds_of(caller.user_id)
            if (before is None or guild.id < before) and (after is None or guild.id > after)
        ]
        counted = request.query.get("with_counts", "").lower() in ("true", "1")
        return [_partial_guild(guild, caller.user_id, counted=counted) for guild in guilds[:limit]]

    async def my_member(self, request: web.Request, caller: Caller) -> Any:
        """Return the caller as a member of a guild."""
        caller.needs("guilds.members.read")
        guild_id = _id(request, "guild_id")
        guild = self._world.guilds.get(guild_id) or self._world.elsewhere.get(guild_id)
        if guild is None or caller.user_id not in guild.members:
            raise errors.unknown_guild()
        return payloads.member(guild.members[caller.user_id])

    async def user(self, request: web.Request, _caller: Caller) -> Any:
        """Return a user."""
        user = self._world.users.get(_id(request, "user_id"))
        if user is None:
            raise errors.unknown_user()
        return payloads.user(user)

    # -- guilds

    async def guild(self, request: web.Request, _caller: Caller) -> Any:
        """Return a guild."""
        guild = self._guild(request)
        payload = payloads.guild(guild)
        if request.query.get("with_counts", "").lower() in ("true", "1"):
            payload |= _counts(guild)
        return payload

    async def channels(self, request: web.Request, _caller: Caller) -> Any:
        """Return a guild's channels."""
        return [payloads.channel(channel) for channel in self._guild(request).channels]

    async def roles(self, request: web.Request, _caller: Caller) -> Any:
        """Return a guild's roles."""
        return [payloads.role(role) for role in self._guild(request).roles.values()]

    async def members(self, request: web.Request, _caller: Caller) -> Any:
        """Return a guild's members in the order of their ids."""
        guild = self._guild(request)
        limit = _limit(request, _MAX_MEMBERS, default=1)
        after = _optional_id(request, "after") or 0
        ids = sorted(user_id for user_id in guild.members if user_id > after)
        return [payloads.member(guild.members[user_id]) for user_id in ids[:limit]]

    async def member(self, request: web.Request, _caller: Caller) -> Any:
        """Return a member."""
        guild, user_id = self._guild(request), _id(request, "user_id")
        if user_id in guild.members:
            return payloads.member(guild.members[user_id])
        raise errors.unknown_member() if user_id in self._world.users else errors.unknown_user()

    # -- channels and messages

    async def channel(self, request: web.Request, _caller: Caller) -> Any:
        """Return a channel."""
        return payloads.channel(self._channel(request))

    async def messages(self, request: web.Request, _caller: Caller) -> Any:
        """Return a channel's messages, newest first."""
        channel = self._channel(request)
        limit = _limit(request, _MAX_MESSAGES, default=50)
        before, after = _optional_id(request, "before"), _optional_id(request, "after")
        found = self._simulation.messages.in_channel(channel.id)
        if before is not None:
            found = [message for message in found if message.id < before]
        if after is not None:
            found = [message for message in found if message.id > after][-limit:]
        return [payloads.message(message, self._world) for message in found[:limit]]

    async def message(self, request: web.Request, _caller: Caller) -> Any:
        """Return a message."""
        channel = self._channel(request)
        message = self._simulation.messages.get(channel.id, _id(request, "message_id"))
        if message is None:
            raise errors.unknown_message()
        return payloads.message(message, self._world)

    async def post_message(self, request: web.Request, caller: Caller) -> Any:
        """Post a message as the bot."""
        channel = self._channel(request)
        body = await _body(request)
        content, embeds = body.get("content") or "", body.get("embeds") or []
        if not isinstance(content, str) or not isinstance(embeds, list):
            raise errors.invalid_form(
                "content", "STRING_TYPE_CONVERT", "Could not interpret value as string."
            )
        if not content and not embeds:
            raise errors.empty_message()
        if len(content) > _MAX_CONTENT:
            too_long = f"Must be {_MAX_CONTENT} or fewer in length."
            raise errors.invalid_form("content", "BASE_TYPE_MAX_LENGTH", too_long)
        allowed = body.get("allowed_mentions")
        message = self._simulation.post(
            channel_id=channel.id,
            author_id=caller.user_id,
            content=content,
            mention_ids=_allowed(self._simulation.mentions_in(content), allowed),
            embeds=embeds,
            nonce=body.get("nonce"),
            reference=body.get("message_reference"),
        )
        return payloads.message(message, self._world)

    async def delete_message(self, request: web.Request, _caller: Caller) -> Any:
        """Delete a message."""
        channel = self._channel(request)
        if not self._simulation.delete(channel.id, _id(request, "message_id")):
            raise errors.unknown_message()

    async def bulk_delete(self, request: web.Request, _caller: Caller) -> Any:
        """Delete 2 to 100 messages younger than two weeks; all or, if one is too old, none."""
        channel = self._channel(request)
        ids = (await _body(request)).get("messages")
        if not isinstance(ids, list) or not _MIN_BULK <= len(set(map(str, ids))) <= _MAX_BULK:
            problem = f"Must be between {_MIN_BULK} and {_MAX_BULK} in length."
            raise errors.invalid_form("messages", "BASE_TYPE_BAD_LENGTH", problem)
        message_ids = [_snowflake(str(each), "messages") for each in ids]
        oldest_ms = self._simulation.now_ms() - _BULK_AGE_MS
        if any(timestamp_ms(message_id) < oldest_ms for message_id in message_ids):
            raise errors.too_old_for_bulk()
        self._simulation.delete_many(channel.id, message_ids)

    # -- pieces

    def _guild(self, request: web.Request) -> Guild:
        guild_id = _id(request, "guild_id")
        if guild_id in self._world.elsewhere:
            raise errors.missing_access()
        guild = self._world.guilds.get(guild_id)
        if guild is None:
            raise errors.unknown_guild()
        return guild

    def _channel(self, request: web.Request) -> Channel:
        channel = self._world.channels.get(_id(request, "channel_id"))
        if channel is None:
            raise errors.unknown_channel()
        return channel


def _get(
    path: str, handler: Any, limit: Limit | None = None, *, people: bool = False, anonymous: bool = False
) -> Endpoint:
    endpoint = Endpoint(method="GET", path=path, handler=handler, people=people, anonymous=anonymous)
    if limit is None:
        return endpoint
    return Endpoint(method="GET", path=path, handler=handler, limit=limit, people=people, anonymous=anonymous)


def _id(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    return _snowflake(text, name)


def _optional_id(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    return None if text is None else _snowflake(text, name)


def _snowflake(text: str, name: str) -> int:
    if not _is_digits(text) or int(text) >= 1 << 63:
        raise errors.invalid_form(name, "NUMBER_TYPE_COERCE", f'Value "{text}" is not snowflake.')
    return int(text)


def _limit(request: web.Request, most: int, *, default: int) -> int:
    text = request.query.get("limit", str(default))
    if not _is_digits(text) or not 1 <= int(text) <= most:
        problem = f"int value should be between 1 and {most}."
        raise errors.invalid_form("limit", "NUMBER_TYPE_MAX", problem)
    return int(text)


async def _body(request: web.Request) -> dict[str, Any]:
    """Return a JSON body, or the `payload_json` of a multipart one; attachments are read and dropped."""
    if request.content_type.startswith("multipart/"):
        field = (await request.post()).get("payload_json", "{}")
        raw: str | bytes = field if isinstance(field, str) else "{}"
    else:
        raw = await request.read()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "The request body contains invalid JSON.", 50109)
    return body


def _allowed(mention_ids: tuple[int, ...], allowed: Any) -> tuple[int, ...]:
    if not isinstance(allowed, dict) or "users" in (allowed.get("parse") or ()):
        return mention_ids
    named = {str(user_id) for user_id in allowed.get("users") or ()}
    return tuple(user_id for user_id in mention_ids if str(user_id) in named)


def _partial_guild(guild: Guild, user_id: int, *, counted: bool) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "id": str(guild.id),
        "name": guild.name,
        "icon": None,
        "banner": None,
        "owner": guild.owner_id == user_id,
        "permissions": str(guild.permissions_of(user_id)),
        "features": [],
    }
    return payload | _counts(guild) if counted else payload


def _counts(guild: Guild) -> dict[str, int]:
    return {
        "approximate_member_count": len(guild.members),
        "approximate_presence_count": max(1, len(guild.members) // 4),
    }


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS
