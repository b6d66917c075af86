"""Texts as strangers write them."""

from __future__ import annotations

import re
import unicodedata

MAX_MARKS = 3
"""Marks over and under one letter: no living language writes more, and piles of them cover other lines."""

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U0001d173-\U0001d17a]"
)
"""Controls, those of the direction of writing among them. Joiners are none: languages and emoji need them."""


def storable(text: str) -> str:
    """Return the text as everything behind us can take it: without NUL, without halves of characters.

    Postgres refuses NUL and UTF-8 has no lone surrogates; JSON can bring both, and one such name or
    message would make a whole batch fail.
    """
    if text.isascii():
        return text.replace("\0", "")
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "")


def tame(text: str) -> str:
    """Return a text as it can stand beside others: what turns lines around or hides is shown by its name.

    The page does the same to names, which are kept as Discord gives them (`web/src/ui/strangers.ts`).
    """
    if text.isascii() and text.isprintable():
        return text
    seen = _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
    return "".join(_with_few_marks(seen))


def _with_few_marks(text: str) -> list[str]:
    kept: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.category(char).startswith("M") else 0
        if marks <= MAX_MARKS:
            kept.append(char)
    return kept


def contains_word(folded: str, words: tuple[str, ...]) -> bool:
    """Return whether one of the words stands in ``folded`` by itself; both are case-folded already.

    No regular expression: RE2's word boundary knows ASCII only, and would neither find a Cyrillic word
    nor leave a word alone that begins with an umlaut.
    """
    return any(_stands_alone(folded, word) for word in words)


def _stands_alone(text: str, word: str) -> bool:
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if not _in_word(text[start - 1 : start]) and not _in_word(text[end : end + 1]):
            return True
        start = text.find(word, start + 1)
    return False


def _in_word(char: str) -> bool:
    return char.isalnum() or char == "_"
