from __future__ import annotations

import re
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.ids import (
    HOUR_MS,
    MAX_SNOWFLAKE,
    SLOTS,
    SNOWFLAKE_PATTERN,
    hour_start,
    parse_snowflake,
    slot_of,
    snowflake_ms,
    violation_id,
)


@pytest.mark.parametrize(
    ("guild_id", "slot"),
    [
        (1, 215),
        (2, 3013),
        (81384788765712384, 1645),
        (10**18, 125),
        (MAX_SNOWFLAKE, 3592),
    ],
)
def test_a_slot_never_changes(guild_id: int, slot: int) -> None:
    """Placements are written in slots, so these numbers hold for all releases."""
    assert slot_of(guild_id) == slot


def test_slots_fill_evenly() -> None:
    """Ids one counter step or one millisecond apart do not gather: ten a slot stay below thirty."""
    for step in (1, 1 << 22):
        counts = Counter(slot_of(10**18 + number * step) for number in range(10 * SLOTS))
        assert len(counts) > 0.99 * SLOTS
        assert max(counts.values()) < 30


@given(st.integers(1, MAX_SNOWFLAKE))
def test_every_guild_has_a_slot(guild_id: int) -> None:
    """Always one of the 4096."""
    assert 0 <= slot_of(guild_id) < SLOTS


def test_an_id_tells_its_time() -> None:
    """Discord's own example."""
    assert snowflake_ms(175928847299117063) == 1462015105796


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("9223372036854775807", MAX_SNOWFLAKE),
        ("9223372036854775808", None),  # one too many
        ("0", None),
        ("01", None),  # would be answered as 1
        ("0000000000000000001", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        (" 1", None),
        ("1\n", None),
        ("1_000", None),
        ("٣", None),  # a digit, but not ours
        ("²", None),
        ("1" * 5000, None),  # too long to be worth a conversion
    ],
)
def test_only_plain_digits_are_an_id(text: str, value: int | None) -> None:
    """Everything else is None, never an error."""
    assert parse_snowflake(text) == value


@given(st.integers(1, MAX_SNOWFLAKE))
def test_every_id_is_read_back(snowflake: int) -> None:
    """From its own digits."""
    assert parse_snowflake(str(snowflake)) == snowflake


def test_a_violation_has_the_same_id_for_ever() -> None:
    """And another one for another guild, message or rule."""
    known = violation_id(1, 2, "invite-links")
    assert known == UUID("03426701-8b47-814b-7218-b5cbc6879839")
    others = {violation_id(2, 2, "invite-links"), violation_id(1, 3, "invite-links"), violation_id(1, 2, "x")}
    assert len(others | {known}) == 4


@given(st.integers(0, 2**45))
def test_an_hour_begins_before_its_moments(ts_ms: int) -> None:
    """By less than an hour, and on the hour."""
    start = hour_start(ts_ms)
    assert start % HOUR_MS == 0
    assert 0 <= ts_ms - start < HOUR_MS


@given(
    st.one_of(
        st.integers(0, 2**64).map(str),
        st.integers(-(10**6), 10**6).map(lambda away: str(MAX_SNOWFLAKE + away)),
        st.text("0123456789", max_size=21),
        st.text(max_size=5),
    )
)
def test_the_pattern_describes_what_is_taken(text: str) -> None:
    """A client that is made from the API's description asks for nothing that is refused."""
    assert bool(re.search(SNOWFLAKE_PATTERN, text, re.ASCII)) == (parse_snowflake(text) is not None) or (
        text.endswith("\n")  # Python's "$" stands before a last line break too
    )
