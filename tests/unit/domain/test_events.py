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
    MemberLeft,
    NotMine,
    Reply,
    decode_batch,
    decode_reply,
    encode_batch,
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
