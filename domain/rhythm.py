"""When violations happen: by weekday and hour of a time zone, and which hours stand out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import NamedTuple
from zoneinfo import ZoneInfo

from domain.guild import HourCounts
from domain.ids import HOUR_MS, hour_start
from domain.insights import QUARTER_MS, Span
from domain.views import View

PEAKS = 3
QUIET_SHARE = 0.25
"""An hour of the day is quiet with at most this share of what an hour has on average."""

USUAL_HOURS = 30 * 24
"""What is normal for a guild is what it had in so many hours."""
ENOUGH_HOURS = 24
"""A guild that is known for less has no normal yet."""
MAX_EVENTS = 10
ENOUGH_VIOLATIONS = 5
STANDS_OUT = 3.5
"""Deviations from the normal, the threshold that Iglewicz and Hoaglin gave for the modified z-score."""

_MAD_TO_DEVIATION = 1.4826
"""Makes the median absolute deviation of normally distributed values their standard deviation."""


class Peak(View):
    """An hour of the week with many violations. Weekdays count from Monday, which is 0."""

    weekday: int
    hour: int
    violations: int
    per_hour: float
    """The mean over the times that this hour of the week came by."""


class MajorEvent(View):
    """An hour that stands out against what is usual for the guild."""

    ts: int
    """Its start."""
    violations: int
    usual: float
    deviation: float
    """How far from the usual, in robust standard deviations."""


class Rhythm(NamedTuple):
    """Violations by local time."""

    heatmap: list[list[int]]
    """By weekday (Monday first) and hour of the day."""
    peaks: list[Peak]
    quiet_hours: list[int]
    """Hours of the day; empty where a period does not hold every hour, or nothing happened."""


def rhythm(quarters: Mapping[int, int], span: Span, zone: ZoneInfo) -> Rhythm:
    """Return the rhythm of violations that are counted by quarters of an hour, in local time.

    Each quarter is converted by itself. So when clocks are set back the hour that comes twice has what
    happened in both, and when they are set forward the hour that is left out has nothing.
    """
    heatmap = [[0] * 24 for _ in range(7)]
    covered: Counter[tuple[int, int]] = Counter()
    for start_ms in range(span.since_ms, span.until_ms, QUARTER_MS):
        local = datetime.fromtimestamp(start_ms / 1000, zone)
        cell = (local.weekday(), local.hour)
        covered[cell] += 1
        heatmap[cell[0]][cell[1]] += quarters.get(start_ms, 0)
    return Rhythm(heatmap, _peaks(heatmap, covered), _quiet_hours(heatmap, covered))


def major_events(hours: Sequence[HourCounts], span: Span, now_ms: int) -> list[MajorEvent]:
    """Return the hours within the span that stand out, the farthest from normal first.

    Normal is the median of the guild's violations an hour, over the hours from the first in which the guild
    did anything (of the last 30 days) to the last that is over; hours without any count as zeros. How far an
    hour may stray is told by the median absolute deviation from that median (MAD). Unlike mean and standard
    deviation, both hardly move for the very raids that are to be found. A count of n strays by √n without any
    cause, so the deviation is taken to be no less than that, and no less than 1.

    ``hours`` are those of the last 30 days in which something happened, oldest first.
    """
    running = hour_start(now_ms)
    counted = {hour.hour_ms: hour.violations for hour in hours if hour.hour_ms <= running}
    if not counted:
        return []
    usual = [counted.get(hour_ms, 0) for hour_ms in range(min(counted), running, HOUR_MS)]
    if len(usual) < ENOUGH_HOURS:
        return []
    middle = median(usual)
    mad = median(abs(count - middle) for count in usual)
    deviation = max(_MAD_TO_DEVIATION * mad, middle**0.5, 1.0)
    events = [
        MajorEvent(
            ts=hour_ms, violations=count, usual=middle, deviation=round((count - middle) / deviation, 1)
        )
        for hour_ms, count in counted.items()
        if hour_ms >= span.since_ms
        and count >= ENOUGH_VIOLATIONS
        and (count - middle) / deviation >= STANDS_OUT
    ]
    return sorted(events, key=lambda event: (-event.deviation, -event.ts))[:MAX_EVENTS]


def _peaks(heatmap: list[list[int]], covered: Mapping[tuple[int, int], int]) -> list[Peak]:
    quarters_an_hour = HOUR_MS // QUARTER_MS
    peaks = [
        Peak(
            weekday=weekday,
            hour=hour,
            violations=count,
            per_hour=round(count * quarters_an_hour / covered[weekday, hour], 1),
        )
        for weekday, row in enumerate(heatmap)
        for hour, count in enumerate(row)
        if count
    ]
    return sorted(peaks, key=lambda peak: (-peak.per_hour, -peak.violations, peak.weekday, peak.hour))[:PEAKS]


def _quiet_hours(heatmap: list[list[int]], covered: Mapping[tuple[int, int], int]) -> list[int]:
    counts = [sum(row[hour] for row in heatmap) for hour in range(24)]
    quarters = [sum(covered[weekday, hour] for weekday in range(7)) for hour in range(24)]
    if not any(counts) or not all(quarters):
        return []
    average = sum(counts) / sum(quarters)
    return [hour for hour in range(24) if counts[hour] / quarters[hour] <= QUIET_SHARE * average]
