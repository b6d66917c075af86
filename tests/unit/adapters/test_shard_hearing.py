"""What shards have heard, and what they missed."""

from __future__ import annotations

import math

import pytest

from adapters.shard_hearing import ShardHearing
from domain.events import Gap


@pytest.fixture
def hearing() -> ShardHearing:
    """Give two shards that are well: one last heard something at 10, the other at 15."""
    hearing = ShardHearing()
    for shard_id in (0, 1):
        hearing.began_anew(shard_id, 1)
        assert hearing.described(shard_id, 5) is None
    hearing.heard(0, 10)
    hearing.heard(1, 15)
    return hearing


def until_ms(hearing: ShardHearing) -> int:
    """Return until when all shards heard everything."""
    return min(at_ms for shard_id in (0, 1) if (at_ms := hearing.until_ms(shard_id)) is not None)


def test_all_have_heard_what_the_last_one_has(hearing: ShardHearing) -> None:
    """A sign of life that comes late takes nothing back."""
    assert until_ms(hearing) == 10
    hearing.heard(0, 20)
    assert until_ms(hearing) == 15
    hearing.heard(1, 12)
    assert until_ms(hearing) == 15


def test_a_resume_brings_everything(hearing: ShardHearing) -> None:
    """What is replayed before Discord says that it is all is not yet all."""
    hearing.cut_off(0)
    hearing.heard(0, 30)
    hearing.heard(1, 30)
    hearing.cut_off(0)
    assert until_ms(hearing) == 10
    hearing.resumed(0, 31)
    assert until_ms(hearing) == 30
    assert hearing.described(0, 40) is None


def test_the_answer_to_a_heartbeat_shows_that_there_was_nothing_to_hear(hearing: ShardHearing) -> None:
    """Until the look before it; the same answer again, or none on a new connection, shows nothing."""
    hearing.heard(1, 99)
    hearing.pulse(0, 0.04, 50)
    hearing.pulse(0, 0.04, 53)
    hearing.pulse(0, math.inf, 56)
    assert until_ms(hearing) == 10
    hearing.pulse(0, 0.05, 59)
    assert until_ms(hearing) == 56
    hearing.pulse(0, 0.03, 62)
    assert until_ms(hearing) == 59


def test_a_new_session_missed_what_was_before_it(hearing: ShardHearing) -> None:
    """From what was heard last until the guilds are described; it is told once."""
    hearing.heard(1, 90)
    hearing.cut_off(0)
    hearing.cut_off(0)
    hearing.began_anew(0, 30)
    hearing.heard(0, 35)
    assert until_ms(hearing) == 10
    assert hearing.described(0, 40) == Gap(10, 40, 0, "blind")
    assert until_ms(hearing) == 35
    assert hearing.described(0, 50) is None


def test_a_new_session_that_is_cut_off_too(hearing: ShardHearing) -> None:
    """Its resume brings its own time only; without one, its time is missed as well."""
    hearing.cut_off(0)
    hearing.began_anew(0, 30)
    hearing.cut_off(0)
    hearing.resumed(0, 33)
    assert until_ms(hearing) == 10
    hearing.cut_off(0)
    hearing.began_anew(0, 36)
    assert hearing.described(0, 40) == Gap(10, 40, 0, "blind")


def test_a_shard_that_was_never_there_missed_nothing() -> None:
    """What was before the start is the runner's to tell."""
    hearing = ShardHearing()
    hearing.cut_off(0)
    hearing.began_anew(0, 30)
    assert hearing.described(0, 40) is None
    assert until_ms(hearing) == 30


def test_a_clock_that_goes_back_makes_no_gap_that_ends_before_it_begins(hearing: ShardHearing) -> None:
    """It ends where it begins."""
    hearing.cut_off(0)
    hearing.began_anew(0, 4)
    assert hearing.described(0, 5) == Gap(10, 10, 0, "blind")
