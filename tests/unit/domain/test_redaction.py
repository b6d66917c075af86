"""Numbers that might be somebody's are blotted out, and ordinary ones are not."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.detection import excerpt
from domain.redaction import MASK, redacted


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111 - 1111 - 1111 - 1111",
        "4111\u20131111\u20131111\u20131111",
        "4111\u200b1111\u200b1111\u200b1111",
        "5500 0000 0000 0004",
        "3782 822463 10005",
        "6011 0009 9013 9424",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        "+49 171 123 45 67",
        "+1 (555) 123-4567",
        "+44-20-7946-0958",
        "0171 123 45 67",
        "0171/123 45 67",
        "030-90-18-20-00",
        "(555) 123-4567",
        "555-123-4567",
        "555.123.4567",
        "1-555-123-4567",
        "1234567",
        "80351110224678912",
    ],
)
def test_numbers_of_cards_and_phones_are_blotted_out(number: str) -> None:
    """However they are written, wherever they stand."""
    assert redacted(number) == MASK
    assert redacted(f"call me: {number}, now") == f"call me: {MASK}, now"
    assert excerpt(f"my number is {number}!") == f"my number is {MASK}!"


@pytest.mark.parametrize(
    "text",
    [
        "I have 100 of 200 points",
        "1 000 000 000 members",
        "12 345 678",
        "2026-11-27 10:51",
        "27.11.2026 10:51",
        "01.02.2026 03:04",
        "01-02-2026 03",
        "192.168.100.100",
        "version 1.22.333.4444",
        "1234 5678 9012 3456",
        "4111 1111 1111 1112",
        "scores: 12 15 18 21 24 27 30",
        "10-20-30-40-50",
        "3.141592",
        "100 - 200 - 300",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    """Dates, thousands, addresses of machines, and what fails the check digit of cards."""
    assert redacted(text) == text


@given(st.text(alphabet="0123456789 -.()+/ab", max_size=60))
def test_no_long_run_of_digits_stays(text: str) -> None:
    """Whatever stands around it."""
    assert re.search(r"\d{7}", redacted(text)) is None


def test_a_hostile_text_costs_little() -> None:
    """Time grows with the text and not with its square."""
    hostile = ["1 " * 50_000, "(" * 50_000 + "1", "1-(" * 30_000, "+" * 90_000, "9" * 100_000]
    began = time.process_time()
    for text in hostile:
        redacted(text)
    assert time.process_time() - began < 2
