"""Whether this replica can do its work, as Serve asks it and as it says itself."""

from __future__ import annotations

from collections.abc import Callable

from domain.errors import ReplicaAiling
from tasks import ailing_here

LOOK_EVERY_S = 0.5
WINDOW_S = 60.0
"""For between one and two of these, the longest time is remembered."""


async def check_health(deployment: object) -> None:
    """Raise ``ReplicaAiling`` when tasks cannot go on: a method of deployments, which Serve calls.

    A replica that raises three times in a row, or does not answer in time because its event loop is held up,
    is replaced; how often Serve asks stands in :mod:`guildhall.deployments`.
    """
    del deployment
    if ailing := ailing_here():
        raise ReplicaAiling(", ".join(ailing))


class LoopWatch:
    """Sees for how long the event loop was held up: nobody was answered, or sent anything, meanwhile."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._window_began_s = self._looked_s = now_s()
        self._longest_s = self._longest_before_s = 0.0

    async def look(self) -> None:
        """Note how late this look is; to be called ``LOOK_EVERY_S`` after the last one ended."""
        now_s = self._now_s()
        late_s = now_s - self._looked_s - LOOK_EVERY_S
        self._looked_s = now_s
        if now_s - self._window_began_s >= WINDOW_S:
            self._window_began_s = now_s
            self._longest_before_s, self._longest_s = self._longest_s, 0.0
        self._longest_s = max(self._longest_s, late_s)

    @property
    def blocked_ms(self) -> int:
        """For how long the loop was held up, at most, within the last minute or two."""
        return round(1000 * max(self._longest_s, self._longest_before_s))
