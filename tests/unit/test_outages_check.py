"""What the outage benchmark calls lost, told, doubled and miscounted."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.outages.check import DELIVERY_MS, WRONG, Posted, Stored, Told, hold

CLEAN = Posted(1, 10_000, None)
BEFORE = Posted(2, 20_000, "banned_word")
WITHIN = Posted(3, 30_000, "invite_link")
AFTER = Posted(4, 40_000, "phishing_link")
POSTED = (CLEAN, BEFORE, WITHIN, AFTER)
GAP = Told("blind", 25_000, 35_000)


def rows(*messages: Posted) -> list[tuple[int, str]]:
    return [(message.message_id, message.label or "") for message in messages]


def wrong(figures: dict[str, Any]) -> dict[str, int]:
    return {name: figures[name] for name in WRONG if figures[name]}


def test_nothing_is_wrong_where_everything_is_stored_once() -> None:
    """With or without a gap, in which things may have arrived all the same."""
    everything = rows(BEFORE, WITHIN, AFTER)
    assert wrong(hold(POSTED, Stored(everything, 4, ()))) == {}
    assert wrong(hold(POSTED, Stored(everything, 4, (GAP,)))) == {}


def test_what_is_missing_is_lost_unless_a_gap_tells_it() -> None:
    """And so is its count."""
    stored = rows(BEFORE, AFTER)
    assert wrong(hold(POSTED, Stored(stored, 3, ()))) == {"lost_and_not_told": 1, "counts_wrong_by": -1}
    figures = hold(POSTED, Stored(stored, 3, (GAP,)))
    assert wrong(figures) == {}
    assert (figures["missing_and_told"], figures["messages_posted_in_gaps"]) == (1, 1)
    assert (figures["gaps"], figures["longest_gap_s"]) == (1, 10.0)


def test_a_gap_tells_only_of_its_own_time() -> None:
    """Of what was under way when it began, too; a violation after it is lost."""
    stored = Stored(rows(WITHIN), 2, (Told("blind", BEFORE.ts_ms + DELIVERY_MS, 35_000),))
    figures = hold(POSTED, stored)
    assert wrong(figures) == {"lost_and_not_told": 1}
    assert figures["missing_and_told"] == 1


@pytest.mark.parametrize(
    ("detections", "messages", "expected"),
    [
        ([*rows(BEFORE, WITHIN, AFTER), *rows(AFTER)], 4, {"doubled": 1}),
        ([*rows(BEFORE, WITHIN, AFTER), (1, "banned_word")], 4, {"not_an_offence": 1}),
        ([*rows(BEFORE, WITHIN), (4, "banned_word")], 4, {"wrong_kind": 1}),
        (rows(BEFORE, WITHIN, AFTER), 6, {"counts_wrong_by": 2}),
        (rows(BEFORE, WITHIN, AFTER), 2, {"counts_wrong_by": -1}),
    ],
)
def test_each_fault_is_named(
    detections: list[tuple[int, str]], messages: int, expected: dict[str, int]
) -> None:
    """Also where a gap is told: that excuses no more than what is missing in it."""
    assert wrong(hold(POSTED, Stored(detections, messages, (GAP,)))) == expected
