"""JSON that means one thing to every reader, as bodies of requests and messages of sockets must be.

Each key once, numbers that fit into 64 bits, texts that are whole and that every store can keep, and no
deeper than anything that is asked for here.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal, NoReturn

from domain.errors import GuildhallError
from domain.text import storable

MAX_DEPTH = 20
MAX_SHOWN_KEY = 100

_LEAST_INTEGER, _GREATEST_INTEGER = -(2**63), 2**63 - 1

RefusedAs = Literal["invalid_json", "invalid_text", "duplicate_key"]


class JsonRefused(GuildhallError):
    """What came is no JSON, or could be read in two ways."""

    def __init__(self, code: RefusedAs, message: str, key: str | None = None) -> None:
        """Take a code for a program, a sentence for a person, and the key that it is about."""
        super().__init__(message)
        self.code = code
        self.key = key


def parse_plain_json(text: str | bytes) -> Any:
    """Return the value of a text in UTF-8; raise :class:`JsonRefused` when it has not exactly one meaning."""
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode(),
            object_pairs_hook=_said_once,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_of_64_bits,
        )
    except JsonRefused:
        raise
    except RecursionError:
        raise _too_deep() from None
    except UnicodeDecodeError:
        raise JsonRefused("invalid_json", "It must be UTF-8.") from None
    except ValueError:
        raise JsonRefused("invalid_json", "It must be JSON.") from None
    _require_tame(value)
    return value


def require_whole(text: str) -> None:
    """Refuse a text that holds half a character, or what no store can keep."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonRefused("invalid_json", "A text holds half a character.") from None
    if "\0" in text:
        raise JsonRefused("invalid_text", "A text holds a NUL, which nothing here can keep.")


def _said_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonRefused(
                "duplicate_key", "A key appears twice in one object.", storable(key)[:MAX_SHOWN_KEY]
            )
        found[key] = value
    return found


def _no_number(constant: str) -> NoReturn:
    raise JsonRefused("invalid_json", f"{constant} is no number in JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _too_large()
    return number


def _of_64_bits(text: str) -> int:
    # Counted first: to read a number takes time that grows faster than its length.
    if len(text) > len(str(_LEAST_INTEGER)):
        raise _too_large()
    number = int(text)
    if not _LEAST_INTEGER <= number <= _GREATEST_INTEGER:
        raise _too_large()
    return number


def _require_tame(value: Any) -> None:
    """Check depth and texts. Without recursion: how deep it goes is the question."""
    level, depth = [value], 0
    while level:
        deeper: list[Any] = []
        for each in level:
            match each:
                case str():
                    require_whole(each)
                case dict():
                    deeper += each.keys()
                    deeper += each.values()
                case list():
                    deeper += each
        depth += 1
        if depth > MAX_DEPTH and any(isinstance(each, dict | list) for each in level):
            raise _too_deep()
        level = deeper


def _too_large() -> JsonRefused:
    return JsonRefused("invalid_json", "A number is too large.")


def _too_deep() -> JsonRefused:
    return JsonRefused("invalid_json", f"It may be nested {MAX_DEPTH} levels deep at most.")
