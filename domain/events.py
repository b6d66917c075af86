"""What shards report to hosts: typed events, in batches of bytes encoded once.

Times are Unix milliseconds and Discord's own wherever Discord gives one, so that a resent event
lands on the row it already has.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

import msgspec

from domain.errors import MalformedBatch
from domain.ids import MAX_SNOWFLAKE

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")

Detection = Literal["invite_link", "phishing_link", "banned_word", "mention_flood", "repeated_message"]
Action = Literal["none", "delete"]
ActionStatus = Literal["none", "pending", "done", "failed"]


Snowflake = Annotated[int, msgspec.Meta(gt=0, le=MAX_SNOWFLAKE)]
"""A Discord id; checked where bytes come in."""


class UserRef(msgspec.Struct, frozen=True, array_like=True):
    """Who a Discord user was when an event happened."""

    user_id: Snowflake
    username: str
    display_name: str
    avatar_url: str | None = None


class _Event(msgspec.Struct, frozen=True, array_like=True, tag=True):
    guild_id: Snowflake


class GuildDescribed(_Event, frozen=True):
    """Discord told us what a guild is: on connect, on join, and when it changes."""

    name: str
    owner_id: int
    icon_url: str | None
    member_count: int


class GuildLeft(_Event, frozen=True):
    """The bot was removed from a guild."""


class BotPresenceChanged(_Event, frozen=True):
    """The shard that serves a guild came, or was away long enough to call it away."""

    online: bool
    ts_ms: int


class MessagesCounted(_Event, frozen=True):
    """So many messages were seen in one UTC hour. Has no id: the batch's number keeps it single."""

    hour_ms: int
    count: int


class MemberJoined(_Event, frozen=True):
    """A person joined a guild. Counted, like messages."""

    user: UserRef
    ts_ms: int


class MemberLeft(_Event, frozen=True):
    """A person left a guild, of themselves or not."""

    user_id: Snowflake
    ts_ms: int


class ViolationDetected(_Event, frozen=True):
    """A message broke a rule. ``event_id`` is deterministic (:func:`domain.ids.violation_id`)."""

    event_id: UUID
    channel_id: Snowflake
    channel_name: str | None
    message_id: Snowflake
    user: UserRef
    detection: Detection
    rule: str
    severity: Severity
    action: Action
    action_status: ActionStatus
    excerpt: str
    content_hash: bytes
    ts_ms: int


class ActionSettled(_Event, frozen=True):
    """Discord answered to the action that a violation had called for."""

    event_id: UUID
    ts_ms: int
    """The violation's time, which together with ``event_id`` names its row."""
    status: ActionStatus
    settled_ms: int | None = None
    """When it was known how the action ended; None when the reporter does not say."""


Event = (
    GuildDescribed
    | GuildLeft
    | BotPresenceChanged
    | MessagesCounted
    | MemberJoined
    | MemberLeft
    | ViolationDetected
    | ActionSettled
)


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """A time in which a shard had to give up events ("overflow"), or heard nothing ("blind").

    Or of which a runner lost what it had heard, with the disk of the node that it was on ("spool_lost").
    """

    since_ms: int
    until_ms: int
    lost_events: int
    reason: str = "overflow"


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one source sends to one host in one call.

    ``source`` names a stream (one shard runner's life, one host); ``number`` counts 1, 2, 3 … in it.
    A host that already took ``number`` of ``source`` acknowledges without applying again.
    """

    source: str
    number: int
    events: tuple[Event, ...]
    gaps: tuple[Gap, ...] = ()


class Sender(msgspec.Struct, frozen=True):
    """The life of a shard runner that sends a batch, whichever life made it: a later one counts higher."""

    runner_id: str
    incarnation: int


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The batch is durable. ``credit`` is how many more events the host can take now."""

    number: int
    credit: int


class NotMine(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The batch names a guild of another host; nothing of it was taken. Refresh the placement."""

    placement_version: int


class Busy(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The host has no room, or its database is away; nothing was taken. Send the same batch again."""

    retry_after_ms: int


class Replaced(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A later life of the sender has begun; nothing was taken, and nothing of this one ever will be."""


Reply = Accepted | NotMine | Busy | Replaced

# msgspec's own error does not cover a text that is no UTF-8, nor what is nested too deep.
_NO_BATCH = (msgspec.MsgspecError, UnicodeError, RecursionError)


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """A batch whose events are not looked at yet."""

    source: str
    number: int
    events: tuple[msgspec.Raw, ...]
    gaps: tuple[Gap, ...] = ()


_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_frame_decoder = msgspec.msgpack.Decoder(_Frame)
_batch_decoder = msgspec.msgpack.Decoder(Batch)
_reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def encode_batch(batch: Batch) -> bytes:
    """Return the batch as bytes for the wire."""
    return _encoder.encode(batch)


def decode_batch(payload: bytes) -> Batch:
    """Return the batch in ``payload``; raise :class:`MalformedBatch` when it is none."""
    try:
        return _batch_decoder.decode(payload)
    except _NO_BATCH as error:
        raise MalformedBatch(_why(error)) from error


class UnreadableEvent(NamedTuple):
    """An event of a batch that could not be decoded, as it came, and why not."""

    payload: bytes
    reason: str


def decode_batch_piecewise(payload: bytes) -> tuple[Batch, list[UnreadableEvent]]:
    """Return what can be read of a batch, and what cannot.

    Slower than :func:`decode_batch`, and for when that failed. Raises :class:`MalformedBatch` when not
    even the frame of the batch can be read.
    """
    try:
        frame = _frame_decoder.decode(payload)
    except _NO_BATCH as error:
        raise MalformedBatch(_why(error)) from error
    events: list[Event] = []
    unreadable: list[UnreadableEvent] = []
    for raw in frame.events:
        try:
            events.append(decode_event(bytes(raw)))
        except MalformedBatch as error:
            unreadable.append(UnreadableEvent(bytes(raw), str(error)))
    return Batch(frame.source, frame.number, tuple(events), frame.gaps), unreadable


_QUOTED = re.compile("'.*'", re.DOTALL)


def _why(error: Exception) -> str:
    """Return what is wrong without the value that is: it may be what somebody wrote."""
    return _QUOTED.sub("(not shown)", str(error))


def encode_event(event: Event) -> bytes:
    """Return one event as bytes, as it stands in a batch."""
    return _encoder.encode(event)


def decode_event(payload: bytes) -> Event:
    """Return the event in ``payload``; raise :class:`MalformedBatch` when it is none."""
    try:
        return _event_decoder.decode(payload)
    except _NO_BATCH as error:
        raise MalformedBatch(_why(error)) from error


def without_counts(batch: Batch) -> Batch:
    """Return what of a batch may come late and beside another's account of the same time.

    That is what has an id of its own, and gaps. What is only counted would count twice, and what describes
    a guild would be older than what is known by now.
    """
    events = tuple(e for e in batch.events if isinstance(e, ViolationDetected | ActionSettled))
    return Batch(batch.source, batch.number, events, batch.gaps)


def encode_reply(reply: Reply) -> bytes:
    """Return a host's answer as bytes for the wire."""
    return _encoder.encode(reply)


def decode_reply(payload: bytes) -> Reply:
    """Return the host's answer in ``payload``; raise :class:`MalformedBatch` when it is none."""
    try:
        return _reply_decoder.decode(payload)
    except _NO_BATCH as error:
        raise MalformedBatch(_why(error)) from error
