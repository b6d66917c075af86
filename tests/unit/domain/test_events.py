from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.memory.samples import described, violation
from domain.errors import MalformedBatch
from domain.events import (
    Accepted,
    Batch,
    Busy,
    Gap,
    MemberLeft,
    NotMine,
    Reply,
    decode_batch,
    decode_batch_piecewise,
    decode_event,
    decode_reply,
    encode_batch,
    encode_event,
    encode_reply,
)
from tests.unit.strategies import batches

REAL = encode_batch(Batch("s", 1, (violation(), described(), MemberLeft(1, 2, 3))))


@given(batches)
def test_a_batch_comes_out_as_it_went_in(batch: Batch) -> None:
    """Every event, with ids up to 2^63 - 1 and texts of every script."""
    assert decode_batch(encode_batch(batch)) == batch


@pytest.mark.parametrize("reply", [Accepted(2**53, 7), NotMine(3), Busy(500)])
def test_a_reply_comes_out_as_it_went_in(reply: Reply) -> None:
    """Each kind as itself."""
    assert decode_reply(encode_reply(reply)) == reply


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x91" * 5_000)  # nested deeper than anything we say
@example(msgspec.msgpack.encode({"source": "s"}))
@example(REAL[:-1])
@example(REAL + b"\0")
def test_garbage_is_malformed_and_nothing_else(payload: bytes) -> None:
    """Whatever comes, the only error is ``MalformedBatch``."""
    for decode in (decode_batch, decode_reply):
        with contextlib.suppress(MalformedBatch):
            decode(payload)


@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@example([(REAL.index(b"general"), 0xFF)])  # no UTF-8
def test_a_damaged_batch_is_malformed_or_a_batch(damage: list[tuple[int, int]]) -> None:
    """Bytes that changed on the way raise nothing else."""
    payload = bytearray(REAL)
    for position, value in damage:
        payload[position] = value
    with contextlib.suppress(MalformedBatch):
        assert isinstance(decode_batch(bytes(payload)), Batch)


@pytest.mark.parametrize("guild_id", [0, -1, 2**63])
def test_what_is_no_discord_id_is_malformed(guild_id: int) -> None:
    """A slot is only defined for ids, so a host never meets anything else."""
    with pytest.raises(MalformedBatch):
        decode_batch(encode_batch(Batch("s", 1, (MemberLeft(guild_id, 1, 1),))))


@given(batches)
def test_a_good_batch_read_in_pieces_is_the_same(batch: Batch) -> None:
    """Nothing in it is unreadable, and each event stands by itself too."""
    assert decode_batch_piecewise(encode_batch(batch)) == (batch, [])
    assert tuple(decode_event(encode_event(event)) for event in batch.events) == batch.events


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_what_cannot_be_read_is_told_apart(readable: list[bool]) -> None:
    """The readable events come out in order, the others as the bytes they came in, with a reason."""
    events = [MemberLeft(1 if good else 0, n + 1, n) for n, good in enumerate(readable)]
    batch, unreadable = decode_batch_piecewise(encode_batch(Batch("s", 3, tuple(events), (Gap(1, 2, 3),))))
    assert batch == Batch("s", 3, tuple(event for event in events if event.guild_id), (Gap(1, 2, 3),))
    assert [each.payload for each in unreadable] == [encode_event(e) for e in events if not e.guild_id]
    assert all("$[1]" in each.reason for each in unreadable)


def test_a_text_that_is_no_text_is_one_unreadable_event() -> None:
    """Also what msgspec itself does not name: bytes that are no UTF-8."""
    payload = REAL.replace(b"general", b"gener\xffl")
    batch, [unreadable] = decode_batch_piecewise(payload)
    assert batch.events == (described(), MemberLeft(1, 2, 3))
    assert b"gener\xffl" in unreadable.payload


@given(st.binary(max_size=200))
@example(b"\x91" * 5_000)
@example(REAL[:-1])
@example(REAL + b"\0")
def test_a_frame_that_cannot_be_read_is_malformed(payload: bytes) -> None:
    """In pieces too, the only error is ``MalformedBatch``."""
    for decode in (decode_batch_piecewise, decode_event):
        with contextlib.suppress(MalformedBatch):
            decode(payload)


def test_a_gap_says_why() -> None:
    """One from before reasons were told is an overflow."""
    old = msgspec.msgpack.encode(["s", 1, [], [[1, 2, 3]]])
    assert decode_batch(old).gaps == (Gap(1, 2, 3, "overflow"),)
    blind = Batch("s", 1, (), (Gap(1, 2, 0, "blind"),))
    assert decode_batch(encode_batch(blind)) == blind
