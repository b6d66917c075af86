"""What the replicas did, and where they tell each other."""

from __future__ import annotations

from typing import Protocol

import msgspec


class CacheCounts(msgspec.Struct):
    """What a cache did since its replica began, and what it holds."""

    hits: int = 0
    misses: int = 0
    """Callers for whom a load began."""
    shared: int = 0
    """Callers who were given the answer of a load that was under way for another."""
    failures: int = 0
    """Loads that failed."""
    invalidations: int = 0
    """Changes of a guild of which something was remembered or being loaded."""
    entries: int = 0


class RelayCounts(msgspec.Struct):
    """What a relay did since its replica began, and what it holds."""

    sockets: dict[str, int] = {}
    """Open ones, by the way their frames are written."""
    subscriptions: int = 0
    frames: int = 0
    """Frames written to sockets."""
    bytes: int = 0
    """Bytes of these."""
    closed: dict[str, int] = {}
    """Sockets that the relay closed, by close code, as ``"4008"``."""
    hosts: int = 0
    """Streams of hosts that stand."""
    authority_changes: int = 0
    """Changes of authority that the Rbac actor told of."""
    authority_looks: int = 0
    """Subscriptions that were looked at without being told of a change."""
    authority_unknown: int = 0
    """Answers that said nothing, because nobody could be asked."""
    revocations: int = 0
    """Subscriptions that were ended because of a change that was told of."""
    slowest_revocation_ms: int = 0
    """The longest time from such a change to the end of a subscription."""


class ReplicaCounts(msgspec.Struct):
    """What a replica has to tell, of whichever kind it is."""

    caches: dict[str, CacheCounts] = {}
    """By the name of the cache."""
    relay: RelayCounts | None = None
    ailing: tuple[str, ...] = ()
    """Its tasks that break whenever they begin, or hang, each with its owner."""
    blocked_ms: int = 0
    """For how long its event loop was held up, at most, within the last minute or two."""


class CountsBoard(Protocol):
    """Where replicas write up their counts for each other. Raises ``StoreUnavailable`` when it is away."""

    async def exchange(self, replica: str, counts: ReplicaCounts) -> dict[str, ReplicaCounts]:
        """Write up a replica's counts; return those of all that did so lately, this one included."""
        ...
