"""The running Discord: the world, what is posted in it, and who hears of it."""

from __future__ import annotations

import hmac
import re
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import orjson

from . import payloads
from .gateway_core import GatewayCore
from .ledger import Ledger
from .messages import Message, MessageStore
from .protocol import Event, Intents
from .snowflake import SnowflakeClock, timestamp_ms
from .traffic import PlannedMessage, Traffic
from .world import Member

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .gateway_session import GatewayOptions, Session
    from .traffic import Plan
    from .world import Guild, User, World

_MENTION = re.compile(r"<@!?(\d{15,20})>")
_MAX_MENTIONS = 100
_CHUNK = 1_000
_MAX_QUERIED = 100
_NUDGED_GUILDS = 5
_DELETED_KEPT = 10_000


class Simulation:
    """Owns the world and applies every change to it; each change is dispatched to the gateway's sessions."""

    def __init__(
        self,
        world: World,
        *,
        token: str,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        seed: int = 1,
        rate: float = 0.0,
        gateway: GatewayOptions | None = None,
    ) -> None:
        self.world = world
        self.token = token
        self.clock = clock
        self.wall_clock = wall_clock
        self.gateway_url = ""
        self.messages = MessageStore()
        self.ledger = Ledger()
        self.deleted: deque[dict[str, Any]] = deque(maxlen=_DELETED_KEPT)
        self.counts: Counter[str] = Counter()
        self.gateway = GatewayCore(self, gateway)
        self.gateway.on_ready = self._show_an_offence
        self.traffic = Traffic(world, seed=seed, rate=rate, now=wall_clock())
        self._ids = SnowflakeClock()

    # -- what happens in the world

    def run_traffic(self) -> None:
        """Let everything happen that is due."""
        for plan in self.traffic.advance(self.wall_clock()):
            self._carry_out(plan)

    def post(
        self,
        *,
        channel_id: int,
        author_id: int,
        content: str,
        label: str | None = None,
        mention_ids: Iterable[int] | None = None,
        **extra: Any,
    ) -> Message:
        """Post a message; mentions are read from the text unless given. `extra` are fields of `Message`."""
        channel = self.world.channels[channel_id]
        mentioned = self.mentions_in(content) if mention_ids is None else tuple(mention_ids)
        message = Message(
            id=self._ids.next(self.now_ms()),
            guild_id=channel.guild_id,
            channel_id=channel_id,
            author_id=author_id,
            content=content,
            mention_ids=mentioned,
            **extra,
        )
        self.messages.add(message)
        self.ledger.add(
            message_id=message.id,
            guild_id=message.guild_id,
            channel_id=channel_id,
            author_id=author_id,
            label=label,
            ts=timestamp_ms(message.id),
        )
        self.counts["messages"] += 1
        self.gateway.dispatch(self._message_event(message))
        return message

    def delete(self, channel_id: int, message_id: int) -> bool:
        """Delete a message; False if there is none."""
        message = self._remove(channel_id, message_id)
        if message is None:
            return False
        ids = {"id": str(message_id), "channel_id": str(channel_id), "guild_id": str(message.guild_id)}
        self._dispatch("MESSAGE_DELETE", ids, message.guild_id, Intents.GUILD_MESSAGES)
        return True

    def delete_many(self, channel_id: int, message_ids: Iterable[int]) -> int:
        """Delete several messages at once and return how many there were; unknown ones are passed over."""
        gone = [message_id for message_id in message_ids if self._remove(channel_id, message_id) is not None]
        if gone:
            guild_id = self.world.channels[channel_id].guild_id
            ids = {
                "ids": [str(message_id) for message_id in gone],
                "channel_id": str(channel_id),
                "guild_id": str(guild_id),
            }
            self._dispatch("MESSAGE_DELETE_BULK", ids, guild_id, Intents.GUILD_MESSAGES)
        return len(gone)

    def join(self, guild: Guild, user: User) -> Member:
        """Let a user join a guild; a member stays what they are."""
        if user.id in guild.members:
            return guild.members[user.id]
        self.world.users.setdefault(user.id, user)
        member = guild.members[user.id] = Member(user, self.now_ms())
        self.counts["joins"] += 1
        data = payloads.member(member) | {"guild_id": str(guild.id)}
        self._dispatch("GUILD_MEMBER_ADD", data, guild.id, Intents.GUILD_MEMBERS)
        return member

    def leave(self, guild: Guild, user_id: int) -> bool:
        """Let a member leave; False if they are not there."""
        member = guild.members.pop(user_id, None)
        if member is None:
            return False
        self.counts["leaves"] += 1
        data = {"guild_id": str(guild.id), "user": payloads.user(member.user)}
        self._dispatch("GUILD_MEMBER_REMOVE", data, guild.id, Intents.GUILD_MEMBERS)
        return True

    def mentions_in(self, content: str) -> tuple[int, ...]:
        """Return the users a text mentions, each once."""
        found = dict.fromkeys(int(user_id) for user_id in _MENTION.findall(content))
        return tuple(user_id for user_id in found if user_id in self.world.users)[:_MAX_MENTIONS]

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return int(self.wall_clock() * 1000)

    def fresh_id(self) -> int:
        """Return an id for something made now."""
        return self._ids.next(self.now_ms())

    # -- what the gateway asks (GatewaySource)

    def check_token(self, token: str) -> bool:
        """Say whether this is the bot's token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    def ready(self) -> dict[str, Any]:
        """Return what READY says to every session."""
        application = payloads.application(self.world)
        return {
            "user": payloads.self_user(self.world.bot),
            "application": {"id": application["id"], "flags": application["flags"]},
            "resume_gateway_url": self.gateway_url,
            "private_channels": [],
            "presences": [],
            "relationships": [],
            "user_settings": {},
            "user_settings_proto": "",
            "guild_join_requests": [],
            "geo_ordered_rtc_regions": [],
            "_trace": ["discord-sim"],
        }

    def guild_ids(self, shard_id: int, shard_count: int) -> Sequence[int]:
        """Return the guilds of a shard."""
        return self.world.shard_guild_ids(shard_id, shard_count)

    def guild_create(self, guild_id: int, intents: int, large_threshold: int) -> bytes:
        """Return the `d` of GUILD_CREATE."""
        guild = self.world.guilds[guild_id]
        return orjson.dumps(payloads.guild_create(guild, self.world.bot.id, intents, large_threshold))

    def member_chunks(self, request: dict[str, Any], intents: int) -> Iterable[bytes]:
        """Answer REQUEST_GUILD_MEMBERS; the whole list needs the members intent, as on Discord."""
        guild = self.world.guilds.get(_one_id(request.get("guild_id")))
        query, limit = request.get("query"), request.get("limit", 0)
        if guild is None or not isinstance(limit, int) or limit < 0:
            return
        not_found: list[str] = []
        if request.get("user_ids"):
            wanted = _ids(request["user_ids"])[:_MAX_QUERIED]
            members = [guild.members[user_id] for user_id in wanted if user_id in guild.members]
            not_found = [str(user_id) for user_id in wanted if user_id not in guild.members]
        elif isinstance(query, str):
            if not query and limit == 0 and not intents & Intents.GUILD_MEMBERS:
                return
            members = _named(guild, query)[: limit or (_MAX_QUERIED if query else None)]
        else:
            return
        parts = [members[at : at + _CHUNK] for at in range(0, len(members), _CHUNK)] or [[]]
        for index, part in enumerate(parts):
            chunk: dict[str, Any] = {
                "guild_id": str(guild.id),
                "members": [payloads.member(member) for member in part],
                "chunk_index": index,
                "chunk_count": len(parts),
            }
            if not_found:
                chunk["not_found"] = not_found
            if request.get("presences"):
                chunk["presences"] = []
            if request.get("nonce") is not None:
                chunk["nonce"] = request["nonce"]
            yield orjson.dumps(chunk)

    # -- pieces

    def _remove(self, channel_id: int, message_id: int) -> Message | None:
        message = self.messages.remove(channel_id, message_id)
        if message is not None:
            self.counts["deletes"] += 1
            self.deleted.append(
                {
                    "message_id": str(message_id),
                    "channel_id": str(channel_id),
                    "guild_id": str(message.guild_id),
                    "author_id": str(message.author_id),
                    "ts": self.now_ms(),
                }
            )
        return message

    def _carry_out(self, plan: Plan) -> None:
        if plan.guild_id not in self.world.guilds:
            return  # the bot was thrown out after it was planned
        if isinstance(plan, PlannedMessage):
            self.post(
                channel_id=plan.channel_id,
                author_id=plan.author_id,
                content=plan.content,
                label=plan.label,
                mention_ids=plan.mention_ids,
            )
        elif plan.joins:
            self.join(self.world.guilds[plan.guild_id], self.world.users[plan.user_id])
        else:
            self.leave(self.world.guilds[plan.guild_id], plan.user_id)

    def _message_event(self, message: Message) -> Event:
        payload = payloads.message(message, self.world, for_gateway=True)
        # The bot always reads what it wrote itself and what mentions it.
        own = message.author_id == self.world.bot.id or self.world.bot.id in message.mention_ids
        # Copied: what orjson returns keeps the whole buffer that it was written into.
        data = b"%b" % orjson.dumps(payload)
        return Event(
            "MESSAGE_CREATE",
            data,
            guild_id=message.guild_id,
            intents=Intents.GUILD_MESSAGES,
            redact=None if own else lambda: _without_content(orjson.loads(data)),
        )

    def _dispatch(self, name: str, data: dict[str, Any], guild_id: int, intents: int) -> None:
        self.gateway.dispatch(Event(name, orjson.dumps(data), guild_id=guild_id, intents=intents))

    def _show_an_offence(self, session: Session) -> None:
        first = set(list(self.world.guilds)[:_NUDGED_GUILDS])
        heard = [gid for gid in self.guild_ids(session.shard_id, session.shard_count) if gid in first]
        self.traffic.nudge(heard, self.wall_clock())


def _without_content(payload: dict[str, Any]) -> bytes:
    return orjson.dumps(payload | {"content": "", "embeds": [], "attachments": [], "components": []})


def _named(guild: Guild, query: str) -> list[Member]:
    start = query.lower()
    return [
        member
        for member in guild.members.values()
        if member.user.username.lower().startswith(start)
        or (member.nick or member.user.global_name or "").lower().startswith(start)
    ]


def _one_id(value: Any) -> int:
    ids = _ids(value)
    return ids[0] if ids else 0


def _ids(value: Any) -> list[int]:
    many = value if isinstance(value, list) else [value]
    return [int(each) for each in many if str(each).isdecimal()]
