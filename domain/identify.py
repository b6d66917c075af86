"""Who may send an IDENTIFY, and when: Discord's limits on beginning sessions, for all runners together.

Discord lets one shard of each bucket (``shard_id % max_concurrency``) in per five seconds, and a bot begin so
many sessions a day; a bot that begins more loses its token. A RESUME is free.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class SessionStarts(msgspec.Struct, frozen=True):
    """Discord's ``session_start_limit``, as it says it now."""

    total: int
    remaining: int
    reset_after_ms: int
    max_concurrency: int


class IdentifyRules(msgspec.Struct, frozen=True):
    """How grants are spaced."""

    interval_ms: int = 5_500
    """Between two of a bucket: Discord's five seconds from when it *receives* one, and half a second for a
    way that takes longer than the next one's."""
    hold_ms: int = 20_000
    """A grant that is neither spent nor given back keeps its bucket so long: whoever has it may have died, or
    may be about to use it."""
    refresh_ms: int = 60_000
    """How old what Discord says of its limits may be."""
    jump_ms: int = 1_000
    """The clock of the book was set forward when it is ahead of the time that passed here by more than this,
    which is more than an answer may take."""
    ask_ms: int = 5_000
    """While one runner asks Discord, the others wait for its answer, no longer than this."""


class IdentifyGrant(msgspec.Struct, frozen=True):
    """Leave to send one IDENTIFY, within the rules' ``hold_ms``."""

    bucket: int
    holder: str


Reason = Literal["bucket", "budget", "limits"]


class Later(msgspec.Struct, frozen=True):
    """Not now. ``why``: the bucket is taken, the day's starts are used up, or Discord is being asked."""

    wait_ms: int
    why: Reason


class LimitsUnknown(msgspec.Struct, frozen=True):
    """Ask Discord for its limits, ``note`` them, and ask again: you are the one who is to do it."""


class IdentifyGrants(Protocol):
    """The one book of a bot's grants. All calls raise ``StoreUnavailable`` when nobody can look into it."""

    async def ask(self, shard_id: int, holder: str) -> IdentifyGrant | Later | LimitsUnknown:
        """Ask for leave to identify a shard; ``holder`` names this asking and no other."""
        ...

    async def note(self, starts: SessionStarts) -> None:
        """Note what Discord says."""
        ...

    async def spent(self, grant: IdentifyGrant) -> None:
        """Note that the IDENTIFY was sent: the bucket's next one is an interval from now."""
        ...

    async def give_back(self, grant: IdentifyGrant) -> None:
        """Note that the IDENTIFY was certainly not sent: the bucket is free."""
        ...


def expected_s(missing: int, max_concurrency: int, budget_wait_ms: int = 0) -> int:
    """Return how many seconds it takes until so many shards are let in, the last of them."""
    rounds = -(-missing // max_concurrency)
    return (budget_wait_ms + max(0, rounds - 1) * IdentifyRules().interval_ms + 999) // 1000


def reserve(total: int) -> int:
    """Return how many of a day's starts are left alone: what else uses the token may begin some, too."""
    return min(50, total // 20)
