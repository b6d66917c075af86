"""When a relay writes: at once, unless it has just had much to write.

A write to all sockets costs about as much however short the frames are, here and in all that stands between
here and a browser. So what comes in a rest after it goes out together, which pays in a storm and only there:
where events are few, a rest would save no write and make the next event wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

EVENTS_WORTH_A_REST = 10
"""When so many events shared a frame, a relay rests for as long as it wrote it; the more, the longer."""


class Pace(NamedTuple):
    """How a relay paces itself."""

    longest_rest_s: float = 0.025
    """With 0 it never rests, and no two events share a frame."""
    used_s: Callable[[], float] = time.thread_time
    """What this thread has used of a core. Time in which others had it says nothing of what a write costs."""


def rest_s(wrote_s: float, events: int, longest_s: float) -> float:
    """Return how long to rest after a write that took so long of a core and that so many events shared."""
    return min(wrote_s * events / EVENTS_WORTH_A_REST, longest_s)
