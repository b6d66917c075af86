"""One guild, alive: its state, its stream, and who watches.

A plain object, not a Ray actor: a process each would cost 58 MB and 0.74 s, an object costs about two
kilobytes. Everything here is synchronous, so nothing can come between a step and the next.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal, NamedTuple

from domain.errors import TooManySockets
from domain.events import Event
from domain.guild import Decision, GuildState, apply_all
from domain.protocol import MAX_SOCKETS_PER_USER, event_json, events_frame

REMEMBERED_EVENTS = 1_000
MAX_REPLAY_BYTES = 512 << 10
"""Half of what may wait for a socket. Who missed more reads its state anew, which is less to send."""


class Watcher(NamedTuple):
    """One socket, in one relay."""

    relay_id: str
    socket_id: int


class Watch(NamedTuple):
    """A relay's socket wants to watch a guild, from a position (epoch, offset) on if it has one."""

    socket_id: int
    guild_id: int
    user_id: int
    position: tuple[int, int] | None


class Unwatch(NamedTuple):
    """A relay's socket watches a guild no longer."""

    socket_id: int
    guild_id: int


class Admission(NamedTuple):
    """Where a watcher stands: events follow from ``offset`` on. ``replay`` is a frame, or empty."""

    epoch: int
    offset: int
    recovered: bool
    replay: bytes


Answer = Admission | Literal["ask_alone", "too_many_sockets", "done"]
"""To one of many: ``ask_alone`` because it may take a while, or fail for a reason of its own."""


class GuildActor:
    """Owns one guild's live state from activation to deactivation.

    Killed, it loses what is not durable: the last events' replay and its watchers. Both come back, the
    first as ``recovered: false`` and a reload, the second when relays register again.
    """

    __slots__ = ("_stream", "_watchers", "epoch", "last_used_ms", "offset", "remembers_until_ms", "state")

    def __init__(self, state: GuildState, epoch: int, now_ms: int) -> None:
        self.state = state
        self.epoch = epoch
        self.offset = 0
        self.last_used_ms = now_ms
        self.remembers_until_ms = 0
        """Until when events are kept though nobody watches: who left a moment ago may come back."""
        # Made when first needed: most guilds are quiet, and an empty deque takes 0.6 kB.
        self._stream: deque[bytes] | None = None
        self._watchers: dict[Watcher, int] | None = None

    def decide(self, events: list[Event]) -> Decision:
        """Return what the guild would become; nothing changes yet."""
        return apply_all(self.state, events)

    def adopt(self, state: GuildState) -> None:
        """Become what was decided, now that it is durable."""
        self.state = state

    def publish(self, kind: str, ts_ms: int, data: dict[str, Any]) -> bytes:
        """Give an event the next offset, remember it, and return it ready for a frame."""
        self.offset += 1
        event = event_json(self.offset, kind, ts_ms, data)
        if self._stream is None:
            self._stream = deque(maxlen=REMEMBERED_EVENTS)
        self._stream.append(event)
        return event

    def pass_over(self) -> None:
        """Give an event the next offset and build nothing: nobody is there to be told, or to come back."""
        self.offset += 1
        self._stream = None  # from before this one nobody could resume without a hole

    def remembers(self, now_ms: int) -> bool:
        """Whether events are to be published: somebody watches, or did a moment ago."""
        return bool(self._watchers) or now_ms < self.remembers_until_ms

    def frame(self, events: list[bytes]) -> bytes:
        """Return the frame of events that were just published."""
        return events_frame(self.state.guild_id, self.epoch, events)

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self._watchers)

    @property
    def relays(self) -> set[str]:
        """The relays through which somebody watches."""
        return {watcher.relay_id for watcher in self._watchers or ()}

    def admit(self, watcher: Watcher, user_id: int, position: tuple[int, int] | None) -> Admission:
        """Let a socket watch, from its last position on where that can be done.

        Raises:
            TooManySockets: this person watches on as many sockets as are allowed, over all relays.

        """
        watchers = self._watchers or {}
        others = sum(1 for other, watching in watchers.items() if watching == user_id and other != watcher)
        if others >= MAX_SOCKETS_PER_USER:
            raise TooManySockets
        if self._watchers is None:
            self._watchers = {}
        self._watchers[watcher] = user_id
        missed = self._missed_since(position)
        replay = self.frame(missed) if missed else b""
        return Admission(self.epoch, self.offset, missed is not None, replay)

    def dismiss(self, watcher: Watcher) -> bool:
        """Forget a socket; return whether it was the last. One that was never admitted is no error."""
        if not self._watchers:
            return False
        self._watchers.pop(watcher, None)
        return not self._watchers

    def dismiss_relay(self, relay_id: str) -> bool:
        """Forget all sockets of a relay that is gone; return whether they were the last."""
        if not self._watchers:
            return False
        self._watchers = {w: user for w, user in self._watchers.items() if w.relay_id != relay_id}
        return not self._watchers

    def _missed_since(self, position: tuple[int, int] | None) -> list[bytes] | None:
        """Return the events after a position, or None when they are not all known any more, or too much."""
        if position is None:
            return []
        epoch, offset = position
        behind = self.offset - offset
        remembered = self._stream or ()
        if epoch != self.epoch or not 0 <= behind <= len(remembered):
            return None
        missed = list(remembered)[len(remembered) - behind :]
        return missed if sum(map(len, missed)) <= MAX_REPLAY_BYTES else None
