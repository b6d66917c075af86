"""The control API under /_sim: post, add members, set the traffic, cause faults, read the books."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from . import payloads
from .control_input import BadRequest, Json, json_body, number, parse_id, query_number, rest_fault
from .faults import GATEWAY_FAULTS, OUTAGE, REST_FAULTS, FaultBook
from .moderation import NEW_ROLE_PERMISSIONS, Moderation
from .oauth import TOKEN_LIFE_S
from .protocol import CloseCode
from .traffic import LABELS, MAX_RATE
from .world import User

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .gateway_connection import GatewayConnection
    from .oauth import OAuth
    from .rest import Rest
    from .simulation import Simulation
    from .world import Channel, Guild

_SHOWN_GUILDS = 20
_DEFAULT_PAGE, _MAX_PAGE = 1_000, 10_000
_MAX_CONTENT = 2_000
_MAX_HOLD_MS = 60_000
_DEFAULT_OUTAGE_MS, _MAX_OUTAGE_MS = 10_000, 3_600_000
_MIN_CLOSE, _MAX_CLOSE = 1000, 4999


class GoAway(Protocol):
    """Begins an outage; False if there is one."""

    def __call__(self, away_s: float, *, keeps_sessions: bool) -> bool:
        """Cut all connections and refuse new ones for so long."""


class Control:
    """The handlers of /_sim; only this machine may call them."""

    def __init__(
        self, simulation: Simulation, faults: FaultBook, rest: Rest, oauth: OAuth, go_away: GoAway
    ) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._moderation = Moderation(simulation)
        self._faults = faults
        self._rest = rest
        self._oauth = oauth
        self._go_away = go_away
        self._started_at = simulation.clock()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/_sim/world", _local(self.world)),
            web.post("/_sim/messages", _local(self.post_message)),
            web.post("/_sim/members", _local(self.add_member)),
            web.delete("/_sim/members", _local(self.remove_member)),
            web.put("/_sim/members", _local(self.give_roles)),
            web.post("/_sim/bans", _local(self.ban)),
            web.put("/_sim/roles", _local(self.set_role)),
            web.delete("/_sim/roles", _local(self.delete_role)),
            web.put("/_sim/guilds", _local(self.give_away)),
            web.delete("/_sim/guilds", _local(self.throw_bot_out)),
            web.get("/_sim/traffic", _local(self.traffic)),
            web.put("/_sim/traffic", _local(self.set_traffic)),
            web.get("/_sim/ledger", _local(self.ledger)),
            web.get("/_sim/deleted", _local(self.deleted)),
            web.get("/_sim/faults", _local(self.faults)),
            web.post("/_sim/faults", _local(self.cause_fault)),
            web.delete("/_sim/faults", _local(self.clear_faults)),
            web.put("/_sim/tokens", _local(self.set_tokens)),
            web.delete("/_sim/tokens", _local(self.end_tokens)),
            web.get("/_sim/stats", _local(self.stats)),
        ]

    async def world(self, request: web.Request) -> Json:
        """Return guilds (the first 20, all with ?all=1), people and the bot."""
        guilds = list(self._world.guilds.values())
        shown = guilds if request.query.get("all") == "1" else guilds[:_SHOWN_GUILDS]
        return {
            "guild_count": len(guilds),
            "guilds": [_guild_summary(guild) for guild in shown],
            "people": {name: payloads.user(user) for name, user in self._world.people.items()},
            "bot": payloads.user(self._world.bot),
        }

    async def post_message(self, request: web.Request) -> Json:
        """Post a message as somebody."""
        body = await json_body(request)
        guild = self._guild(body.get("guild_id"))
        channel = self._channel(guild, body.get("channel_id"))
        content = body.get("content")
        if not isinstance(content, str) or not content or len(content) > _MAX_CONTENT:
            raise BadRequest(f"content must be a text of 1 to {_MAX_CONTENT} characters.")
        label = body.get("label")
        if label is not None and label not in LABELS:
            raise BadRequest(f"label must be null or one of {', '.join(LABELS)}.")
        author = self._author(guild, body.get("author"))
        mentions = body.get("mentions", [])
        if not isinstance(mentions, list):
            raise BadRequest("mentions must be a list of user ids or names of people.")
        named = [self._user(each).id for each in mentions]
        message = self._simulation.post(
            channel_id=channel.id,
            author_id=author.id,
            content=content,
            label=label,
            mention_ids=dict.fromkeys([*self._simulation.mentions_in(content), *named]),
        )
        return payloads.message(message, self._world) | {"guild_id": str(guild.id)}

    async def add_member(self, request: web.Request) -> Json:
        """Let someone join a guild: a known user, a person by name, or somebody new."""
        body = await json_body(request)
        guild = self._guild(body.get("guild_id"))
        if body.get("user_id") is not None:
            user = self._user(body["user_id"])
        else:
            user = self._named_user(body.get("name"))
        if user.id in guild.members:
            raise BadRequest(f"{user.username} is already a member of {guild.name}.", 409)
        return payloads.member(self._simulation.join(guild, user)) | {"guild_id": str(guild.id)}

    async def remove_member(self, request: web.Request) -> Json:
        """Let a member leave."""
        body = await json_body(request)
        guild, user = self._member(body)
        if user.id in (guild.owner_id, self._world.bot.id):
            raise BadRequest("The owner and the bot cannot leave.", 409)
        self._simulation.leave(guild, user.id)
        return {"guild_id": str(guild.id), "user_id": str(user.id)}

    async def give_roles(self, request: web.Request) -> Json:
        """Let a member have these roles, and no others."""
        body = await json_body(request)
        guild, user = self._member(body)
        wanted = body.get("role_ids")
        if not isinstance(wanted, list):
            raise BadRequest("role_ids must be a list of role ids.")
        self._moderation.give_roles(guild, user.id, [self._role_id(guild, each) for each in wanted])
        return payloads.member(guild.members[user.id]) | {"guild_id": str(guild.id)}

    async def ban(self, request: web.Request) -> Json:
        """Ban a member."""
        guild, user = self._member(await json_body(request))
        if user.id in (guild.owner_id, self._world.bot.id):
            raise BadRequest("The owner and the bot cannot be banned.", 409)
        self._moderation.ban(guild, user.id)
        return {"guild_id": str(guild.id), "user_id": str(user.id)}

    async def set_role(self, request: web.Request) -> Json:
        """Make a role, or give one other permissions."""
        body = await json_body(request)
        guild = self._guild(body.get("guild_id"))
        permissions = int(number(body, "permissions", 0, 1 << 53, default=NEW_ROLE_PERMISSIONS))
        if body.get("role_id") is not None:
            role_id = self._role_id(guild, body["role_id"])
            return payloads.role(self._moderation.change_role(guild, role_id, permissions))
        return payloads.role(
            self._moderation.make_role(guild, str(body.get("name", "new role")), permissions)
        )

    async def delete_role(self, request: web.Request) -> Json:
        """Delete a role."""
        body = await json_body(request)
        guild = self._guild(body.get("guild_id"))
        role_id = self._role_id(guild, body.get("role_id"))
        if role_id == guild.id:
            raise BadRequest("@everyone cannot be deleted.", 409)
        self._moderation.delete_role(guild, role_id)
        return {"guild_id": str(guild.id), "role_id": str(role_id)}

    async def give_away(self, request: web.Request) -> Json:
        """Give a guild to another of its members."""
        guild, user = self._member(await json_body(request))
        self._moderation.give_away(guild, user.id)
        return _guild_summary(guild)

    async def throw_bot_out(self, request: web.Request) -> Json:
        """Remove the bot from a guild."""
        guild = self._guild((await json_body(request)).get("guild_id"))
        self._moderation.throw_bot_out(guild)
        return _guild_summary(guild)

    async def traffic(self, _request: web.Request) -> Json:
        """Return how much is going on."""
        traffic = self._simulation.traffic
        return {"rate": traffic.rate, "offence_share": traffic.offence_share}

    async def set_traffic(self, request: web.Request) -> Json:
        """Change how much is going on."""
        body, traffic = await json_body(request), self._simulation.traffic
        rate = number(body, "rate", 0, MAX_RATE, default=traffic.rate)
        share = number(body, "offence_share", 0, 1, default=traffic.offence_share)
        traffic.set_rate(rate, self._simulation.wall_clock(), share)
        return await self.traffic(request)

    async def ledger(self, request: web.Request) -> Json:
        """Return what was posted, with labels."""
        since = query_number(request, "since", 0, 1 << 62, default=0)
        page = self._simulation.ledger.since(
            since, query_number(request, "limit", 1, _MAX_PAGE, default=_DEFAULT_PAGE)
        )
        return {
            "next": page.next,
            "lost": page.lost,
            "entries": [entry.payload() for entry in page.entries],
        }

    async def deleted(self, request: web.Request) -> Json:
        """Return the messages that were deleted, oldest first."""
        guild_id = request.query.get("guild_id")
        found = [each for each in self._simulation.deleted if guild_id in (None, each["guild_id"])]
        return {"deleted": found, "total": self._simulation.counts["deletes"]}

    async def faults(self, _request: web.Request) -> Json:
        """Return the faults that still wait for requests."""
        return {"faults": [fault.payload() for fault in self._faults]}

    async def cause_fault(self, request: web.Request) -> Json:
        """Arm a REST fault, make the gateway misbehave now, or be away for a while."""
        body = await json_body(request)
        kind = body.get("kind")
        if kind in REST_FAULTS:
            fault = rest_fault(body)
            self._faults.add(fault)
            return {"fault": fault.payload()}
        if kind in GATEWAY_FAULTS:
            return self._gateway_fault(kind, body)
        if kind == OUTAGE:
            away_s = number(body, "hold_ms", 0, _MAX_OUTAGE_MS, default=_DEFAULT_OUTAGE_MS) / 1000
            if not self._go_away(away_s, keeps_sessions=bool(body.get("resumable", True))):
                raise BadRequest("The local Discord is away already.", 409)
            return {"away_s": away_s}
        known = ", ".join((*REST_FAULTS, *GATEWAY_FAULTS, OUTAGE))
        raise BadRequest(f"kind must be one of {known}.")

    async def clear_faults(self, _request: web.Request) -> Json:
        """Disarm all faults and open the gateway."""
        return {"cleared": self._faults.clear()}

    async def set_tokens(self, request: web.Request) -> Json:
        """Change how long tokens live that are issued from now on."""
        life_s = int(number(await json_body(request), "life_s", 1, TOKEN_LIFE_S))
        self._oauth.token_life_s = life_s
        return {"life_s": life_s}

    async def end_tokens(self, request: web.Request) -> Json:
        """Let somebody remove the application from their account: all their tokens end."""
        user = self._user((await json_body(request)).get("user"))
        return {"ended": self._oauth.disown(user.id)}

    async def stats(self, _request: web.Request) -> Json:
        """Return counters since the start, and who is connected now."""
        core, counts, now = self._simulation.gateway, self._simulation.counts, self._simulation.clock()
        sessions = list(core.sessions.values())
        connected = [session for session in sessions if session.connection is not None]
        return {
            "uptime_s": round(now - self._started_at, 3),
            "guilds": len(self._world.guilds),
            "sessions": len(sessions),
            "connections": len(core.connections),
            "shards_connected": sorted({session.shard_id for session in connected}),
            "shards": [
                {
                    "session_id": session.session_id,
                    "shard": [session.shard_id, session.shard_count],
                    "seq": session.seq,
                    "connected": session.connection is not None,
                    "intents": session.intents,
                }
                for session in sessions
            ],
            "identifies": core.identifies,
            "identifies_refused": core.identifies_refused,
            "resumes": core.resumes,
            "resumes_refused": core.resumes_refused,
            "session_start_limit": core.session_start_limit(now),
            **{name: counts[name] for name in ("messages", "deletes", "joins", "leaves")},
            "ledger_seq": self._simulation.ledger.seq,
            "rest_calls": dict(self._rest.calls),
            "rest_refused": dict(self._rest.refused),
            "rate_limited": self._rest.refused["429"],
        }

    # -- pieces

    def _gateway_fault(self, kind: str, body: Json) -> Json:
        shard = None if body.get("shard") is None else int(number(body, "shard", 0, 1 << 20))
        now = self._simulation.clock()
        hold_ms = number(body, "hold_ms", 0, _MAX_HOLD_MS, default=0)
        close_code = body.get("close_code")
        if close_code is not None:
            close_code = int(number(body, "close_code", _MIN_CLOSE, _MAX_CLOSE))
        self._faults.gateway_held_until = max(self._faults.gateway_held_until, now + hold_ms / 1000)
        hit = [
            connection
            for connection in tuple(self._simulation.gateway.connections)
            if connection.session is not None and shard in (None, connection.session.shard_id)
        ]
        for connection in hit:
            _misbehave(
                connection, kind, close_code=close_code, resumable=bool(body.get("resumable")), now=now
            )
        return {"affected": len(hit)}

    def _guild(self, value: Any) -> Guild:
        guild = self._world.guilds.get(parse_id(value, "guild_id"))
        if guild is None:
            raise BadRequest(f"There is no guild {value}.", 404)
        return guild

    def _channel(self, guild: Guild, value: Any) -> Channel:
        channels = guild.text_channels
        if value is None:
            return channels[0]
        channel_id = parse_id(value, "channel_id")
        for channel in channels:
            if channel.id == channel_id:
                return channel
        raise BadRequest(f"There is no text channel {value} in {guild.name}.", 404)

    def _member(self, body: Json) -> tuple[Guild, User]:
        guild, user = self._guild(body.get("guild_id")), self._user(body.get("user_id"))
        if user.id not in guild.members:
            raise BadRequest(f"{user.username} is not a member of {guild.name}.", 404)
        return guild, user

    def _role_id(self, guild: Guild, value: Any) -> int:
        role_id = parse_id(value, "role")
        if role_id not in guild.roles:
            raise BadRequest(f"There is no role {value} in {guild.name}.", 404)
        return role_id

    def _author(self, guild: Guild, value: Any) -> User:
        if value is not None:
            return self._user(value)
        silent = {self._world.bot.id} | {user.id for user in self._world.people.values()}
        return next(member.user for member in guild.members.values() if member.user.id not in silent)

    def _user(self, value: Any) -> User:
        if isinstance(value, str) and value in self._world.people:
            return self._world.people[value]
        user = self._world.users.get(parse_id(value, "user"))
        if user is None:
            raise BadRequest(f"There is no user {value}.", 404)
        return user

    def _named_user(self, name: Any) -> User:
        if name is None:
            name = f"newcomer{self._simulation.fresh_id() % 1_000_000}"
        if not isinstance(name, str) or not name.strip():
            raise BadRequest("name must be a text.")
        if name in self._world.people:
            return self._world.people[name]
        return User(self._simulation.fresh_id(), name.lower().replace(" ", "_"), name)


def _misbehave(
    connection: GatewayConnection, kind: str, *, close_code: int | None, resumable: bool, now: float
) -> None:
    match kind:
        case "reconnect":
            connection.ask_to_reconnect(now)
        case "invalid_session":
            connection.invalidate(resumable=resumable)
        case _ if close_code is not None:
            connection.end(close_code, "Closed on demand.")
        case _:
            connection.end(CloseCode.ABNORMAL, abort=True)


def _guild_summary(guild: Guild) -> Json:
    return {
        "id": str(guild.id),
        "name": guild.name,
        "owner_id": str(guild.owner_id),
        "member_count": len(guild.members),
        "channels": [{"id": str(channel.id), "name": channel.name} for channel in guild.text_channels],
    }


def _local(
    handler: Callable[[web.Request], Awaitable[Json]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Answer in JSON, and only to this machine."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.Response:
        try:
            _only_from_here(request)
            body: Json = await handler(request)
            status = 200
        except BadRequest as problem:
            body, status = {"error": str(problem)}, problem.status
        return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")

    return answer


def _only_from_here(request: web.Request) -> None:
    """Refuse other machines, and browser pages of another origin, which may reach loopback too.

    A page whose name was made to point here is of the same origin as what it asks: the name tells.
    """
    local = _is_loopback(request.remote or "")
    named = request.url.host or ""
    origin = request.headers.get("Origin")
    if (
        not local
        or not (named == "localhost" or _is_loopback(named))
        or origin not in (None, f"{request.scheme}://{request.host}")
    ):
        raise BadRequest("The control API answers this machine only.", 403)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
