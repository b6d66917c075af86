from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import MAX_MARKS, contains_word, storable, tame


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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\u202egpj.exe", "[U+202E]gpj.exe"),
        ("a\u2066b\u2069\u200f", "a[U+2066]b[U+2069][U+200F]"),
        ("zero\u200bwidth\ufeff", "zero[U+200B]width[U+FEFF]"),
        ("bell\a", "bell[U+0007]"),
        ("z" + "\u0335" * 40 + "a", "z" + "\u0335" * MAX_MARKS + "a"),
        ("\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("tiếng Việt", "tiếng Việt"),
        ("e\u0302\u0301", "e\u0302\u0301"),
    ],
)
def test_a_text_is_tame_beside_others(text: str, shown: str) -> None:
    """It turns no line around, covers none and hides nothing; living languages and emoji stay the same."""
    assert tame(text) == shown


@given(st.text())
def test_a_tame_text_stays_as_it_is(text: str) -> None:
    """Whatever was written: it can be shown again."""
    assert tame(tame(text)) == tame(text)
