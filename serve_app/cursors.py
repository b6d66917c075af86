"""Where a list goes on: a row's place in it and which way, as a text that means nothing to anybody else."""

from __future__ import annotations

import base64
import struct
from typing import Annotated
from uuid import UUID

from pydantic import Field

from domain.ids import MAX_SNOWFLAKE
from domain.insights import Beyond
from domain.views import ViolationView

_LENGTH = 44
_LAYOUT = struct.Struct(">BQQ16s")
_MAX_MS = 253_402_300_799_998
"""A millisecond before the last one of the year 9999."""

Cursor = Annotated[str, Field(min_length=_LENGTH, max_length=_LENGTH, pattern=r"^[A-Za-z0-9_-]+$")]
"""``next`` or ``prev`` of a page of violations. Whatever else has this form is a place as well."""


def cursor_of(violation: ViolationView, *, newer: bool) -> str:
    """Return the place of a violation in its server's list, from which it goes on one way or the other."""
    return cursor_at(Beyond(violation.ts, int(violation.message_id), violation.id, newer))


def cursor_at(place: Beyond) -> str:
    """Return a place as a text."""
    packed = _LAYOUT.pack(place.newer, max(0, place.ts_ms), place.message_id, place.event_id.bytes)
    return base64.urlsafe_b64encode(packed).decode()


def beyond(cursor: str) -> Beyond:
    """Return the place that a cursor names."""
    way, ts_ms, message_id, event_id = _LAYOUT.unpack(base64.urlsafe_b64decode(cursor))
    return Beyond(min(ts_ms, _MAX_MS), min(message_id, MAX_SNOWFLAKE), UUID(bytes=event_id), bool(way))
