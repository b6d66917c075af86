"""Texts as strangers write them."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return the text as everything behind us can take it: without NUL, without halves of characters.

    Postgres refuses NUL and UTF-8 has no lone surrogates; JSON can bring both, and one such name or
    message would make a whole batch fail.
    """
    if text.isascii():
        return text.replace("\0", "")
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return whole.replace("\0", "")


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
