"""The frames on ``/ws`` as a client sees them: text in, typed frames out; anything unreadable is None.

Ids are strings and times Unix milliseconds, as :mod:`domain.protocol` writes them. Fields that a later
release adds are passed over; so are its types of events, except for their place in the order.
"""

from __future__ import annotations

from typing import Any

import msgspec


class User(msgspec.Struct, frozen=True):
    """A person; names are None where nobody told them."""

    id: str
    username: str | None = None
    display_name: str | None = None
    avatar_url: str | None = None


class Review(msgspec.Struct, frozen=True):
    """What a moderator said of a violation."""

    verdict: str
    by: str
    """The moderator's id."""
    at_ms: int = msgspec.field(name="at")
    note: str | None = None
    version: int = 1
    """Counts the reviews that the violation had, this one included."""


class Violation(msgspec.Struct, frozen=True):
    """One violation, the same over HTTP and over the stream."""

    id: str
    guild_id: str
    channel_id: str
    channel_name: str | None
    message_id: str
    user: User
    detection: str
    rule: str
    severity: str
    """``low``, ``medium``, ``high`` or ``critical``."""
    action: str
    action_status: str
    """``none``; ``pending``, and then ``done`` or ``failed``."""
    excerpt: str
    ts_ms: int = msgspec.field(name="ts")
    """When the message was written, by Discord's clock."""
    committed_at_ms: int = msgspec.field(name="committed_at")
    """When it was made durable."""
    review: Review | None = None


class SeverityCounts(msgspec.Struct, frozen=True):
    """Violations by severity."""

    low: int
    medium: int
    high: int
    critical: int


class Hour(msgspec.Struct, frozen=True):
    """One hour's counters."""

    ts_ms: int = msgspec.field(name="ts")
    messages: int
    violations: int


class MetricsUpdate(msgspec.Struct, frozen=True):
    """The counters of a guild's last 24 hours, and of its running hour."""

    since_ms: int = msgspec.field(name="since")
    until_ms: int = msgspec.field(name="until")
    messages: int
    violations: int
    by_severity: SeverityCounts
    joins: int
    leaves: int
    member_count: int | None
    bot_online: bool
    hour: Hour


class BotStatus(msgspec.Struct, frozen=True):
    """Whether the bot sees the guild."""

    online: bool


class HealthUpdate(msgspec.Struct, frozen=True):
    """Whether what happens can be made durable now; what cannot waits at the bot, and comes later."""

    store_available: bool


class Other(msgspec.Struct, frozen=True):
    """The data of an event whose type has no record here, as it stands in JSON."""

    data: Any


Data = Violation | MetricsUpdate | BotStatus | HealthUpdate | Other


class Event(msgspec.Struct, frozen=True):
    """One event of a guild's stream."""

    offset: int
    """Its number in the epoch; numbers have no gaps."""
    ts_ms: int
    type: str
    data: Data


class Subscribed(msgspec.Struct, frozen=True, tag_field="op", tag="subscribed"):
    """The place in the stream from which events follow."""

    guild_id: str
    epoch: int
    offset: int
    recovered: bool = False


class Events(msgspec.Struct, frozen=True):
    """Events of one epoch, in order."""

    guild_id: str
    epoch: int
    events: tuple[Event, ...]


class Refusal(msgspec.Struct, frozen=True, tag_field="op", tag="error"):
    """The server does not do what it was asked for."""

    code: str
    message: str = ""
    guild_id: str | None = None


ServerFrame = Subscribed | Events | Refusal


class Subscribe(msgspec.Struct, frozen=True, tag_field="op", tag="subscribe", omit_defaults=True):
    """Ask for a guild's events; with epoch and offset, for those after it."""

    guild_id: str
    epoch: int | None = None
    offset: int | None = None


class _EventsWire(msgspec.Struct, frozen=True, tag_field="op", tag="events"):
    guild_id: str
    epoch: int
    events: list[msgspec.Raw]


class _EventWire(msgspec.Struct, frozen=True):
    offset: int
    type: str
    ts: int = 0
    data: msgspec.Raw = msgspec.Raw(b"null")


_frames: msgspec.json.Decoder[Subscribed | _EventsWire | Refusal] = msgspec.json.Decoder(
    Subscribed | _EventsWire | Refusal
)
_events = msgspec.json.Decoder(_EventWire)
_data: dict[str, msgspec.json.Decoder[Any]] = {
    "violation": msgspec.json.Decoder(Violation),
    "metrics_update": msgspec.json.Decoder(MetricsUpdate),
    "bot_status": msgspec.json.Decoder(BotStatus),
    "health_update": msgspec.json.Decoder(HealthUpdate),
}
_anything = msgspec.json.Decoder()
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)

encode = msgspec.json.Encoder().encode


def parse_frame(text: str | bytes) -> ServerFrame | None:
    """Return what a server said, or None where that is nothing known here.

    An event that cannot be read is left out: the hole that it leaves in the offsets makes the client read
    the state anew.
    """
    try:
        frame = _frames.decode(text)
    except _UNREADABLE:
        return None
    if not isinstance(frame, _EventsWire):
        return frame
    events = tuple(event for event in map(_event, frame.events) if event is not None)
    return Events(frame.guild_id, frame.epoch, events)


def _event(raw: msgspec.Raw) -> Event | None:
    try:
        wire = _events.decode(raw)
        return Event(wire.offset, wire.ts, wire.type, _data_of(wire))
    except _UNREADABLE:
        return None


def _data_of(wire: _EventWire) -> Data:
    try:
        data: Data = _data[wire.type].decode(wire.data)
    except KeyError:
        return Other(_anything.decode(wire.data))
    except msgspec.ValidationError:
        if wire.type != "health_update":
            raise
        # It may be about something else than the store; what is not known here is passed over.
        return Other(_anything.decode(wire.data))
    return data
