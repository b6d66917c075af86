"""One client's connection to the gateway without its socket: payloads in, payloads and a close code out."""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from .gateway_session import Session
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gateway_core import GatewayCore

_MIN_LARGE_THRESHOLD, _MAX_LARGE_THRESHOLD = 50, 250
_RECONNECT_GRACE_S = 10.0
_HEARTBEAT_ACK = b'{"t":null,"s":null,"op":11,"d":null}'


class Close(NamedTuple):
    """A close frame to send; `abort` cuts the connection without one."""

    code: int
    reason: str = ""
    abort: bool = False


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
        """Queue one frame for the client; one that reads too slowly is cut."""
        if self.close is not None:
            return
        if len(self.outbox) >= self._core.options.queued_frames:
            self.end(CloseCode.UNKNOWN_ERROR, abort=True)
            return
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
        if isinstance(before, GatewayConnection) and before is not self:
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
