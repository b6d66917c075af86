"""The times and sizes of a client."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The times and sizes of a client; the defaults are those of the dashboard's page."""

    handshake_s: float = 15.0
    """From opening the socket to "subscribed"; a proxy may accept a socket and then say nothing."""
    stable_after_s: float = 10.0
    """A connection that lasted this long starts the backoff anew."""
    replay_s: float = 5.0
    """After a resume the replayed events follow at once; later than this they are lost."""
    backoff_first_s: float = 1.0
    backoff_most_s: float = 60.0
    restart_least_s: float = 0.5
    restart_most_s: float = 5.0
    """After a restart everyone comes back at once; this spreads them."""
    buffered_events: int = 5_000
    """Ten seconds of a storm of 500 events/s may wait for a load; beyond it a load starts anew."""
    queued_events: int = 5_000
    """As many may wait for the consumer; beyond it the socket is let go until the consumer has caught up."""
