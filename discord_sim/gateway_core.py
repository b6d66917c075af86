"""The gateway without sockets: all sessions and connections, and the limits they share.

The clock is an argument everywhere. A shell sets `connection.wake` and, whenever it is called, writes out
`connection.outbox` and then honours `connection.close`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .gateway_connection import GatewayConnection
from .gateway_session import GatewayOptions, Session
from .protocol import API_VERSION, CloseCode, Event, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


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


class GatewayCore:
    """All sessions, and the limits they share."""

    def __init__(self, source: GatewaySource, options: GatewayOptions | None = None) -> None:
        self.source = source
        self.options = options or GatewayOptions()
        self.sessions: dict[str, Session] = {}
        self.connections: set[GatewayConnection] = set()
        self.identifies = 0
        self.identifies_refused = 0
        self.closest_identifies_s = float("inf")
        """The shortest time between two IDENTIFYs of one bucket, whether they were let in or not."""
        self.resumes = 0
        self.resumes_refused = 0
        self.on_ready: Callable[[Session], None] = lambda _session: None
        self._identified_at: dict[int, float] = {}
        self._received_at: dict[int, float] = {}
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
        since = now - self._received_at.get(bucket, float("-inf"))
        self.closest_identifies_s = min(self.closest_identifies_s, since)
        self._received_at[bucket] = now
        if now - self._identified_at.get(bucket, float("-inf")) < self.options.identify_interval_s:
            self.identifies_refused += 1
            return False
        self._identified_at[bucket] = now
        return True

    def take_start(self, now: float) -> bool:
        """Count a session start; False when the day's are used up."""
        if self.session_start_limit(now)["remaining"] == 0:
            return False
        self._starts += 1
        return True
