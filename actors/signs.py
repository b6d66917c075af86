"""Signs of life of hosts: what their pings said, for replicas that believe what they remember for so long.

A sign says when a host was heard, and how many changes it had told a stream by then. A replica that got as
many knows that nothing was on its way at that time. So no stream says anything while nothing changes: 100
hosts and 64 replicas would tell each other 6,400 times a second that there is nothing to tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Sign(NamedTuple):
    """That a host was heard."""

    age_s: float
    """So long ago its ping was sent; it lived at that time or after it."""
    told: int | None
    """How many changes the stream had been told by then; None when the host knew no such stream."""


class SignSource(Protocol):
    """Who hears all hosts: the Director."""

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        """Return what is known of hosts, each named with a stream from it; may raise ``HostUnreachable``."""
        ...


class Signs:
    """Owns the last sign of each host."""

    def __init__(self) -> None:
        self._pings: dict[str, tuple[float, Mapping[str, int]]] = {}

    def note(self, host_id: str, sent_s: float, told: Mapping[str, int]) -> None:
        """Know that a host, in its valid life, answered a ping that was sent at that time."""
        self._pings[host_id] = (sent_s, told)

    def forget(self, host_id: str) -> None:
        """Say no more of a host: this life of it is over."""
        self._pings.pop(host_id, None)

    def of(self, streams: Mapping[str, str], now_s: float) -> dict[str, Sign]:
        """Return the signs of hosts that were heard, by host and stream."""
        return {
            host_id: Sign(now_s - sent_s, told.get(stream_id))
            for host_id, stream_id in streams.items()
            if host_id in self._pings
            for sent_s, told in [self._pings[host_id]]
        }
