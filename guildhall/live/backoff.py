"""How long to wait before the next try. Chance comes in from outside (0…1), so tests need none."""

from __future__ import annotations

from guildhall.live.limits import Limits

_MOST_DOUBLINGS = 16
"""Keeps the power small; every limit is reached long before."""


def backoff_s(attempt: int, random: float, limits: Limits) -> float:
    """Double from the first wait to the longest; the upper half is drawn, lest a crowd stay in step."""
    full = min(limits.backoff_most_s, limits.backoff_first_s * 2.0 ** min(attempt, _MOST_DOUBLINGS))
    return full * (0.5 + random / 2)


def restart_delay_s(random: float, limits: Limits) -> float:
    """Return a short wait: the server said that it is about to be back."""
    return limits.restart_least_s + random * (limits.restart_most_s - limits.restart_least_s)
