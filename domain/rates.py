"""How often somebody may ask."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

RateName = Literal["reads", "changes", "logins", "strangers", "handshakes"]


class Rates(msgspec.Struct, frozen=True):
    """How often, as people write it: "120 per 10 seconds", "20 per minute"."""

    reads: str = "120 per 10 seconds"
    """What a person may look at."""
    changes: str = "30 per minute"
    """What a person may change."""
    logins: str = "30 per minute"
    """Logins and their callbacks from an address."""
    strangers: str = "60 per 10 seconds"
    """Everything else from an address by nobody who is logged in."""
    handshakes: str = "120 per minute"
    """WebSocket connections opened by a person."""


class RateLimiter(Protocol):
    """Counts requests. Never raises: there is always a limit."""

    async def hit(self, rate: RateName, who: str) -> float | None:
        """Count a request; return None when it may go on, otherwise in how many seconds one may.

        What is refused does not count.
        """
        ...
