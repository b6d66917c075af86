"""Keeps the garbage collector's pauses short in a process that holds thousands of sockets.

A full collection looks at everything that lives: half a second with 5,000 sockets, in which nobody gets a
frame. Sockets live long and leave no cycles behind when they close (a test sees to that), so they are
taken out of the collector's sight, some hundreds at a time; reference counts free them as ever.
"""

from __future__ import annotations

import gc

FREEZE_EVERY = 500
"""Sockets that were opened since the last time: a collection looks at no more than these."""
YOUNG_OBJECTS = 20_000
"""By default 700: two handshakes, whose passing objects would be taken for long-lived ones."""


class Collector:
    """Counts the sockets that are opened in this process."""

    def __init__(self) -> None:
        self._opened = 0
        gc.set_threshold(YOUNG_OBJECTS, 10, 10)

    def opened(self) -> None:
        """Know of one more."""
        self._opened += 1
        if self._opened % FREEZE_EVERY == 0:
            gc.collect()
            gc.freeze()
