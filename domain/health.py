"""How well a guild is: one number from 0 to 100, and what it is made of.

Four parts, each from 0 (could not be worse) to 100 (could not be better), weighted. A part is worth half when
its value has reached the part's half value, and goes to 0 as the value grows. All values grow with what is
bad and none is a share of violations, so one more violation, all else the same, never raises the score.
"""

from __future__ import annotations

import msgspec

from domain.views import SeverityCounts, View

ENOUGH_MESSAGES = 100
ENOUGH_VIOLATIONS = 5
"""With less of either, the score is as good as chance."""

GRAVITY = {"low": 0, "medium": 1, "high": 3, "critical": 10}
"""How much a violation weighs by its severity."""

PROMPT_MS = 2_000
"""An action that ends within this time is as good as at once."""


class Vitals(msgspec.Struct, frozen=True):
    """What a guild's health is judged by, over some time."""

    messages: int
    by_severity: SeverityCounts
    response_ms: int | None
    """The median time from a violation to the end of its action; None when no action has ended."""
    escalated: int
    """People who went from low or medium violations to high or critical ones."""


class HealthPart(View):
    """One part of the score. ``value`` is what was measured, null when there was nothing to measure."""

    name: str
    score: float
    weight: int
    """What the part counts, of 100."""
    value: float | None
    half: float
    """The value at which the part is worth half."""
    meaning: str


class Health(View):
    """The score, and why it is what it is: it is the sum of each part's score times its weight, by 100."""

    score: float
    limited_data: bool
    parts: list[HealthPart]


def judge(vitals: Vitals) -> Health:
    """Return how well a guild with these vitals is."""
    counts = vitals.by_severity
    gravity = sum(weight * getattr(counts, severity) for severity, weight in GRAVITY.items())
    late_ms = None if vitals.response_ms is None else max(0, vitals.response_ms - PROMPT_MS)
    parts = [
        _part(
            "violation_rate", 40, _per_thousand(counts.total, vitals), 25, "Violations per 1,000 messages."
        ),
        _part(
            "severity",
            30,
            _per_thousand(gravity, vitals),
            40,
            "How grave they are, per 1,000 messages: medium counts 1, high 3, critical 10, low nothing.",
        ),
        _part(
            "response_time",
            15,
            late_ms,
            5_000,
            "Milliseconds beyond two seconds until an action on a violation ended, for half of them.",
        ),
        _part(
            "escalation",
            15,
            _per_thousand(vitals.escalated, vitals),
            5,
            "People who went from low or medium violations to high or critical ones, a 1,000 messages.",
        ),
    ]
    score = sum(_share(part.value, part.half) * part.weight for part in parts)
    few = vitals.messages < ENOUGH_MESSAGES or counts.total < ENOUGH_VIOLATIONS
    return Health(score=round(score, 1), limited_data=few, parts=parts)


def _part(name: str, weight: int, value: float | None, half: float, meaning: str) -> HealthPart:
    return HealthPart(
        name=name,
        score=round(100 * _share(value, half), 1),
        weight=weight,
        value=value,
        half=half,
        meaning=meaning,
    )


def _share(value: float | None, half: float) -> float:
    return 1.0 if value is None else half / (half + value)


def _per_thousand(count: int, vitals: Vitals) -> float:
    return 1000 * count / max(1, vitals.messages)
