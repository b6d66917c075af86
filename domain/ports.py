"""What the actors and the web side need from the outside, and nothing of how it is done.

Each port has its real adapter and its in-memory twin in :mod:`adapters`; one contract suite tests both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol
from uuid import UUID

import msgspec

from domain.authority import AuthorityNotice
from domain.detection import Message, SeenText
from domain.events import Event, Gap, Sender, UserRef
from domain.guild import Effect, GuildState, HourCounts
from domain.placement import Placement
from domain.views import ViolationView


class BatchMark(msgspec.Struct, frozen=True):
    """The highest batch number taken from a source; written with the batch, in its transaction."""

    source: str
    number: int


class PoisonEvent(msgspec.Struct, frozen=True):
    """An event that cannot be taken, set aside with its reason."""

    source: str
    number: int
    guild_id: int | None
    reason: str
    payload: bytes


class Commit(msgspec.Struct, frozen=True):
    """Everything that one transaction makes durable, all of it or nothing."""

    effects: tuple[Effect, ...]
    users: tuple[UserRef, ...]
    marks: tuple[BatchMark, ...]
    gaps: tuple[tuple[str, Gap], ...] = ()
    """(source, gap): what a shard had to give up."""
    poison: tuple[PoisonEvent, ...] = ()
    senders: tuple[Sender, ...] = ()
    """The lives of shard runners that sent the batches."""


class Committed(msgspec.Struct, frozen=True):
    """What a transaction found: which violations were new, and the rows that learned of their action."""

    new_violations: frozenset[UUID]
    settled: tuple[ViolationView, ...]
    committed_at_ms: int


class Incarnation(msgspec.Struct, frozen=True):
    """A host's life: the number is higher in every life, of any host, and no restore brings one back."""

    host_id: str
    number: int


class HostRow(msgspec.Struct, frozen=True):
    """A host that has lived: its last incarnation, and the name of the actor that is or was it."""

    host_id: str
    incarnation: int
    actor_name: str


class NodeRef(msgspec.Struct, frozen=True):
    """A machine of the cluster. Its id ends with its Ray; its address may be another machine's one day."""

    node_id: str
    address: str


class RunnerLife(msgspec.Struct, frozen=True):
    """A life of a shard runner: whoever creates it gives it a number that is higher than all before."""

    runner_id: str
    incarnation: int
    node: NodeRef


class RunnerRow(msgspec.Struct, frozen=True):
    """The newest life of a shard runner, and where it keeps what no host has taken yet."""

    incarnation: int
    spool_id: str
    node: NodeRef
    covered_ms: int
    """Until when everything that it heard is in the database, or is told as a gap."""


class PoisonRow(msgspec.Struct, frozen=True):
    """An event that is set aside, and since when."""

    poison_id: int
    event: PoisonEvent
    at_ms: int


class GuildStore(Protocol):
    """The durable side of guild hosts. All calls raise ``StoreUnavailable`` when the database is away."""

    async def register_director(self) -> int:
        """Begin a new life of the Director; return its incarnation. Earlier ones can change nothing any more.

        What is told of a Director below is its incarnation, 0 where none ever began. All of these raise
        ``Fenced`` when another has begun since; nothing was written then.
        """
        ...

    async def register_host(
        self, host_id: str, actor_name: str = "", director: int | None = None
    ) -> Incarnation:
        """Begin a new life of a host, for a Director; every earlier life of it can no longer commit."""
        ...

    async def renew_token(self, incarnation: Incarnation, known: Collection[int], token: int) -> None:
        """Replace what this life wrote here last, which is one of ``known`` (0 at first), by ``token``.

        Raises:
            Fenced: the incarnation is over.
            HistoryTakenBack: something else stands there: the database was restored to an earlier time.

        """
        ...

    async def write_taken_back(self, host_id: str) -> None:
        """Record the time that a restore took back as a coverage gap, once, whichever host finds it out."""
        ...

    async def retire_host(self, host_id: str, director: int | None = None) -> None:
        """End a host for good: no life of it can commit any more."""
        ...

    async def hosts(self) -> list[HostRow]:
        """Return the hosts that are not retired, by id."""
        ...

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """Return the newest life of a shard runner, if it ever had one."""
        ...

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """Make a life of a shard runner its newest: nothing that an earlier one sends is taken from here on.

        With another spool than the last one, all that was heard since ``covered_ms`` may be lost: that time
        until now is recorded as a gap in the same transaction. ``after`` is the incarnation that was found,
        0 for none. Returns what stands there in the end: another one's where that is not what was found.
        """
        ...

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """Note until when everything that a runner heard is in the database, None if it cannot say.

        And which spool holds the rest. Raises ``RunnerReplaced`` when a later life has begun.
        """
        ...

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """Return deletions that nobody has told the end of, of violations in ``[span_ms)``, oldest first."""
        ...

    async def write_placement(self, placement: Placement) -> None:
        """Record which host owns which slot, for the Director that the placement names.

        Raises ``PlacementTaken`` when its version is not new.
        """
        ...

    async def last_placement(self) -> Placement | None:
        """Return the newest placement ever written, if any was."""
        ...

    async def load_guilds(self, guild_ids: list[int], since_ms: int) -> dict[int, GuildState]:
        """Return the durable state of these guilds, with their hours from ``since_ms`` on.

        A guild that nobody ever heard of is missing from the answer.
        """
        ...

    async def taken_number(self, source: str) -> int:
        """Return the highest batch number taken from ``source``, 0 if none was."""
        ...

    async def settled_number(self, incarnation: Incarnation, source: str) -> int:
        """Return what ``taken_number`` does, once no transaction of this life is open any more.

        For when the answer to a commit was lost: it may still be under way in the database.
        """
        ...

    async def commit(self, incarnation: Incarnation, commit: Commit) -> Committed:
        """Make a commit durable in one transaction.

        Raises:
            Fenced: the incarnation is over; nothing was written.
            RunnerReplaced: a sender is not the newest life of its runner; nothing was written.
            BatchTaken: one of the marks is not new; nothing was written.
            EventRefused: the database will never take this; nothing was written.
            StoreUnavailable: nothing is known to be written; the same commit may be tried again.

        """
        ...

    async def probe(self, incarnation: Incarnation, commit: Commit) -> None:
        """Try a commit and take it back: raises what ``commit`` would raise."""
        ...

    async def poison(self, *, limit: int, source: str | None = None) -> list[PoisonRow]:
        """Return the events that are set aside, of all sources or of one, oldest first."""
        ...

    async def find_poison(self, poison_id: int) -> PoisonRow | None:
        """Return an event that is set aside, or None when there is none or it is dealt with."""
        ...

    async def settle_poison(self, poison_id: int) -> None:
        """Note that an event that was set aside is dealt with."""
        ...

    async def ensure_partitions(self, now_ms: int) -> None:
        """Make the months around ``now_ms`` ready to take violations."""
        ...

    async def forget(self, now_ms: int, retention_days: int) -> bool:
        """Delete some of what is too old, with its reviews and counts; return whether to go on at once.

        A month goes once all of it is older than ``retention_days``. A guild may keep violations for fewer
        days (``retention_days`` in its configuration): then each goes when it is older. Of placements, the
        latest ``PLACEMENTS_KEPT`` stay.
        """
        ...

    async def roll_up(self) -> bool:
        """Count some of what is not in the rollups yet; return whether to go on at once.

        That is what an earlier release stored, and people whose violations came in no order.
        """
        ...


class GuildRow(msgspec.Struct, frozen=True):
    """What the store knows of a guild."""

    guild_id: int
    name: str | None
    icon_url: str | None
    member_count: int | None
    bot_present: bool
    bot_online: bool


class DashboardStore(Protocol):
    """The reading side, for HTTP. All calls raise ``StoreUnavailable`` when the database is away."""

    async def guilds(self, guild_ids: list[int]) -> dict[int, GuildRow]:
        """Return the guilds that are known, by id."""
        ...

    async def hours(self, guild_id: int, since_ms: int) -> list[HourCounts]:
        """Return the hours from ``since_ms`` on in which something happened, oldest first."""
        ...

    async def ping(self) -> None:
        """Return when the database answers."""
        ...


class Position(msgspec.Struct, frozen=True, array_like=True):
    """An event's place in what Discord told a shard in one session."""

    shard_id: int
    session_id: str
    sequence: int


class GatewaySession(msgspec.Struct, frozen=True, array_like=True):
    """What a session is taken up with again, behind the event of this number."""

    session_id: str
    resume_url: str
    sequence: int


class ShardState(msgspec.Struct, frozen=True, array_like=True):
    """Until when a shard heard everything, and its session if that can be taken up again."""

    shard_id: int
    heard_ms: int | None
    session: GatewaySession | None = None


class PendingDeletion(msgspec.Struct, frozen=True, array_like=True):
    """A message that is to be deleted, and the violation that waits to hear of it."""

    guild_id: int
    event_id: UUID
    ts_ms: int
    channel_id: int
    message_id: int


class EarlierLife(msgspec.Struct, frozen=True):
    """What an earlier life of a runner left behind. ``guilds`` is what it knew of guilds, as it wrote it."""

    heard_until_ms: int | None = None
    shards: tuple[ShardState, ...] = ()
    guilds: dict[int, bytes] = {}
    seen: tuple[SeenText, ...] = ()
    deletions: tuple[PendingDeletion, ...] = ()


class BotHandler(Protocol):
    """What a bot connection tells, one call at a time and in Discord's order within a guild."""

    def on_message(self, message: Message, at: Position | None = None) -> None:
        """Somebody who is no bot posted a message."""
        ...

    def on_event(self, event: Event, at: Position | None = None) -> None:
        """Something happened in a guild that is reported as it is."""
        ...

    def on_authority(self, notice: AuthorityNotice) -> None:
        """Somebody lost or gained authority in a guild."""
        ...

    def on_gap(self, gap: Gap) -> None:
        """Discord does not tell what a shard missed while it did not listen."""
        ...


class BlindShard(msgspec.Struct, frozen=True):
    """A shard that hears nothing of its guilds, and until when it did; None if it never has."""

    shard_id: int
    since_ms: int | None


class BotProgress(msgspec.Struct, frozen=True):
    """How far a runner's shards are with connecting."""

    shards: int
    connected: int
    max_concurrency: int | None = None
    """Shards that Discord lets in at once, as far as this runner was told."""
    waits_for: str | None = None
    """What shards that have no leave to identify wait for."""
    budget_wait_ms: int = 0
    """How long Discord lets no session begin any more; 0 while it does."""
    refusal: str | None = None
    """Why shards do not get in at all, in a sentence."""
    blind: tuple[BlindShard, ...] = ()
    """The shards that are not connected."""
    ailing: tuple[str, ...] = ()
    """What the connection cannot go on with: its tasks that break whenever they begin."""


class BotConnection(Protocol):
    """A runner's shards on Discord's gateway, and what they may do there."""

    async def start(self, handler: BotHandler, earlier: EarlierLife | None = None) -> None:
        """Log in and begin to connect all shards, which may take as long as Discord's limits on it ask for.

        Sessions of an earlier life are taken up again: Discord tells what happened since. What it does not
        tell any more, ``on_gap`` does.

        Raises:
            BotRefused: the token is wrong, or Discord cannot be asked.

        """
        ...

    def progress(self) -> BotProgress:
        """Return how far the shards are with connecting, once started."""
        ...

    async def stop(self) -> None:
        """Leave the gateway."""
        ...

    def shards(self) -> tuple[ShardState, ...]:
        """Return how each shard stands now: everything up to its session's number was handed on.

        Its time stands still while it is cut off or says nothing, and when the gateway was left. A time that
        is missed for good is passed only when ``on_gap`` has told it. Without a session the next life begins
        anew.
        """
        ...

    def changed_guilds(self) -> dict[int, bytes | None]:
        """Return what changed of the guilds since the last call, to be kept; None: the bot is not there."""
        ...

    async def delete_message(self, channel_id: int, message_id: int) -> bool:
        """Delete a message; return whether it is gone, by us or by others."""
        ...


SEEN_KEPT_MS = 60_000
"""How long texts are kept for a later life; repetitions are looked for within half of that."""


class SpooledBatch(msgspec.Struct, frozen=True):
    """What is known of a batch in a spool without reading its bytes.

    A batch holds events or, where some were given up, only the gap that says so.
    """

    position: int
    """Its place in the order of the whole spool."""
    lane: str
    source: str
    number: int
    events: int
    lost_events: int
    since_ms: int
    until_ms: int
    """The times of its events, or of those that its gap stands for."""
    size: int
    """Length of its bytes."""


class SpoolContents(msgspec.Struct, frozen=True):
    """What an earlier life left in a spool, in order."""

    batches: tuple[SpooledBatch, ...] = ()
    alive_ms: int | None = None
    """Until when the earlier life heard everything, as it last said; None when there was none."""
    saved: bytes | None = None
    """What it left to say of its sessions."""
    guilds: dict[int, bytes] = {}
    seen: tuple[SeenText, ...] = ()
    spool_id: str = ""
    """Made with the spool, and the same for as long as it is there."""


class SpoolChanges(msgspec.Struct, frozen=True):
    """What changes in a spool at once, all of it or nothing."""

    put: tuple[tuple[SpooledBatch, bytes], ...] = ()
    """Batches with their bytes, in place of what is at their positions."""
    removed: tuple[int, ...] = ()
    alive_ms: int | None = None
    saved: bytes | None = None
    """In place of what was saved before."""
    guilds: dict[int, bytes | None] = {}
    """What is known of guilds, by id, in place of what is there; None takes it out."""
    seen: tuple[SeenText, ...] = ()
    """Texts that were seen since the last write. What is older than ``SEEN_KEPT_MS`` goes."""


class Spool(Protocol):
    """Batches on local disk that no host has taken yet; what was written survives a kill.

    All calls raise ``StoreUnavailable`` when the disk does not do what it is asked.
    """

    async def open(self) -> SpoolContents:
        """Return what is there. A spool that cannot be read is put aside, and a new one begun."""
        ...

    async def write(self, changes: SpoolChanges) -> None:
        """Make changes durable; calls take effect in the order in which they are made."""
        ...

    async def read(self, position: int) -> bytes | None:
        """Return a batch's bytes, or None when they are not there (any more)."""
        ...

    async def close(self) -> None:
        """Let go of the file."""
        ...


class Announcer(Protocol):
    """How a change that was made over HTTP reaches everybody whom it concerns."""

    async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        """Tell everybody who watches a guild, and every replica that remembers something of it.

        For changes that are durable: ``kind`` and ``data`` stand on the guild's stream as they are. Never
        raises.
        """
        ...
