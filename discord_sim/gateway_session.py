"""A gateway session: what a client identified for, and a bounded memory of what it was sent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .protocol import PRIVILEGED_INTENTS, Event
from .snowflake import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable


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
    # A reader this far behind will not catch up; Discord cuts those, too.
    queued_frames: int = 50_000
    max_guilds_per_shard: int = 2_500
    allowed_privileged_intents: int = PRIVILEGED_INTENTS


class Receiver(Protocol):
    """Where a session's frames go while its client is connected."""

    def send(self, frame: bytes) -> None:
        """Queue one frame."""


class Session:
    """What a client identified for: its shard, its intents, and a bounded memory of what it was sent."""

    def __init__(
        self, session_id: str, *, shard: tuple[int, int], intents: int, options: GatewayOptions
    ) -> None:
        self.session_id = session_id
        self.shard_id, self.shard_count = shard
        self.intents = intents
        self.seq = 0
        self.connection: Receiver | None = None
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
