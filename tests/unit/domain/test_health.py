from __future__ import annotations

import pytest

from domain.health import Health, Vitals, judge
from domain.views import SeverityCounts

NONE = SeverityCounts(low=0, medium=0, high=0, critical=0)


def health(
    messages: int = 1_000, response_ms: int | None = None, escalated: int = 0, **counts: int
) -> Health:
    return judge(Vitals(messages, NONE.model_copy(update=counts), response_ms, escalated))


def part(found: Health, name: str) -> float:
    return next(part.score for part in found.parts if part.name == name)


@pytest.mark.parametrize("messages", [0, 1, 10**9])
def test_without_violations_all_is_well(messages: int) -> None:
    """Whether or not anything happened at all."""
    assert health(messages).score == 100.0


def test_each_part_is_worth_half_at_its_half_value() -> None:
    """And the score is their sum, weighted."""
    found = health(low=21, critical=4, response_ms=7_000, escalated=5)
    assert [(part.score, part.value, part.half) for part in found.parts] == [
        (50.0, 25, 25),
        (50.0, 40, 40),
        (50.0, 5_000, 5_000),
        (50.0, 5, 5),
    ]
    assert found.score == 50.0
    assert sum(part.weight for part in found.parts) == 100


def test_an_answer_within_two_seconds_is_as_good_as_none_needed() -> None:
    """From then on it gets worse."""
    assert part(health(response_ms=None), "response_time") == 100.0
    assert part(health(response_ms=2_000), "response_time") == 100.0
    assert part(health(response_ms=3_000), "response_time") < 100.0


@pytest.mark.parametrize(
    ("messages", "violations", "limited"),
    [(100, 5, False), (99, 5, True), (100, 4, True), (0, 0, True), (10**6, 0, True)],
)
def test_it_says_when_it_rests_on_little(messages: int, violations: int, limited: bool) -> None:
    """On few messages, or on few violations."""
    assert health(messages, low=violations).limited_data is limited


def test_graver_is_worse() -> None:
    """The same number of violations, each step graver."""
    scores = [health(**{severity: 10}).score for severity in ("low", "medium", "high", "critical")]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 4


def test_violations_without_messages_are_judged_all_the_same() -> None:
    """Counts of messages may be late, or missing."""
    assert 0 < health(messages=0, low=1).score < 100
