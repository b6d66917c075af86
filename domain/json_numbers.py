"""Whole numbers as JSON has them: it has one kind of number, so 2.0 is 2. ``"2"`` and ``true`` are not."""

from __future__ import annotations

from pydantic import BeforeValidator


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For strict integers in bodies. It stands last, or the bounds before it are in no description."""
