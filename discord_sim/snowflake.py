"""Discord's ids: 42 bits of milliseconds since 2015, then 22 bits to tell things of one apart."""

from __future__ import annotations

from datetime import UTC, datetime

DISCORD_EPOCH_MS = 1_420_070_400_000
_TIME_SHIFT = 22
_LOW_BITS = (1 << _TIME_SHIFT) - 1


def snowflake(ms: int, low: int = 0) -> int:
    """Return the id of something made at Unix millisecond `ms`."""
    return (ms - DISCORD_EPOCH_MS) << _TIME_SHIFT | (low & _LOW_BITS)


def timestamp_ms(snowflake_id: int) -> int:
    """Return the Unix millisecond an id was made at."""
    return (snowflake_id >> _TIME_SHIFT) + DISCORD_EPOCH_MS


def shard_of(guild_id: int, shard_count: int) -> int:
    """Return the shard that hears about a guild."""
    return (guild_id >> _TIME_SHIFT) % shard_count


def iso(ms: int) -> str:
    """Return Unix milliseconds the way Discord writes times."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="microseconds")


class SnowflakeClock:
    """Gives out ids that only ever grow, even when the wall clock steps back."""

    def __init__(self) -> None:
        self._last = 0

    def next(self, now_ms: int) -> int:
        """Return a fresh id for something made now."""
        self._last = max(self._last + 1, snowflake(now_ms))
        return self._last
