"""What a life saves with its batches: no event is missed and none is counted twice by the next one."""

from __future__ import annotations

from actors.coverage import Coverage, Mark, Saved
from domain.ports import GatewaySession, Position, ShardState

HERE, THERE = 1, 2


def at(sequence: int, session_id: str = "s", *, counted: bool = False) -> Mark:
    return Mark(Position(0, session_id, sequence), counted)


def shard(sequence: int, session_id: str = "s", heard_ms: int = 1_000) -> ShardState:
    return ShardState(0, heard_ms, GatewaySession(session_id, "ws://there", sequence))


def loaded(saved: bytes) -> tuple[Coverage, ShardState]:
    coverage = Coverage()
    [state] = coverage.load(saved).shards
    return coverage, state


def test_what_waits_holds_the_position_back() -> None:
    """And the time: were the session gone, the gap would begin at the oldest event that is only in memory."""
    coverage = Coverage()
    coverage.waits(at(5), 900)
    coverage.waits(at(7), 950)
    saved, heard_ms = coverage.save((shard(9),))
    assert loaded(saved)[1] == shard(4, heard_ms=900)
    assert heard_ms == 900
    coverage.is_batched(HERE, at(5))
    assert loaded(coverage.save((shard(9),))[0])[1] == shard(6, heard_ms=950)
    coverage.is_batched(THERE, at(7))
    assert loaded(coverage.save((shard(9),))[0])[1] == shard(9)


def test_what_was_batched_behind_the_position_is_known() -> None:
    """By guild, and counts apart from events: they are batched each in their own order."""
    coverage = Coverage()
    coverage.waits(at(5), 900)
    coverage.waits(at(6), 900)
    coverage.waits(at(6, counted=True), 900)
    coverage.is_batched(THERE, at(6))
    again, state = loaded(coverage.save((shard(6),))[0])
    assert state == shard(4, heard_ms=900)
    assert again.is_new(HERE, at(5))
    assert not again.is_new(THERE, at(6))
    assert again.is_new(THERE, at(6, counted=True))
    assert again.is_new(THERE, at(7))
    assert again.is_new(THERE, at(6, "another session"))


def test_an_event_may_wait_as_several_things() -> None:
    """It is durable once all of them are."""
    coverage = Coverage()
    coverage.waits(at(5), 900)
    coverage.waits(at(5, counted=True), 900)
    coverage.is_batched(HERE, at(5))
    assert loaded(coverage.save((shard(5),))[0])[1] == shard(4, heard_ms=900)
    coverage.is_batched(HERE, at(5, counted=True))
    assert loaded(coverage.save((shard(5),))[0])[1] == shard(5)


def test_little_is_remembered() -> None:
    """What a session is resumed behind is not told again, nor anything of one that is over."""
    coverage = Coverage()
    for sequence in range(1, 100):
        coverage.waits(at(sequence), 900)
        coverage.is_batched(sequence, at(sequence))
    coverage.save((shard(99),))
    assert coverage._done == ({}, {})
    coverage.waits(at(1, "new"), 900)
    coverage.waits(at(2, "new"), 900)
    coverage.is_batched(HERE, at(2, "new"))
    coverage.save((shard(2, "new"),))
    assert coverage._done == ({HERE: at(2, "new").at}, {})


def test_what_is_left_of_a_session_that_is_over_keeps_the_new_one_back() -> None:
    """A life that resumed the new session would never tell that the rest of the old one is lost."""
    coverage = Coverage()
    coverage.waits(at(50), 700)
    coverage.waits(at(3, "new"), 900)
    coverage.is_batched(HERE, at(3, "new"))
    saved, heard_ms = coverage.save((shard(3, "new"),))
    assert loaded(saved)[1] == ShardState(0, 700)
    assert heard_ms == 700
    coverage.is_batched(HERE, at(50))
    coverage.waits(at(2, "new"), 900)
    _, state = loaded(coverage.save((shard(3, "new"),))[0])
    assert state.session == GatewaySession("new", "ws://there", 1)


def test_what_another_release_saved_is_no_session() -> None:
    """Then every shard identifies, and the gap is told."""
    assert Coverage().load(b"\xc1nonsense") == Saved()
