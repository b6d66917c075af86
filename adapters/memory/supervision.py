"""The twin of the supervisor's board."""

from __future__ import annotations

from collections.abc import Callable

from domain.errors import StoreUnavailable
from domain.supervision import LASTS_MS, ChildView


class MemorySupervision:
    """Implements :class:`domain.supervision.SupervisionBoard`."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._written: tuple[int, list[ChildView]] | None = None
        self.available = True

    async def publish(self, children: list[ChildView]) -> None:
        """See the port."""
        self._require()
        self._written = self._now_ms(), children

    async def read(self) -> list[ChildView] | None:
        """See the port."""
        self._require()
        if self._written is None or self._written[0] <= self._now_ms() - LASTS_MS:
            return None
        return self._written[1]

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable
