"""One guild, alive: its state, its stream, and who watches.

A plain object, not a Ray actor: a process each would cost 58 MB and 0.74 s, an object costs about two
kilobytes. Everything here is synchronous, so nothing can come between a step and the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

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


class _Audience:
    """Who watches a guild, and what is kept for those who come back."""

    __slots__ = ("events", "kept_until_ms", "sockets", "sockets_of")

    def __init__(self) -> None:
        self.sockets: dict[str, dict[int, int]] = {}
        """Of each relay the sockets, with their users."""
        self.sockets_of: dict[int, int] = {}
        """How many sockets a user has, over all relays."""
        self.events: deque[bytes] | None = None
        """Made with the first event: an empty deque takes 0.6 kB."""
        self.kept_until_ms = 0
        """Until when events are kept though nobody watches: who left a moment ago may come back."""

    def add(self, watcher: Watcher, user_id: int) -> None:
        self.remove(watcher)
        self.sockets.setdefault(watcher.relay_id, {})[watcher.socket_id] = user_id
        self.sockets_of[user_id] = self.sockets_of.get(user_id, 0) + 1

    def remove(self, watcher: Watcher) -> None:
        sockets = self.sockets.get(watcher.relay_id, {})
        user_id = sockets.pop(watcher.socket_id, None)
        if user_id is not None:
            self._forget(user_id)
            if not sockets:
                del self.sockets[watcher.relay_id]

    def remove_relay(self, relay_id: str) -> None:
        for user_id in self.sockets.pop(relay_id, {}).values():
            self._forget(user_id)

    def _forget(self, user_id: int) -> None:
        left = self.sockets_of[user_id] - 1
        if left:
            self.sockets_of[user_id] = left
        else:
            del self.sockets_of[user_id]


class GuildActor(msgspec.Struct, eq=False, gc=False):
    """Owns one guild's live state from activation to deactivation.

    Killed, it loses what is not durable: the last events' replay and its watchers. Both come back, the
    first as ``recovered: false`` and a reload, the second when relays register again.

    A struct out of the garbage collector's sight: a million of them are not walked over and over. What it
    refers to never refers back to it.
    """

    state: GuildState
    epoch: int
    last_used_ms: int
    offset: int = 0
    _audience: _Audience | None = None
    """Made when first needed: most guilds are watched by nobody."""

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
        audience = self._with_audience()
        if audience.events is None:
            audience.events = deque(maxlen=REMEMBERED_EVENTS)
        audience.events.append(event)
        return event

    def pass_over(self) -> None:
        """Give an event the next offset and build nothing: nobody is there to be told, or to come back."""
        self.offset += 1
        if self._audience is not None:
            self._audience.events = None  # from before this one nobody could resume without a hole
            if not self._audience.sockets:
                self._audience = None

    def remembers(self, now_ms: int) -> bool:
        """Whether events are to be published: somebody watches, or did a moment ago."""
        audience = self._audience
        return audience is not None and (bool(audience.sockets) or now_ms < audience.kept_until_ms)

    def keep_until(self, until_ms: int) -> None:
        """Keep for a while what the last watcher that left will have missed, if it comes back."""
        self._with_audience().kept_until_ms = until_ms

    def frame(self, events: list[bytes]) -> bytes:
        """Return the frame of events that were just published."""
        return events_frame(self.state.guild_id, self.epoch, events)

    @property
    def watched(self) -> bool:
        """Whether anybody watches."""
        return self._audience is not None and bool(self._audience.sockets)

    @property
    def relays(self) -> Collection[str]:
        """The relays through which somebody watches."""
        return self._audience.sockets.keys() if self._audience is not None else ()

    def relays_of(self, user_id: int) -> set[str]:
        """Return the relays through which a person watches."""
        by_relay = self._audience.sockets if self._audience is not None else {}
        return {relay_id for relay_id, sockets in by_relay.items() if user_id in sockets.values()}

    @property
    def sockets_of(self) -> Mapping[int, int]:
        """How many sockets watch, by the user they are of."""
        return self._audience.sockets_of if self._audience is not None else {}

    def admit(self, watcher: Watcher, user_id: int, position: tuple[int, int] | None) -> Admission:
        """Let a socket watch, from its last position on where that can be done.

        Raises:
            TooManySockets: this person watches on as many sockets as are allowed, over all relays.

        """
        audience = self._with_audience()
        again = audience.sockets.get(watcher.relay_id, {}).get(watcher.socket_id) == user_id
        if audience.sockets_of.get(user_id, 0) - again >= MAX_SOCKETS_PER_USER:
            raise TooManySockets
        audience.add(watcher, user_id)
        missed = self._missed_since(position)
        replay = self.frame(missed) if missed else b""
        return Admission(self.epoch, self.offset, missed is not None, replay)

    def dismiss(self, watcher: Watcher) -> bool:
        """Forget a socket; return whether it was the last. One that was never admitted is no error."""
        if not self.watched:
            return False
        self._with_audience().remove(watcher)
        return not self.watched

    def dismiss_relay(self, relay_id: str) -> bool:
        """Forget all sockets of a relay that is gone; return whether they were the last."""
        if not self.watched:
            return False
        self._with_audience().remove_relay(relay_id)
        return not self.watched

    def _with_audience(self) -> _Audience:
        if self._audience is None:
            self._audience = _Audience()
        return self._audience

    def _missed_since(self, position: tuple[int, int] | None) -> list[bytes] | None:
        """Return the events after a position, or None when they are not all known any more, or too much."""
        if position is None:
            return []
        epoch, offset = position
        behind = self.offset - offset
        remembered = (self._audience.events if self._audience is not None else None) or ()
        if epoch != self.epoch or not 0 <= behind <= len(remembered):
            return None
        missed = list(remembered)[len(remembered) - behind :]
        return missed if sum(map(len, missed)) <= MAX_REPLAY_BYTES else None
