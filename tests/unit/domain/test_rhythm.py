from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.guild import HourCounts
from domain.ids import HOUR_MS
from domain.insights import QUARTER_MS, Span, span_of
from domain.rhythm import MAX_EVENTS, USUAL_HOURS, major_events, rhythm

BERLIN = ZoneInfo("Europe/Berlin")
UTC = ZoneInfo("UTC")
NOW_MS = 1_790_000_000_000 - 1_790_000_000_000 % HOUR_MS
"""A full hour: 2026-09-21, a Monday, 13:00 UTC."""


def ms(text: str, zone: ZoneInfo = UTC) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def cells(heatmap: list[list[int]]) -> dict[tuple[int, int], int]:
    return {(day, hour): n for day, row in enumerate(heatmap) for hour, n in enumerate(row) if n}


def hours(*counts: int, until_ms: int = NOW_MS) -> list[HourCounts]:
    """Return hours with so many violations each; the last one is the running hour."""
    first = until_ms - (len(counts) - 1) * HOUR_MS
    return [HourCounts(first + n * HOUR_MS, messages=1, low=count) for n, count in enumerate(counts)]


# -- by local time --------------------------------------------------------------------------------


def test_monday_comes_first() -> None:
    """A quarter counts for the hour in which it lies."""
    quarters = {ms("2026-09-21T12:45"): 1, ms("2026-09-21T13:00"): 2, ms("2026-09-20T23:45"): 3}
    found = rhythm(quarters, span_of("week", NOW_MS), UTC)
    assert cells(found.heatmap) == {(0, 12): 1, (0, 13): 2, (6, 23): 3}


def test_the_hour_that_comes_twice_has_what_happened_in_both() -> None:
    """In Berlin clocks go from 3:00 back to 2:00 on 2026-10-25."""
    before, after = ms("2026-10-25T00:30"), ms("2026-10-25T01:30")
    span = span_of("day", ms("2026-10-25T12:00"))
    found = rhythm({before: 3, after: 4}, span, BERLIN)
    assert cells(found.heatmap) == {(6, 2): 7}
    [peak] = found.peaks
    assert (peak.violations, peak.per_hour) == (7, 3.5)


def test_the_hour_that_is_left_out_has_nothing() -> None:
    """In Berlin there was no 2:30 on 2026-03-29."""
    start = ms("2026-03-28T22:00")
    span = Span(start, start + 6 * HOUR_MS)
    found = rhythm(dict.fromkeys(range(*span, QUARTER_MS), 1), span, BERLIN)
    assert cells(found.heatmap) == {(5, 23): 4, (6, 0): 4, (6, 1): 4, (6, 3): 4, (6, 4): 4, (6, 5): 4}


def test_zones_may_be_off_by_quarters() -> None:
    """Kathmandu is 5:45 ahead."""
    found = rhythm(
        {ms("2026-09-21T12:00"): 1, ms("2026-09-21T12:15"): 2},
        span_of("day", NOW_MS),
        ZoneInfo("Asia/Kathmandu"),
    )
    assert cells(found.heatmap) == {(0, 17): 1, (0, 18): 2}


@given(
    zone=st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
    now_ms=st.integers(ms("2015-01-01"), ms("2040-01-01")),
    period=st.sampled_from(["hour", "day", "week", "month"]),
    at=st.lists(st.integers(0, USUAL_HOURS * 4), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_nothing_is_lost_in_any_zone(zone: ZoneInfo, now_ms: int, period: str, at: list[int]) -> None:
    """Always 7 days of 24 hours, with the sum of what was counted, each in its local hour."""
    span = span_of(period, now_ms)  # type: ignore[arg-type]
    width = (span.until_ms - span.since_ms) // QUARTER_MS
    quarters = {span.since_ms + n % width * QUARTER_MS: n + 1 for n in at}
    found = rhythm(quarters, span, zone)
    assert [len(row) for row in found.heatmap] == [24] * 7
    expected: dict[tuple[int, int], int] = {}
    for start_ms, count in quarters.items():
        local = datetime.fromtimestamp(start_ms / 1000, zone)
        cell = (local.weekday(), local.hour)
        expected[cell] = expected.get(cell, 0) + count
    assert cells(found.heatmap) == expected
    assert len(found.peaks) == min(3, len(expected))
    assert all(expected[peak.weekday, peak.hour] == peak.violations for peak in found.peaks)
    assert not quarters or period == "hour" or set(found.quiet_hours) < set(range(24))


def test_peaks_are_by_what_an_hour_has_each_time() -> None:
    """A month has five of some weekdays and four of others: five times 4 is less than four times 5."""
    span = span_of("month", ms("2026-09-30T23:59"))  # September has five Tuesdays and four Mondays
    quarters = {}
    for day in range(1, 31):
        moment = datetime(2026, 9, day, 12, tzinfo=UTC)
        if moment.weekday() == 1:
            quarters[int(moment.timestamp() * 1000)] = 4
        elif moment.weekday() == 0:
            quarters[int(moment.timestamp() * 1000)] = 5
    found = rhythm(quarters, span, UTC)
    assert [(peak.weekday, peak.violations, peak.per_hour) for peak in found.peaks] == [
        (0, 20, 5.0),
        (1, 20, 4.0),
    ]


def test_quiet_hours_have_a_quarter_of_the_average_at_most() -> None:
    """And are told only where every hour of the day was there to be heard."""
    span = span_of("day", NOW_MS)
    counts = {
        ms("2026-09-21T10:00"): 10,
        ms("2026-09-21T11:00"): 10,
        ms("2026-09-21T12:00"): 2,
        ms("2026-09-21T13:00"): 2,
    }
    average = 24 / 24
    assert rhythm(counts, span, UTC).quiet_hours == [
        hour for hour in range(24) if hour not in {10, 11, 12, 13}
    ]
    assert average * 0.25 < 2
    assert rhythm({}, span, UTC).quiet_hours == []
    assert rhythm({NOW_MS: 5}, span_of("hour", NOW_MS), UTC).quiet_hours == []
    exactly = {ms("2026-09-21T10:00"): 95, ms("2026-09-21T11:00"): 1}
    assert 11 in rhythm(exactly, span, UTC).quiet_hours
    assert 11 not in rhythm(exactly | {ms("2026-09-21T11:00"): 2}, span, UTC).quiet_hours


# -- out of the ordinary --------------------------------------------------------------------------


def test_a_raid_stands_out_and_an_evening_does_not() -> None:
    """Against a median of 4 an hour with 40 is one; 8 in the evening is what happens."""
    day = [1, 1, 1, 2, 3, 4, 4, 4, 4, 5, 6, 8] * 2
    [event] = major_events(hours(*day * 10, 40, *day), span_of("week", NOW_MS), NOW_MS)
    assert (event.ts, event.violations, event.usual) == (NOW_MS - len(day) * HOUR_MS, 40, 4)
    assert event.deviation > 3.5


def test_many_raids_do_not_hide_each_other() -> None:
    """A third of all hours moves neither the median nor the MAD; mean and deviation would call it normal."""
    counts = [2, 3, 60] * 40
    found = major_events(hours(*counts), span_of("week", NOW_MS), NOW_MS)
    assert {event.violations for event in found} == {60}
    assert len(found) == MAX_EVENTS


def test_the_farthest_comes_first() -> None:
    """Of equal ones the newest."""
    counts = [1] * 30 + [20, 1, 50, 1, 20, 1]
    found = major_events(hours(*counts), span_of("day", NOW_MS), NOW_MS)
    assert [event.violations for event in found] == [50, 20, 20]
    assert found[1].ts > found[2].ts


def test_a_few_violations_in_a_quiet_guild_are_no_event() -> None:
    """Where nothing is usual, five are the least that can be one."""
    assert major_events(hours(*[0] * 50, 4), span_of("day", NOW_MS), NOW_MS) == []
    [event] = major_events(hours(*[0] * 50, 5), span_of("day", NOW_MS), NOW_MS)
    assert (event.usual, event.deviation) == (0, 5.0)


def test_chance_is_no_event() -> None:
    """A count of 100 strays by 10 without any cause, also where it never did before."""
    steady = [100] * 100
    assert major_events(hours(*steady, 134), span_of("day", NOW_MS), NOW_MS) == []
    assert major_events(hours(*steady, 135), span_of("day", NOW_MS), NOW_MS)


def test_a_guild_that_is_new_has_no_normal() -> None:
    """After a day it has."""
    assert major_events(hours(*[1] * 23, 90), span_of("day", NOW_MS), NOW_MS) == []
    assert major_events(hours(*[1] * 24, 90), span_of("day", NOW_MS), NOW_MS)
    assert major_events([], span_of("month", NOW_MS), NOW_MS) == []


def test_hours_without_anything_are_zeros() -> None:
    """A guild that is silent for days and then is not: its normal is silence."""
    counted = [HourCounts(NOW_MS - 100 * HOUR_MS, messages=1), HourCounts(NOW_MS, low=9)]
    [event] = major_events(counted, span_of("day", NOW_MS), NOW_MS)
    assert (event.violations, event.usual) == (9, 0)


@pytest.mark.parametrize(("period", "expected"), [("hour", [9]), ("day", [9, 8]), ("week", [9, 8, 7])])
def test_events_are_the_period_s_and_the_normal_is_the_guild_s(period: str, expected: list[int]) -> None:
    """An hour is held against the last 30 days whatever is asked for; one that has not begun is no hour."""
    counts = [0] * 72 + [7] + [0] * 47 + [8] + [0] * 9 + [9]
    later = HourCounts(NOW_MS + HOUR_MS, low=99)
    found = major_events([*hours(*counts), later], span_of(period, NOW_MS), NOW_MS)  # type: ignore[arg-type]
    assert [event.violations for event in found] == expected
