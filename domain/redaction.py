"""What moderators are not shown of a message: numbers of cards and phones, and every long number."""

from __future__ import annotations

import re

MASK = "•••"
LONGEST_RUN = 6
"""Longer runs of digits are numbers of something: of cards, phones and accounts, but also Discord's ids."""
CARD_DIGITS = range(13, 20)
PHONE_DIGITS = range(9, 16)

# Digits with what people put between them. Linear in the text: no separator is a digit.
_NUMBER = re.compile(r"[+(]{0,3}\d(?:[ .()/\u200b-\u200d\u2010-\u2015\u2060-]{0,3}\d)*")
_NORTH_AMERICAN = re.compile(r"(?:1[ .-])?\(?[2-9]\d{2}\)?[ .-]?\d{3}[ .-]\d{4}")
_DATE = re.compile(r"(?:\d{4}\D\d{1,2}\D\d{1,2}|\d{1,2}\D\d{1,2}\D\d{4})(?!\d)")


def redacted(text: str) -> str:
    """Return a text with the numbers blotted out that might be somebody's."""
    return _NUMBER.sub(lambda found: MASK if _is_private(found[0]) else _without_runs(found[0]), text)


def _is_private(written: str) -> bool:
    digits = [int(char) for char in written if char.isdecimal()]
    return (len(digits) in CARD_DIGITS and _passes_luhn(digits)) or _is_phone(written, digits)


def _is_phone(written: str, digits: list[int]) -> bool:
    """Whether it is written as phone numbers are: not as dates, versions and thousands are."""
    if len(digits) not in PHONE_DIGITS or _DATE.match(written):
        return False
    return written[0] in "+(" or digits[0] == 0 or _NORTH_AMERICAN.fullmatch(written) is not None


def _passes_luhn(digits: list[int]) -> bool:
    """Whether the last digit is the check digit that every card's number has."""
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _without_runs(written: str) -> str:
    return re.sub(rf"\d{{{LONGEST_RUN + 1},}}", MASK, written)
