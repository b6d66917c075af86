"""Identifiers: Discord's snowflakes, a guild's slot, and deterministic event ids."""

from __future__ import annotations

import hashlib
from uuid import UUID

SLOTS = 4096
"""Number of slots guilds are hashed into. Part of the placement contract: never changes."""

DISCORD_EPOCH_MS = 1_420_070_400_000
MAX_SNOWFLAKE = 2**63 - 1

HOUR_MS = 3_600_000


def slot_of(guild_id: int) -> int:
    """Return the slot (0 ≤ slot < 4096) of a guild, the same in every process and release.

    Hashed and not taken from the id's bits: the low bits of a snowflake are a per-process counter,
    its high bits are time, and neither spreads evenly.
    """
    digest = hashlib.blake2b(guild_id.to_bytes(8, "big"), digest_size=2).digest()
    return int.from_bytes(digest, "big") % SLOTS


def snowflake_ms(snowflake: int) -> int:
    """Return the Unix time in milliseconds at which Discord made this id."""
    return (snowflake >> 22) + DISCORD_EPOCH_MS


def _pattern_up_to(most: str) -> str:
    """Return a regular expression for the numbers from 1 to ``most``, written as digits."""
    shorter = rf"[1-9][0-9]{{0,{len(most) - 2}}}"
    # As long as the most, and smaller in one place after the same beginning.
    smaller = [
        rf"{most[:at]}[{0 if at else 1}-{int(digit) - 1}][0-9]{{{len(most) - at - 1}}}"
        for at, digit in enumerate(most)
        if int(digit) > (0 if at else 1)
    ]
    return f"^({'|'.join([shorter, *smaller, most])})$"


SNOWFLAKE_PATTERN = _pattern_up_to(str(MAX_SNOWFLAKE))
"""What :func:`parse_snowflake` takes, for descriptions."""


def parse_snowflake(text: str) -> int | None:
    """Return the id written in ``text``, or None when it is no Discord id (1 … 2^63-1, plain digits).

    Each id has one way to be written: with a zero in front it would be answered under another name.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or text[0] == "0":  # noqa: PLR2004 - digits of 2^63
        return None
    value = int(text)
    return value if 0 < value <= MAX_SNOWFLAKE else None


ORDERED_FROM_MS = 1_814_400_000_000
"""Ids of violations by messages from this time on (July 2027, UTC) begin with the time: it never changes."""


def violation_id(guild_id: int, message_id: int, rule: str) -> UUID:
    """Return the event id of "this message broke this rule": the same however often it is reported.

    Those of younger messages are UUIDs of version 8: 48 bits of Discord's time, in milliseconds, and 74 of a
    hash. Neighbours in time are neighbours in the index, however many there are.
    """
    seed = f"violation:{guild_id}:{message_id}:{rule}".encode()
    digest = hashlib.blake2b(seed, digest_size=16).digest()
    ms = snowflake_ms(message_id)
    if ms < ORDERED_FROM_MS:
        return UUID(bytes=digest)
    made = bytearray(ms.to_bytes(6, "big") + digest[6:])
    made[6] = 0x80 | made[6] & 0x0F  # version 8: made by a rule of our own
    made[8] = 0x80 | made[8] & 0x3F  # the variant of RFC 9562
    return UUID(bytes=bytes(made))


def hour_start(ts_ms: int) -> int:
    """Return the start of the UTC hour that holds ``ts_ms``, in Unix milliseconds."""
    return ts_ms - ts_ms % HOUR_MS
