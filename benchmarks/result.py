"""What every benchmark returns: its figures, what they were compared with, and the ratio of the two."""

from __future__ import annotations

from typing import Any

import msgspec


class Result(msgspec.Struct, frozen=True):
    """Figures with their units in their names. Without a peer to compare with, the ratio is null."""

    name: str
    figures: dict[str, Any]
    baseline: dict[str, Any] = {}
    ratio: float | None = None


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share (0…1) of the values lies; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def part(*, bound: str, met: bool, **figures: Any) -> dict[str, Any]:
    """Return the figures of one part of a benchmark, with what it must keep and whether it does."""
    return {"bound": bound, "met": met, **figures}
