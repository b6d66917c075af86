"""How long to wait before what ends too soon begins anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

_MOST_DOUBLINGS = 16
"""Keeps the power small; every limit is reached long before."""


class Backoff(msgspec.Struct, frozen=True):
    """Pauses that double with each life in a row that ended too soon."""

    first_s: float = 0.5
    max_s: float = 30.0
    stable_after_s: float = 60.0
    """A life that was well for so long makes the next pause the first one again."""

    def pause_s(self, failures: int, jitter: float = 1.0) -> float:
        """Return the pause after so many that failed; ``jitter`` (0…1) keeps a crowd from one step."""
        most = min(self.max_s, self.first_s * 2.0 ** min(failures, _MOST_DOUBLINGS))
        return most * (0.5 + jitter / 2)


class Lives:
    """Knows, by name, when the next life may begin: at once if it is the first, or after one that lasted."""

    def __init__(self, backoff: Backoff, now_s: Callable[[], float]) -> None:
        self._backoff = backoff
        self._now_s = now_s
        self._failures: dict[str, int] = {}
        self._began_s: dict[str, float] = {}
        self._due_s: dict[str, float] = {}

    def wait_s(self, name: str) -> float:
        """Return how long the next life has to wait; 0 when it may begin."""
        return max(0.0, self._due_s.get(name, -math.inf) - self._now_s())

    def tried(self, name: str, *, began: bool) -> None:
        """Note that a life began just now, or could not."""
        now_s = self._now_s()
        if name in self._began_s and now_s - self._began_s.pop(name) >= self._backoff.stable_after_s:
            self._failures.pop(name, None)
        failures = self._failures.get(name, 0)
        self._failures[name] = failures + 1
        self._due_s[name] = now_s + self._backoff.pause_s(failures)
        if began:
            self._began_s[name] = now_s

    def forget(self, name: str) -> None:
        """Forget what ended for good."""
        for known in (self._failures, self._began_s, self._due_s):
            known.pop(name, None)
