"""When a relay writes: at once, unless it has just had much to write.

A write to all sockets costs about as much however short the frames are, here and in all that stands between
here and a browser. So what comes in a rest after a long write goes out together. A relay that keeps up lets
nobody wait; one that is busy writes longer frames instead of more of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

REST_PER_WRITE = 0.5
"""A relay writes for two thirds of its time at most, while its rests are not cut short."""


class Pace(NamedTuple):
    """How a relay paces itself."""

    longest_rest_s: float = 0.025
    """With 0 it never rests, and no two events share a frame."""
    used_s: Callable[[], float] = time.thread_time
    """What this thread has used of a core. Time in which others had it says nothing of what a write costs."""


def rest_s(wrote_s: float, longest_s: float) -> float:
    """Return how long to rest after a write to all sockets that took so long of a core."""
    return min(wrote_s * REST_PER_WRITE, longest_s)
