from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import contains_word, storable


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("a\0b", "ab"),  # Postgres refuses it
        ("ü\0ü", "üü"),
        ("\ud83d\ude00", "😀"),  # two halves are one character
        ("a\ud83d", "a\ufffd"),  # one half is none
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\u202eevil", "\u202eevil"),  # odd, but a text
    ],
)
def test_what_is_kept_of_a_text(text: str, stored: str) -> None:
    """All of it, but for what nobody behind us can take."""
    assert storable(text) == stored


@given(st.text(st.characters()))
def test_every_text_becomes_storable(text: str) -> None:
    """UTF-8 without NUL, and once is enough."""
    stored = storable(text)
    assert b"\0" not in stored.encode()
    assert storable(stored) == stored


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("kys", "kys", True),
        ("skys are blue, kysely too", "kys", False),
        ("kysely, or kys", "kys", True),  # the second place counts too
        ("kys_", "kys", False),  # part of a name
        ("kys1", "kys", False),
        ("«kys»", "kys", True),
        ("ты дурак!", "дурак", True),
        ("дураки", "дурак", False),
        ("äkys", "kys", False),  # a letter is a letter in every script
        ("go kill  it", "kill it", False),  # phrases are compared as written
        ("kill it!", "kill it", True),
    ],
)
def test_a_word_stands_by_itself(text: str, word: str, found: bool) -> None:
    """With no letter, digit or underscore beside it."""
    assert contains_word(text, (word,)) is found


def test_no_words_are_in_no_text() -> None:
    """An empty list finds nothing."""
    assert not contains_word("anything", ())
