"""How those are who live for long, and where whoever looks after them writes it up."""

from __future__ import annotations

from typing import Literal, Protocol

from domain.views import View

ChildCondition = Literal["starting", "healthy", "unhealthy", "backing_off"]

LASTS_MS = 15_000
"""What was written up longer ago says nothing any more."""


class ChildView(View):
    """An actor, or the front door, as its supervisor sees it."""

    name: str
    state: ChildCondition
    since: int
    """Since when it is in this state."""
    restarts: int
    error: str | None
    """What went wrong last; it stays after the recovery."""


class SupervisionBoard(Protocol):
    """Where the supervisor writes up its children. Raises ``StoreUnavailable`` when it is away."""

    async def publish(self, children: list[ChildView]) -> None:
        """Write up how all of them are, in place of what was there."""
        ...

    async def read(self) -> list[ChildView] | None:
        """Return what was written up lately; None when nothing was, so that nobody can say."""
        ...
