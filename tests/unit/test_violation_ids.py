"""Ids of violations: the same for the same event, for ever, and some day in the order of their time."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import DISCORD_EPOCH_MS, MAX_SNOWFLAKE, ORDERED_FROM_MS, snowflake_ms, violation_id

_FIRST_ORDERED = (ORDERED_FROM_MS - DISCORD_EPOCH_MS) << 22


def test_ids_of_earlier_releases_stay() -> None:
    """Rows have them, spools hold them, and what Discord replays must meet them."""
    assert violation_id(1, 2, "invites") == UUID("e5737040-590f-ff62-9e9b-85968b5aefcf")
    assert violation_id(2**62, _FIRST_ORDERED - 1, "ünïcode ✨") == UUID(
        "069c78c2-9ef0-1b58-5a18-a6ef266206aa"
    )
    assert violation_id(7, _FIRST_ORDERED, "invites") == UUID("01a672aa-e000-87fd-b455-5c369127fa4a")


@given(st.integers(_FIRST_ORDERED, MAX_SNOWFLAKE), st.integers(_FIRST_ORDERED, MAX_SNOWFLAKE))
def test_later_ids_are_in_the_order_of_time(one: int, other: int) -> None:
    """To the millisecond, whatever the guild and the rule; they are UUIDs of version 8."""
    first, second = violation_id(5, one, "a"), violation_id(3, other, "b")
    assert first.version == second.version == 8
    assert first.variant == "specified in RFC 4122"
    if snowflake_ms(one) != snowflake_ms(other):
        assert (first < second) == (snowflake_ms(one) < snowflake_ms(other))


@given(st.integers(1, MAX_SNOWFLAKE))
def test_one_message_has_an_id_for_each_rule_and_guild(message_id: int) -> None:
    """And the same one each time."""
    made = {violation_id(guild_id, message_id, rule) for guild_id in (1, 2) for rule in ("a", "b")}
    assert len(made) == 4
    assert violation_id(1, message_id, "a") in made
