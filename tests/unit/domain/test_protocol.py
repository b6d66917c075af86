from __future__ import annotations

import contextlib
import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.errors import MalformedMessage
from domain.protocol import (
    MAX_MESSAGE_BYTES,
    ClientMessage,
    CloseCode,
    Subscribe,
    Unsubscribe,
    error,
    event_json,
    events_frame,
    parse_client_message,
    subscribed,
    unsubscribed,
)
from tests.unit.strategies import snowflakes, texts

offsets = st.integers(0, 2**53 - 1)


def written(message: ClientMessage) -> str:
    body: dict[str, object] = {"op": type(message).__name__.lower(), "guild_id": str(message.guild_id)}
    if isinstance(message, Subscribe) and message.position is not None:
        body |= dict(zip(("epoch", "offset"), message.position, strict=True))
    return json.dumps(body)


@given(
    st.builds(Subscribe, snowflakes, st.none() | st.tuples(offsets, offsets))
    | st.builds(Unsubscribe, snowflakes)
)
def test_what_a_client_says_is_understood(message: ClientMessage) -> None:
    """As text and as bytes."""
    assert parse_client_message(written(message)) == message
    assert parse_client_message(written(message).encode()) == message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not understood"),
        ("hello", "not understood"),
        ("[]", "not understood"),
        ('{"op":"subscribe"}', "guild_id"),
        ('{"op":"dance","guild_id":"1"}', "dance"),
        ('{"op":"subscribe","guild_id":1}', "not understood"),  # numbers lose digits in JavaScript
        ('{"op":"subscribe","guild_id":"x"}', "string of digits"),
        ('{"op":"subscribe","guild_id":"0"}', "string of digits"),
        ('{"op":"subscribe","guild_id":"01"}', "string of digits"),  # would be answered as 1
        ('{"op":"subscribe","guild_id":"1","guild_id":"2"}', "twice"),
        ('{"op":"subscribe","guild_id":"1","g\\u0075ild_id":"1"}', "twice"),
        ('{"op":"subscribe","guild_id":"1","epoch":9223372036854775808,"offset":1}', "too large"),
        ('{"op":"subscribe","guild_id":"1","epoch":1,"offset":%s}' % ("9" * 3_000), "too large"),
        ('{"op":"subscribe","guild_id":"1","epoch":true,"offset":1}', "not understood"),
        ('{"op":"subscribe","guild_id":"1","epoch":NaN,"offset":1}', "NaN"),
        ('{"op":"subscribe","guild_id":"9223372036854775808"}', "string of digits"),
        ('{"op":"subscribe","guild_id":"1","epoch":1}', "go together"),
        ('{"op":"subscribe","guild_id":"1","offset":1}', "go together"),
        ('{"op":"subscribe","guild_id":"1","epoch":0,"offset":null}', "go together"),
        ('{"op":"subscribe","guild_id":"1","epoch":-1,"offset":1}', "negative"),
        ('{"op":"subscribe","guild_id":"1","epoch":1,"offset":1.5}', "not understood"),
        ('{"op":"subscribe","guild_id":"1","more":1}', "more"),
        ('{"op":"unsubscribe","guild_id":"1","epoch":1,"offset":1}', "epoch"),
        (" " * (MAX_MESSAGE_BYTES + 1), "bytes at most"),
    ],
)
def test_nonsense_is_answered_with_a_sentence(text: str, sentence: str) -> None:
    """It says what is wrong."""
    with pytest.raises(MalformedMessage, match=sentence):
        parse_client_message(text)


@given(st.text(st.characters()) | st.binary())
@example('{"x":' + "[" * 2_000 + "]" * 2_000 + "}")  # nested too deep
@example(b'{"op":"subscribe","guild_id":"\xff"}')
@example('{"op":"subscribe","guild_id":"\ud800"}')
def test_garbage_gives_malformed_message_and_nothing_else(text: str | bytes) -> None:
    """Whatever a browser, or somebody who is none, sends."""
    with contextlib.suppress(MalformedMessage):
        parse_client_message(text)


jsons = st.recursive(st.none() | st.booleans() | offsets | texts, lambda inner: st.lists(inner, max_size=3))


@given(snowflakes, offsets, st.lists(st.dictionaries(texts, jsons, max_size=3), max_size=5))
def test_a_frame_is_json_with_its_events_in_order(
    guild_id: int, epoch: int, data: list[dict[str, object]]
) -> None:
    """Put together from bytes, and still what a JSON writer would have written."""
    events = [event_json(offset, "violation", 5, one) for offset, one in enumerate(data, 1)]
    assert json.loads(events_frame(guild_id, epoch, events)) == {
        "op": "events",
        "guild_id": str(guild_id),
        "epoch": epoch,
        "events": [
            {"offset": offset, "type": "violation", "ts": 5, "data": one}
            for offset, one in enumerate(data, 1)
        ],
    }


def test_answers_are_json_with_ids_as_strings() -> None:
    """Each as the protocol writes it down."""
    big = 2**63 - 1
    assert json.loads(subscribed(big, 7, 120, recovered=True)) == {
        "op": "subscribed",
        "guild_id": str(big),
        "epoch": 7,
        "offset": 120,
        "recovered": True,
    }
    assert json.loads(unsubscribed(big)) == {"op": "unsubscribed", "guild_id": str(big)}
    refusal = {"op": "error", "code": "not_allowed", "message": "No."}
    assert json.loads(error("not_allowed", "No.")) == refusal
    assert json.loads(error("not_allowed", "No.", big)) == refusal | {"guild_id": str(big)}


def test_close_codes_never_change() -> None:
    """Browsers that are out there know them by number."""
    assert {code.name: code.value for code in CloseCode} == {
        "SERVICE_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
        "SESSION_ENDED": 4001,
        "NOT_ALLOWED": 4003,
        "TOO_SLOW": 4008,
        "TOO_MANY_SOCKETS": 4009,
        "BAD_MESSAGE": 4010,
        "NOTHING_WATCHED": 4011,
        "TOO_MANY_MESSAGES": 4029,
    }


def test_what_cannot_be_said_is_not_sent() -> None:
    """A text that is none raises where it is written, not in a browser."""
    with pytest.raises((UnicodeError, msgspec.MsgspecError)):
        event_json(1, "violation", 1, {"x": "\ud800"})
