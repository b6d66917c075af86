"""The garbage collector of a process that is one host's: its pauses are kept short.

A full collection looks at everything that it knows of. By default one comes whenever a quarter more lives
than at the last, so a burst of calls, each with its task and frames, brings several: 20,000 at once paused
the loop for 213 ms. Guilds are out of its sight (they are structs without it), and almost all else that
passes is freed by its count. What is left, cycles in the tracebacks of errors, waits for a quiet tick.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS, YOUNG_ROUNDS = 5_000, 5
"""A collection looks at so many, every fifth at five times as many: some milliseconds."""
NEVER = 1_000_000
COLLECT_EVERY_TICKS = 60


def tune() -> None:
    """Take what lives now out of the collector's sight, and leave full collections to ``collect``."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_ROUNDS, NEVER)


def collect() -> None:
    """Look at everything that came since and still lives."""
    gc.collect()
