"""The whole network as its operators see it: hosts, shard runners, placement, gaps and rates."""

from __future__ import annotations

from typing import Literal, Protocol

from domain.supervision import ChildView
from domain.views import View


class HostView(View):
    """A guild host. One that does not answer has an id and the guilds it was given, no figures."""

    id: str
    answers: bool
    slots: int
    """Of the 4,096 that guilds are hashed into."""
    dedicated_guilds: list[str]
    incarnation: int | None = None
    guilds: int | None = None
    """That are alive in its memory."""
    watched_guilds: int | None = None
    waiting_events: int | None = None
    committed_events: int | None = None
    """In this life of the host."""
    poison_events: int | None = None
    refused_batches: int | None = None
    store_available: bool | None = None


class BlindShardView(View):
    """A shard that hears nothing of its guilds now."""

    shard: int
    since: int | None = None
    """Until when it heard something, in Unix milliseconds; null if it never did."""


class RunnerView(View):
    """A shard runner. One that does not answer has an id, no figures."""

    id: str
    answers: bool
    shards: int | None = None
    shards_connected: int | None = None
    blind_shards: list[BlindShardView] | None = None
    """Those that are not connected."""
    refusal: str | None = None
    """Why a shard of it does not get in at all."""
    messages: int | None = None
    """In this life of the runner, like all that follows but the spool."""
    violations: int | None = None
    sent_events: int | None = None
    waiting_events: int | None = None
    lost_events: int | None = None
    spooled_batches: int | None = None
    spooled_bytes: int | None = None
    oldest_spooled: int | None = None


class ShardsView(View):
    """How far all shards are with connecting to Discord's gateway."""

    total: int
    connected: int
    expected_s: int | None = None
    """How long it takes until all are, by Discord's limits; nothing when all are, or when nobody knows."""
    waits_for: str | None = None


class GapView(View):
    """A time for which a source heard nothing ("blind"), or had to give events up ("overflow").

    Or one that a restore of the database took back ("restored"), or of which a shard runner lost what it had
    heard, together with the node that it was on ("spool_lost").
    """

    source: str
    reason: str
    since: int
    until: int
    lost_events: int
    recorded_at: int


class Totals(View):
    """What the database counts, over the last hour and the one that runs."""

    guilds: int
    guilds_online: int
    messages: int
    violations: int
    open_poison: int


class ReplicaHealth(View):
    """An API replica or a relay, as it says itself how it is."""

    id: str
    kind: Literal["api", "relay"]
    ailing: list[str]
    """Its tasks that break whenever they begin, or hang. Serve replaces such a replica."""
    blocked_ms: int
    """For how long its event loop was held up, at most, within the last minute or two."""


class NetworkView(View):
    """Everything at one look. ``director_answers`` is false when nobody can say what the hosts do."""

    director_answers: bool
    placement_version: int | None
    hosts: list[HostView]
    runners: list[RunnerView]
    shards: ShardsView
    supervised: list[ChildView] | None
    """How those are who live for long; null when nobody can say."""
    totals: Totals
    gaps: list[GapView]
    """The newest, at most fifty."""
    replicas: tuple[ReplicaHealth, ...] = ()
    """Those that said lately how they are; while Redis is away, the one that answers alone."""


class Network(Protocol):
    """Whoever can look at all of it."""

    async def look(self) -> NetworkView:
        """Ask everybody, for a bounded time. Raises ``StoreUnavailable`` when the database is away."""
        ...

    async def silent(self) -> list[str]:
        """Return the names of hosts that do not answer. Raises ``HostUnreachable`` when nobody can say."""
        ...


class NetworkStore(Protocol):
    """The database's part. All calls raise ``StoreUnavailable`` when it is away."""

    async def totals(self) -> Totals:
        """Return what is counted."""
        ...

    async def gaps(self, *, limit: int) -> list[GapView]:
        """Return the newest gaps, newest first."""
        ...
