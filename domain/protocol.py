"""The WebSocket protocol between browsers and relays, sans I/O: text in, messages out, and back.

Ids are strings (JavaScript numbers end at 2^53), times are Unix milliseconds. What a server says is
built here as bytes once and written to every socket as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Any, Literal

import msgspec

from domain.errors import MalformedMessage
from domain.ids import parse_snowflake
from domain.plain_json import JsonRefused, parse_plain_json

MAX_MESSAGE_BYTES = 4096
"""The longest thing a client has to say is a subscribe; this is thirty times that."""

MAX_SUBSCRIPTIONS = 50
"""Guilds that one socket may watch at once."""

MAX_SOCKETS_PER_USER = 5
"""Sockets of one person on one guild, over all relays."""


class CloseCode(IntEnum):
    """Why a socket is closed. 4001, 4003, 4009 and 4010 say: do not come back unchanged; the others: do."""

    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    """This person, or this address, opened too many connections, or too many in too short a time."""
    SESSION_ENDED = 4001
    NOT_ALLOWED = 4003
    TOO_SLOW = 4008
    TOO_MANY_SOCKETS = 4009
    BAD_MESSAGE = 4010
    NOTHING_WATCHED = 4011
    """For a while the socket has watched no guild."""
    TOO_MANY_MESSAGES = 4029
    """As HTTP's 429."""


ErrorCode = Literal["not_allowed", "superseded", "too_many_requests", "too_many_subscriptions", "unavailable"]


class Subscribe(msgspec.Struct, frozen=True):
    """A client wants a guild's events, from ``position`` (epoch, offset) on if it has one."""

    guild_id: int
    position: tuple[int, int] | None = None


class Unsubscribe(msgspec.Struct, frozen=True):
    """A client has seen enough of a guild."""

    guild_id: int


ClientMessage = Subscribe | Unsubscribe


class _SubscribeWire(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    guild_id: str
    epoch: int | None = None
    offset: int | None = None


class _UnsubscribeWire(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    guild_id: str


_encode = msgspec.json.Encoder().encode


def parse_client_message(text: str | bytes) -> ClientMessage:
    """Return what a client said; raise :class:`MalformedMessage` with a sentence when it makes no sense."""
    if len(text) > MAX_MESSAGE_BYTES:
        raise MalformedMessage(f"A message may have {MAX_MESSAGE_BYTES} bytes at most.")
    try:
        wire = msgspec.convert(parse_plain_json(text), _SubscribeWire | _UnsubscribeWire)
    except (msgspec.ValidationError, JsonRefused) as error:
        raise MalformedMessage(f"The message is not understood: {error}") from error
    guild_id = parse_snowflake(wire.guild_id)
    if guild_id is None:
        raise MalformedMessage("guild_id must be a Discord id written as a string of digits.")
    if isinstance(wire, _UnsubscribeWire):
        return Unsubscribe(guild_id)
    if wire.epoch is None or wire.offset is None:
        if wire.epoch is not wire.offset:
            raise MalformedMessage("epoch and offset go together: send both or neither.")
        return Subscribe(guild_id)
    if wire.epoch < 0 or wire.offset < 0:
        raise MalformedMessage("epoch and offset cannot be negative.")
    return Subscribe(guild_id, (wire.epoch, wire.offset))


def event_json(offset: int, kind: str, ts_ms: int, data: dict[str, Any]) -> bytes:
    """Return one event of a guild's stream, ready to stand in an ``events`` frame."""
    return _encode({"offset": offset, "type": kind, "ts": ts_ms, "data": data})


def events_frame(guild_id: int, epoch: int, events: Iterable[bytes]) -> bytes:
    """Return the frame that carries these events (each made by :func:`event_json`), in order."""
    head = b'{"op":"events","guild_id":"%d","epoch":%d,"events":[' % (guild_id, epoch)
    return head + b",".join(events) + b"]}"


def subscribed(guild_id: int, epoch: int, offset: int, *, recovered: bool) -> bytes:
    """Return the answer to a subscribe: the position from which events follow without a gap."""
    return _encode(
        {
            "op": "subscribed",
            "guild_id": str(guild_id),
            "epoch": epoch,
            "offset": offset,
            "recovered": recovered,
        }
    )


def unsubscribed(guild_id: int) -> bytes:
    """Return the answer to an unsubscribe."""
    return _encode({"op": "unsubscribed", "guild_id": str(guild_id)})


def error(code: ErrorCode, message: str, guild_id: int | None = None) -> bytes:
    """Return a refusal that leaves the socket open."""
    body = {"op": "error", "code": code, "message": message}
    if guild_id is not None:
        body["guild_id"] = str(guild_id)
    return _encode(body)
