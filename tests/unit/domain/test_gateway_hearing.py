"""How long answers hold while a shard hears, falls silent, or begins anew."""

from __future__ import annotations

import pytest

from domain.gateway_hearing import LEASE_S, GatewayHearing, ShardHeard

GUILD = 3 << 22
"""Of two shards, the second one's."""


def heard(life: str = "a", silent_s: float = 0.0, *, shard_id: int = 1, count: int = 2) -> ShardHeard:
    return ShardHeard(shard_id, count, life, silent_s)


@pytest.fixture
def hearing() -> GatewayHearing:
    """Return what heard both shards at 100 s."""
    hearing = GatewayHearing()
    hearing.heard([heard(), heard(shard_id=0)], 100.0)
    return hearing


def test_an_answer_holds_while_its_shard_is_heard(hearing: GatewayHearing) -> None:
    """Also between two of its reports; from when it fell silent on, nothing is sure."""
    assert hearing.good_s(GUILD, 100.0, 100.0 + LEASE_S) == 100.0 + LEASE_S
    assert hearing.good_s(GUILD, 100.0, 101.0 + LEASE_S) == 100.0
    hearing.heard([heard(silent_s=60.0)], 1_000.0)
    assert hearing.good_s(GUILD, 100.0, 1_000.0) == 1_000.0
    assert hearing.good_s(GUILD, 100.0, 2_000.0) == 940.0
    hearing.heard([heard()], 2_000.0)  # a session that was resumed missed nothing
    assert hearing.good_s(GUILD, 100.0, 2_000.0) == 2_000.0


@pytest.mark.parametrize("again", [heard("b"), heard(count=4, shard_id=3)])
def test_what_was_asked_before_a_gap_is_not_known_to_hold(hearing: GatewayHearing, again: ShardHeard) -> None:
    """A new session, or another way to share out the guilds; the other shard's go on."""
    hearing.heard([again], 200.0)
    assert hearing.good_s(GUILD, 150.0, 210.0) == 150.0
    assert hearing.good_s(GUILD, 200.0, 210.0) == 210.0
    assert hearing.good_s(4 << 22, 150.0, 210.0) == (210.0 if again.shard_count == 2 else 150.0)


def test_a_guild_may_be_missed_alone(hearing: GatewayHearing) -> None:
    """Of it, what is asked later holds; where nobody reports, nothing but the answer itself."""
    hearing.missed(GUILD, 200.0)
    assert hearing.good_s(GUILD, 199.0, 210.0) == 199.0
    assert hearing.good_s(GUILD, 200.0, 210.0) == 210.0
    assert hearing.good_s(5 << 22, 150.0, 210.0) == 210.0
    assert GatewayHearing().good_s(GUILD, 150.0, 210.0) == 150.0
