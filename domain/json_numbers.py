"""Whole numbers as JSON has them: it has one kind of number, so 2.0 is 2. ``"2"`` and ``true`` are not."""

from __future__ import annotations

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


MOST_WHOLE = 2**53 - 1
"""The highest whole number that all readers of JSON can tell from its neighbours."""

WHOLE = BeforeValidator(_whole)
"""For strict integers in bodies. It stands last, or the bounds before it are in no description."""
