"""The event that is sent around: 250 bytes, numbered, the same for whoever is measured."""

from __future__ import annotations

from functools import cache
from typing import Any

from domain.protocol import event_json

SIZE = 250
KIND = "notification"

MARKER = b'"seq":"'
"""Stands once in every event, right before its number."""
DIGITS = 9

_TYPICAL_OFFSET = 100_000
_TYPICAL_TIME_MS = 1_790_000_000_000


def event_data(number: int, size: int = SIZE) -> dict[str, Any]:
    """Return the data of an event that has so many bytes as JSON, give or take its offset's digits."""
    return {"seq": f"{number:0{DIGITS}}", "pad": _padding(size)}


def event(number: int, ts_ms: int, size: int = SIZE) -> bytes:
    """Return the event as a peer sends it: a message by itself."""
    return event_json(_TYPICAL_OFFSET, KIND, ts_ms, event_data(number, size))


@cache
def _padding(size: int) -> str:
    bare = event_json(_TYPICAL_OFFSET, KIND, _TYPICAL_TIME_MS, {"seq": "0" * DIGITS, "pad": ""})
    return "x" * max(0, size - len(bare))
