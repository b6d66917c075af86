"""Property 2: a health score lies between 0 and 100, and no violation ever raises it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.events import SEVERITIES, Severity
from domain.health import GRAVITY, Vitals, judge
from domain.views import SeverityCounts

counts = st.integers(0, 10**9) | st.integers(0, 30)
by_severity = st.builds(SeverityCounts, low=counts, medium=counts, high=counts, critical=counts)
vitals = st.builds(Vitals, counts, by_severity, st.none() | st.integers(0, 10**12), counts)
severities = st.sampled_from(SEVERITIES)
more = st.integers(1, 10**6)


def with_more(judged: Vitals, severity: Severity, more: int) -> Vitals:
    counted = judged.by_severity
    changed = counted.model_copy(update={severity: getattr(counted, severity) + more})
    return replace(judged, by_severity=changed)


@settings(max_examples=500)
@given(vitals)
def test_a_score_is_between_0_and_100(judged: Vitals) -> None:
    """So is each part's, and the parts make up the whole."""
    health = judge(judged)
    assert 0 <= health.score <= 100
    assert all(0 <= part.score <= 100 for part in health.parts)
    assert abs(health.score - sum(part.score * part.weight for part in health.parts) / 100) <= 0.11
    assert judge(judged) == health


@settings(max_examples=300)
@given(vitals, severities, more)
def test_no_violation_raises_the_score(judged: Vitals, severity: Severity, more: int) -> None:
    """Of whatever severity, and however many."""
    assert judge(with_more(judged, severity, more)).score <= judge(judged).score


@settings(max_examples=300)
@given(vitals, severities, severities, more)
def test_the_graver_the_lower(judged: Vitals, one: Severity, other: Severity, more: int) -> None:
    """The same number of violations, but graver."""
    mild, grave = sorted((one, other), key=lambda severity: GRAVITY[severity])
    assert judge(with_more(judged, grave, more)).score <= judge(with_more(judged, mild, more)).score


@settings(max_examples=300)
@given(vitals, more)
def test_slower_is_never_better(judged: Vitals, more: int) -> None:
    """Nor are more people who went from bad to worse; more messages around the same are never worse."""
    score = judge(judged).score
    slower = (judged.response_ms or 0) + more
    assert judge(replace(judged, response_ms=slower)).score <= score
    assert judge(replace(judged, escalated=judged.escalated + more)).score <= score
    assert judge(replace(judged, messages=judged.messages + more)).score >= score


@settings(max_examples=200)
@given(st.integers(0, 10**12))
def test_without_violations_it_is_100(messages: int) -> None:
    """Exactly."""
    none = SeverityCounts(low=0, medium=0, high=0, critical=0)
    assert judge(Vitals(messages, none, None, 0)).score == 100.0
