from __future__ import annotations

import random

import pytest

from benchmarks.steady import Sample, Trend, trend, trend_figures, warm_up_s


def line(slope: float, *, seconds: int = 1_800, start: float = 100.0) -> list[Sample]:
    """Return a process that grows by ``slope`` megabytes an hour, weighed every 5 s."""
    return [Sample(at_s, start + slope * at_s / 3600) for at_s in range(0, seconds, 5)]


def test_a_straight_line_is_found_as_it_is() -> None:
    """Growth without noise comes out exactly, with no error."""
    found = trend(line(12.0), 0.0)
    assert found.slope == pytest.approx(12.0)
    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert (found.first, found.last, found.highest) == (100.0, found.last, found.last)


def test_what_was_before_the_warm_up_counts_for_nothing() -> None:
    """A process that grows while it warms up and rests afterwards does not grow."""
    samples = [Sample(s.at_s, 500.0 if s.at_s < 360 else 140.0) for s in line(0.0)]
    assert trend(samples, 360.0) == Trend(140.0, 140.0, 140.0, 0.0, 0.0)


def test_noise_has_a_slope_that_its_error_covers() -> None:
    """The standard error says how far the slope is off: over many runs, their ratio's square is about 1."""
    rng = random.Random(1)
    ratios = []
    for _ in range(200):
        noisy = [Sample(s.at_s, s.mb + rng.gauss(0, 2.0)) for s in line(3.0)]
        found = trend(noisy, 0.0)
        ratios.append(((found.slope - 3.0) / found.error) ** 2)
    assert 0.7 < sum(ratios) / len(ratios) < 1.4


def test_the_figures_are_of_the_process_that_grew_fastest() -> None:
    """Of several processes of a kind the worst stands for all, and nothing of the others is mixed in."""
    big, grows = Trend(900.0, 900.0, 910.0, 0.1, 0.02), Trend(100.0, 104.0, 105.0, 8.0, 0.5)
    assert trend_figures("host", [big, grows]) == {
        "host_processes": 2,
        "host_first_mb": 100.0,
        "host_last_mb": 104.0,
        "host_highest_mb": 105.0,
        "host_slope_mb_per_hour": 8.0,
        "host_slope_error_mb_per_hour": 0.5,
    }


@pytest.mark.parametrize(("minutes", "seconds"), [(0.1, 1.2), (2, 24), (4, 120), (9, 120), (30, 360)])
def test_a_fifth_is_warm_up_and_two_minutes_where_there_is_time(minutes: float, seconds: float) -> None:
    """Two minutes are at most half of a run; a shorter one gives a fifth."""
    assert warm_up_s(minutes * 60) == pytest.approx(seconds)
