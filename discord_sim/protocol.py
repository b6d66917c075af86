"""The numbers of gateway v10 (opcodes, close codes, intents) and the event that is dispatched."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

API_VERSION = 10


class Op(IntEnum):
    """Gateway opcodes."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE_UPDATE = 3
    VOICE_STATE_UPDATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_GUILD_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    REQUEST_SOUNDBOARD_SOUNDS = 31


class CloseCode(IntEnum):
    """Why the gateway ends a connection."""

    NORMAL = 1000
    GOING_AWAY = 1001
    ABNORMAL = 1006
    SERVICE_RESTART = 1012
    UNKNOWN_ERROR = 4000
    UNKNOWN_OPCODE = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    INVALID_SEQ = 4007
    RATE_LIMITED = 4008
    SESSION_TIMED_OUT = 4009
    INVALID_SHARD = 4010
    SHARDING_REQUIRED = 4011
    INVALID_API_VERSION = 4012
    INVALID_INTENTS = 4013
    DISALLOWED_INTENTS = 4014


# After these the session is gone: resuming it would repeat the mistake.
ENDS_SESSION = frozenset(
    {
        CloseCode.AUTHENTICATION_FAILED,
        CloseCode.INVALID_SEQ,
        CloseCode.SESSION_TIMED_OUT,
        CloseCode.INVALID_SHARD,
        CloseCode.SHARDING_REQUIRED,
        CloseCode.INVALID_API_VERSION,
        CloseCode.INVALID_INTENTS,
        CloseCode.DISALLOWED_INTENTS,
    }
)


class Intents(IntFlag):
    """What a session may ask to hear."""

    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_MODERATION = 1 << 2
    GUILD_EXPRESSIONS = 1 << 3
    GUILD_INTEGRATIONS = 1 << 4
    GUILD_WEBHOOKS = 1 << 5
    GUILD_INVITES = 1 << 6
    GUILD_VOICE_STATES = 1 << 7
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_REACTIONS = 1 << 10
    GUILD_MESSAGE_TYPING = 1 << 11
    DIRECT_MESSAGES = 1 << 12
    DIRECT_MESSAGE_REACTIONS = 1 << 13
    DIRECT_MESSAGE_TYPING = 1 << 14
    MESSAGE_CONTENT = 1 << 15
    GUILD_SCHEDULED_EVENTS = 1 << 16
    AUTO_MODERATION_CONFIGURATION = 1 << 20
    AUTO_MODERATION_EXECUTION = 1 << 21
    GUILD_MESSAGE_POLLS = 1 << 24
    DIRECT_MESSAGE_POLLS = 1 << 25


ALL_INTENTS = int(sum(Intents))
PRIVILEGED_INTENTS = int(Intents.GUILD_MEMBERS | Intents.GUILD_PRESENCES | Intents.MESSAGE_CONTENT)


class Event:
    """One dispatch, encoded once however many sessions hear it.

    `data` is the JSON of `d`. `redact`, when given, makes the version for sessions without the
    message-content intent; it runs at most once.
    """

    __slots__ = ("_redact", "_redacted", "data", "guild_id", "head", "intents", "name")

    def __init__(
        self,
        name: str,
        data: bytes,
        *,
        guild_id: int | None = None,
        intents: int = 0,
        redact: Callable[[], bytes] | None = None,
    ) -> None:
        self.name = name
        self.data = data
        self.guild_id = guild_id
        self.intents = intents
        self.head = b'{"t":"' + name.encode() + b'","op":0,"s":'
        self._redact = redact
        self._redacted: bytes | None = None

    def data_for(self, intents: int) -> bytes:
        """Return `d` as a session with these intents may see it."""
        if self._redact is None or intents & Intents.MESSAGE_CONTENT:
            return self.data
        if self._redacted is None:
            self._redacted = self._redact()
        return self._redacted
