"""The gateway without sockets: payloads in, payloads and a close code out, the clock as an argument.

`GatewayCore` holds the sessions; `GatewayConnection` is one client's connection; `Session` outlives it, so
that the client can come back and hear what it missed. A shell sets `connection.wake` and, whenever it is
called, writes out `connection.outbox` and then honours `connection.close`.
"""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import orjson

from .protocol import (
    ALL_INTENTS,
    API_VERSION,
    ENDS_SESSION,
    PRIVILEGED_INTENTS,
    CloseCode,
    Event,
    Intents,
    Op,
)
from .snowflake import shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_MIN_LARGE_THRESHOLD, _MAX_LARGE_THRESHOLD = 50, 250
_RECONNECT_GRACE_S = 10.0
_HEARTBEAT_ACK = b'{"t":null,"s":null,"op":11,"d":null}'


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """The limits of the gateway; the defaults are Discord's."""

    heartbeat_interval_ms: int = 41_250
    # Discord allows some lateness; a client that misses one beat and half the next is gone.
    heartbeat_grace: float = 1.5
    max_payload_bytes: int = 4_096
    sends_per_window: int = 120
    send_window_s: float = 60.0
    max_concurrency: int = 16
    identify_interval_s: float = 5.0
    session_starts: int = 1_000
    session_start_window_s: float = 86_400.0
    resume_window_s: float = 180.0
    # Replay is bounded twice: by count, and by bytes so that a few huge guilds do not hold it all.
    replay_events: int = 50_000
    replay_bytes: int = 32 * 1024 * 1024
    max_guilds_per_shard: int = 2_500
    allowed_privileged_intents: int = PRIVILEGED_INTENTS


class GatewaySource(Protocol):
    """What the gateway needs to know of the world."""

    def check_token(self, token: str) -> bool:
        """Say whether this is the bot's token."""

    def ready(self) -> dict[str, Any]:
        """Return the parts of READY that are the same for all: user, application, resume_gateway_url."""

    def guild_ids(self, shard_id: int, shard_count: int) -> Sequence[int]:
        """Return the guilds of a shard."""

    def guild_create(self, guild_id: int, intents: int, large_threshold: int) -> bytes:
        """Return the `d` of GUILD_CREATE."""

    def member_chunks(self, request: dict[str, Any], intents: int) -> Iterable[bytes]:
        """Return the `d` of each GUILD_MEMBERS_CHUNK that answers a request."""


class Close(NamedTuple):
    """A close frame to send; `abort` cuts the connection without one."""

    code: int
    reason: str = ""
    abort: bool = False


class Session:
    """What a client identified for: its shard, its intents, and a bounded memory of what it was sent."""

    def __init__(
        self, session_id: str, *, shard: tuple[int, int], intents: int, options: GatewayOptions
    ) -> None:
        self.session_id = session_id
        self.shard_id, self.shard_count = shard
        self.intents = intents
        self.seq = 0
        self.connection: GatewayConnection | None = None
        self.detached_at: float | None = None
        self._options = options
        self._sent: deque[tuple[int, Event]] = deque()
        self._sent_bytes = 0
        self._forgotten_seq = 0

    def hears(self, event: Event) -> bool:
        """Say whether an event belongs to this session's shard and intents."""
        if event.intents and not event.intents & self.intents:
            return False
        return event.guild_id is None or shard_of(event.guild_id, self.shard_count) == self.shard_id

    def push(self, event: Event, *, keep: bool = True) -> None:
        """Give an event its number, remember it for a resume, and send it if the client is there."""
        self.seq += 1
        if keep:
            self._remember(event)
        if self.connection is not None:
            self.connection.send(self._frame(self.seq, event))

    def can_replay(self, seq: int) -> bool:
        """Say whether nothing after `seq` has been forgotten."""
        return seq >= self._forgotten_seq

    def replay(self, seq: int) -> Iterable[bytes]:
        """Return the frames after `seq`, in order."""
        return [self._frame(number, event) for number, event in self._sent if number > seq]

    def _remember(self, event: Event) -> None:
        self._sent.append((self.seq, event))
        self._sent_bytes += len(event.data)
        while len(self._sent) > self._options.replay_events or self._sent_bytes > self._options.replay_bytes:
            self._forgotten_seq, gone = self._sent.popleft()
            self._sent_bytes -= len(gone.data)

    def _frame(self, seq: int, event: Event) -> bytes:
        return b'%b%d,"d":%b}' % (event.head, seq, event.data_for(self.intents))


class GatewayCore:
    """All sessions, and the limits they share."""

    def __init__(self, source: GatewaySource, options: GatewayOptions | None = None) -> None:
        self.source = source
        self.options = options or GatewayOptions()
        self.sessions: dict[str, Session] = {}
        self.connections: set[GatewayConnection] = set()
        self.identifies = 0
        self.resumes = 0
        self.resumes_refused = 0
        self.on_ready: Callable[[Session], None] = lambda _session: None
        self._identified_at: dict[int, float] = {}
        self._starts = 0
        self._starts_since = float("-inf")

    def connect(self, now: float, *, version: str = str(API_VERSION)) -> GatewayConnection:
        """Take in a new connection and greet it."""
        connection = GatewayConnection(self, now)
        self.connections.add(connection)
        if version != str(API_VERSION):
            connection.end(CloseCode.INVALID_API_VERSION, "Invalid API version.")
        else:
            connection.send_op(Op.HELLO, {"heartbeat_interval": self.options.heartbeat_interval_ms})
        return connection

    def dispatch(self, event: Event) -> None:
        """Give an event to every session that should hear it, connected or to be resumed."""
        for session in self.sessions.values():
            if session.hears(event):
                session.push(event)

    def tick(self, now: float) -> None:
        """Close silent connections and forget sessions nobody came back for."""
        for connection in tuple(self.connections):
            connection.tick(now)
        for session in tuple(self.sessions.values()):
            if session.detached_at is not None and now - session.detached_at > self.options.resume_window_s:
                del self.sessions[session.session_id]

    def session_start_limit(self, now: float) -> dict[str, int]:
        """Return the `session_start_limit` of GET /gateway/bot."""
        window_s = self.options.session_start_window_s
        if now - self._starts_since > window_s:
            self._starts, self._starts_since = 0, now
        return {
            "total": self.options.session_starts,
            "remaining": max(0, self.options.session_starts - self._starts),
            "reset_after": max(0, int((self._starts_since + window_s - now) * 1000)),
            "max_concurrency": self.options.max_concurrency,
        }

    def may_start(self, shard_id: int, now: float) -> bool:
        """Say whether the concurrency bucket of a shard is free, and take it if so."""
        bucket = shard_id % self.options.max_concurrency
        if now - self._identified_at.get(bucket, float("-inf")) < self.options.identify_interval_s:
            return False
        self._identified_at[bucket] = now
        return True

    def take_start(self, now: float) -> bool:
        """Count a session start; False when the day's are used up."""
        if self.session_start_limit(now)["remaining"] == 0:
            return False
        self._starts += 1
        return True


class GatewayConnection:
    """One client's connection, from HELLO to its close."""

    def __init__(self, core: GatewayCore, now: float) -> None:
        self.outbox: deque[bytes] = deque()
        self.close: Close | None = None
        self.wake: Callable[[], None] = lambda: None
        self.session: Session | None = None
        self._core = core
        self._received: deque[float] = deque()
        self._heard_at = now
        self._reconnect_by: float | None = None
        self._handlers: dict[int, Callable[[Any, float], None]] = {
            Op.IDENTIFY: self._identify,
            Op.RESUME: self._resume,
            Op.REQUEST_GUILD_MEMBERS: self._request_members,
            Op.PRESENCE_UPDATE: self._accept,
            Op.VOICE_STATE_UPDATE: self._accept,
            Op.REQUEST_SOUNDBOARD_SOUNDS: self._accept,
        }

    # -- what the shell calls

    def receive(self, payload: str | bytes, now: float) -> None:
        """Take one message of the client."""
        if self.close is not None:
            return
        if self._too_many(now):
            self.end(CloseCode.RATE_LIMITED, "Rate limited.")
            return
        raw = payload.encode() if isinstance(payload, str) else payload
        message = self._decode(raw)
        if message is None:
            self.end(CloseCode.DECODE_ERROR, "Error while decoding payload.")
            return
        op, data = message["op"], message.get("d")
        if op == Op.HEARTBEAT:
            self._heard_at = now
            self.send(_HEARTBEAT_ACK)
        elif op not in self._handlers:
            self.end(CloseCode.UNKNOWN_OPCODE, "Unknown opcode.")
        elif self.session is None and op not in (Op.IDENTIFY, Op.RESUME):
            self.end(CloseCode.NOT_AUTHENTICATED, "Not authenticated.")
        else:
            self._handlers[op](data, now)

    def closed(self, code: int | None, now: float) -> None:
        """Say that the connection is gone; `code` is the client's close code, None for a lost connection."""
        self._core.connections.discard(self)
        session, self.session = self.session, None
        if session is None or session.connection is not self:
            return
        session.connection = None
        session.detached_at = now
        ended_by_us = self.close is not None and self.close.code in ENDS_SESSION
        ended_by_client = self.close is None and code in (CloseCode.NORMAL, CloseCode.GOING_AWAY)
        if ended_by_us or ended_by_client:
            self._core.sessions.pop(session.session_id, None)

    def tick(self, now: float) -> None:
        """Close the connection if the client fell silent or ignores a RECONNECT."""
        options = self._core.options
        allowed_s = options.heartbeat_interval_ms / 1000 * options.heartbeat_grace
        if now - self._heard_at > allowed_s:
            self.end(CloseCode.SESSION_TIMED_OUT, "Session timed out.")
        elif self._reconnect_by is not None and now > self._reconnect_by:
            self.end(CloseCode.UNKNOWN_ERROR, "Asked to reconnect, and did not.")

    def ask_to_reconnect(self, now: float) -> None:
        """Send RECONNECT; the client is expected to go and resume."""
        self._reconnect_by = now + _RECONNECT_GRACE_S
        self.send_op(Op.RECONNECT, None)

    def invalidate(self, *, resumable: bool = False) -> None:
        """Send INVALID_SESSION; unless resumable, the session is forgotten at once."""
        if not resumable:
            self._drop_session()
        self.send_op(Op.INVALID_SESSION, resumable)

    def end(self, code: int, reason: str = "", *, abort: bool = False) -> None:
        """Close from our side; `abort` cuts without a close frame."""
        if self.close is None:
            self.close = Close(code, reason, abort)
            self.wake()

    def send(self, frame: bytes) -> None:
        """Queue one frame for the client."""
        if self.close is None:
            self.outbox.append(frame)
            self.wake()

    def send_op(self, op: Op, data: object) -> None:
        """Queue a payload that is not a dispatch."""
        self.send(orjson.dumps({"t": None, "s": None, "op": int(op), "d": data}))

    # -- what the client may say

    def _identify(self, data: Any, now: float) -> None:
        if self.session is not None:
            self.end(CloseCode.ALREADY_AUTHENTICATED, "Already authenticated.")
            return
        if not isinstance(data, dict) or not isinstance(data.get("properties"), dict):
            self.end(CloseCode.DECODE_ERROR, "Error while decoding payload.")
            return
        refused = self._refusal(data)
        if refused is not None:
            self.end(refused.code, refused.reason)
            return
        shard_id, shard_count = data.get("shard", (0, 1))
        if not self._core.may_start(shard_id, now):
            self.invalidate()
            return
        if not self._core.take_start(now):
            self.end(CloseCode.AUTHENTICATION_FAILED, "Session start limit reached.")
            return
        self._core.identifies += 1
        session = Session(
            secrets.token_hex(16),
            shard=(shard_id, shard_count),
            intents=data["intents"],
            options=self._core.options,
        )
        self._core.sessions[session.session_id] = session
        self._attach(session)
        self._send_state(session, _threshold(data.get("large_threshold")))
        self._core.on_ready(session)

    def _refusal(self, data: dict[str, Any]) -> Close | None:
        options, source = self._core.options, self._core.source
        token, intents = data.get("token"), data.get("intents")
        if not isinstance(token, str) or not source.check_token(token):
            return Close(CloseCode.AUTHENTICATION_FAILED, "Authentication failed.")
        shard = data.get("shard", [0, 1])
        if not _is_shard(shard):
            return Close(CloseCode.INVALID_SHARD, "Invalid shard.")
        if not isinstance(intents, int) or intents < 0 or intents & ~ALL_INTENTS:
            return Close(CloseCode.INVALID_INTENTS, "Invalid intent(s).")
        if intents & PRIVILEGED_INTENTS & ~options.allowed_privileged_intents:
            return Close(CloseCode.DISALLOWED_INTENTS, "Disallowed intent(s).")
        if len(source.guild_ids(*shard)) > options.max_guilds_per_shard:
            return Close(CloseCode.SHARDING_REQUIRED, "Sharding required.")
        return None

    def _send_state(self, session: Session, large_threshold: int) -> None:
        source = self._core.source
        guild_ids = source.guild_ids(session.shard_id, session.shard_count)
        ready = source.ready() | {
            "v": API_VERSION,
            "session_id": session.session_id,
            "session_type": "normal",
            "shard": [session.shard_id, session.shard_count],
            "guilds": [{"id": str(guild_id), "unavailable": True} for guild_id in guild_ids],
        }
        session.push(Event("READY", orjson.dumps(ready)))
        if session.intents & Intents.GUILDS:
            for guild_id in guild_ids:
                data = source.guild_create(guild_id, session.intents, large_threshold)
                session.push(Event("GUILD_CREATE", data, guild_id=guild_id))

    def _resume(self, data: Any, _now: float) -> None:
        if self.session is not None:
            self.end(CloseCode.ALREADY_AUTHENTICATED, "Already authenticated.")
            return
        if not isinstance(data, dict) or not isinstance(data.get("seq"), int):
            self.end(CloseCode.DECODE_ERROR, "Error while decoding payload.")
            return
        if not isinstance(data.get("token"), str) or not self._core.source.check_token(data["token"]):
            self.end(CloseCode.AUTHENTICATION_FAILED, "Authentication failed.")
            return
        session, seq = self._core.sessions.get(str(data.get("session_id"))), data["seq"]
        if session is not None and not 0 <= seq <= session.seq:
            self._core.sessions.pop(session.session_id)
            self.end(CloseCode.INVALID_SEQ, "Invalid seq.")
            return
        if session is None or not session.can_replay(seq):
            if session is not None:
                self._core.sessions.pop(session.session_id)
            self._core.resumes_refused += 1
            self.invalidate()
            return
        self._core.resumes += 1
        self._attach(session)
        for frame in session.replay(seq):
            self.send(frame)
        session.push(Event("RESUMED", b'{"_trace":["discord-sim"]}'), keep=False)

    def _request_members(self, data: Any, _now: float) -> None:
        if not isinstance(data, dict) or self.session is None:
            self.end(CloseCode.DECODE_ERROR, "Error while decoding payload.")
            return
        for chunk in self._core.source.member_chunks(data, self.session.intents):
            self.session.push(Event("GUILD_MEMBERS_CHUNK", chunk))

    def _accept(self, _data: Any, _now: float) -> None:
        """Presence and voice states concern nobody here."""

    # -- pieces

    def _attach(self, session: Session) -> None:
        before, session.connection = session.connection, self
        session.detached_at = None
        self.session = session
        if before is not None and before is not self:
            before.session = None
            before.end(CloseCode.UNKNOWN_ERROR, "Resumed elsewhere.")

    def _drop_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.connection = None
            self._core.sessions.pop(session.session_id, None)

    def _too_many(self, now: float) -> bool:
        options, received = self._core.options, self._received
        while received and now - received[0] >= options.send_window_s:
            received.popleft()
        received.append(now)
        return len(received) > options.sends_per_window

    def _decode(self, raw: bytes) -> dict[str, Any] | None:
        if len(raw) > self._core.options.max_payload_bytes:
            return None
        try:
            message = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(message, dict) or not isinstance(message.get("op"), int):
            return None
        return message


def _is_shard(value: Any) -> bool:
    match value:
        case [int(shard_id), int(shard_count)]:
            return 0 <= shard_id < shard_count
        case _:
            return False


def _threshold(value: Any) -> int:
    if not isinstance(value, int):
        return _MIN_LARGE_THRESHOLD
    return min(_MAX_LARGE_THRESHOLD, max(_MIN_LARGE_THRESHOLD, value))
