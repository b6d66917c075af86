"""The clocks, in the unit that everything here uses."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Return milliseconds since some moment, by a clock that nobody sets: for ages within a process."""
    return time.monotonic_ns() // 1_000_000
