from __future__ import annotations

import pytest

from adapters.memory.samples import NOON_MS
from domain.ids import HOUR_MS
from domain.insights import Period, Span, span_of


@pytest.mark.parametrize(("period", "hours"), [("hour", 1), ("day", 24), ("week", 168), ("month", 720)])
@pytest.mark.parametrize("into_hour", [0, 1, HOUR_MS - 1])
def test_a_period_ends_with_the_running_hour(period: Period, hours: int, into_hour: int) -> None:
    """It is made of whole hours, and as many lie before it."""
    span = span_of(period, NOON_MS + into_hour)
    assert span == Span(NOON_MS - (hours - 1) * HOUR_MS, NOON_MS + HOUR_MS)
    assert span.before == Span(span.since_ms - hours * HOUR_MS, span.since_ms)
