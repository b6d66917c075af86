"""The twin of Postgres: what guild hosts commit here, the dashboard's side reads."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import UUID

import msgspec

from adapters.clock import now_ms as wall_clock_ms
from domain.audit import AuditEntry, AuditRow
from domain.errors import (
    BatchTaken,
    EventRefused,
    Fenced,
    HistoryTakenBack,
    PlacementTaken,
    RunnerReplaced,
    StoreUnavailable,
)
from domain.events import ActionSettled, ActionStatus, Gap, UserRef, ViolationDetected
from domain.guild import (
    ActionRecorded,
    GuildChanged,
    GuildState,
    HourAdvanced,
    HourCounts,
    ViolationRecorded,
    one_violation,
)
from domain.ids import HOUR_MS, hour_start
from domain.permissions import Role
from domain.placement import PLACEMENTS_KEPT, Placement
from domain.ports import (
    Commit,
    Committed,
    GuildRow,
    HostRow,
    Incarnation,
    PendingDeletion,
    PoisonRow,
    RunnerLife,
    RunnerRow,
)
from domain.roles import Mapping
from domain.views import ReviewView, UserView, ViolationView, user_view, violation_view

CommitHook = Callable[[Commit], Awaitable[None]]


class Row(msgspec.Struct, frozen=True):
    """A violation as it is stored."""

    violation: ViolationDetected
    action_status: ActionStatus
    committed_at_ms: int
    settled_ms: int | None = None

    @property
    def key(self) -> tuple[UUID, int]:
        """Its primary key."""
        return self.violation.event_id, self.violation.ts_ms


class MemoryDatabase:
    """The tables that the stores share, and the switches with which a test makes them fail.

    ``available = False`` makes every call raise ``StoreUnavailable``. ``before_commit`` may hold a commit
    or raise instead of it; ``after_commit`` may raise once it is written, as a lost answer does.
    """

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms) -> None:
        self.now_ms = now_ms
        self.available = True
        self.before_commit: CommitHook | None = None
        self.after_commit: CommitHook | None = None
        self.commits = 0
        self.incarnations = 0
        """Never taken back by ``restore``: what makes them unique in Postgres is chance, not the sequence."""
        self.tokens: dict[str, tuple[int, int]] = {}
        """By host: what its life wrote last, and when."""
        self.director = 0
        self.hosts: dict[str, int] = {}
        self.host_rows: dict[str, HostRow] = {}
        self.runners: dict[str, RunnerRow] = {}
        self.poison: list[PoisonRow] = []
        self.poison_ids = 0
        self.placements: dict[int, Placement] = {}
        self.guilds: dict[int, GuildRow] = {}
        self.hours: dict[tuple[int, int], HourCounts] = {}
        self.violations: dict[tuple[UUID, int], Row] = {}
        self.early_actions: dict[tuple[UUID, int], ActionSettled] = {}
        """Those whose violation is not here yet."""
        self.reviews: dict[tuple[UUID, int], ReviewView] = {}
        self.users: dict[int, UserRef] = {}
        self.marks: dict[str, int] = {}
        self.gaps: list[tuple[str, Gap]] = []
        self.retention_days: dict[int, int] = {}
        """By guild, where it is configured."""
        self.owners: dict[int, int] = {}
        self.roles: dict[tuple[int, int], Role] = {}
        self.assigned: dict[tuple[int, int], tuple[int | None, int]] = {}
        """By guild and person: who gave them their role, and when."""
        self.role_mappings: dict[tuple[int, int], Mapping] = {}
        self.audit: list[AuditRow] = []

    def require_director(self, director: int | None) -> None:
        """Raise when another Director has begun."""
        if director is not None and director != self.director:
            raise Fenced(f"The Director lives on as incarnation {self.director}.")

    def dump(self) -> dict[str, Any]:
        """Return all that stands in the tables, for ``restore``."""
        kept = ("now_ms", "available", "before_commit", "after_commit", "incarnations")
        return copy.deepcopy({name: value for name, value in vars(self).items() if name not in kept})

    def restore(self, dumped: dict[str, Any]) -> None:
        """Be as at the time of a dump: whatever came after it never was."""
        vars(self).update(copy.deepcopy(dumped))

    def require(self) -> None:
        """Raise when the database is away."""
        if not self.available:
            raise StoreUnavailable

    def write_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries to the audit log; call it between the same two awaits as the change they tell of."""
        first, now_ms = len(self.audit) + 1, self.now_ms()
        self.audit.extend(
            AuditRow(number, entry.storable(), now_ms) for number, entry in enumerate(entries, first)
        )

    def view(self, row: Row) -> ViolationView:
        """Return a violation with its person as they are known today, and its review."""
        view = violation_view(row.violation, row.committed_at_ms)
        user = self.users.get(row.violation.user.user_id)
        unknown = UserView(id=view.user.id, username=None, display_name=None, avatar_url=None)
        return view.model_copy(
            update={
                "user": user_view(user) if user else unknown,
                "action_status": row.action_status,
                "review": self.reviews.get(row.key),
            }
        )

    def forget(self, now_ms: int, retention_days: int) -> None:
        """Delete what is too old, with its reviews and counts."""
        oldest_ms = now_ms - retention_days * 24 * HOUR_MS
        month_ms = _month_start(oldest_ms)
        self.early_actions = {key: one for key, one in self.early_actions.items() if one.ts_ms >= oldest_ms}
        self.hours = {key: counts for key, counts in self.hours.items() if key[1] >= month_ms}
        for key, row in list(self.violations.items()):
            one = row.violation
            days = min(retention_days, self.retention_days.get(one.guild_id, retention_days))
            shorter = days < retention_days and one.ts_ms < now_ms - days * 24 * HOUR_MS
            if shorter or one.ts_ms < month_ms:
                del self.violations[key]
                self.reviews.pop(key, None)
            if shorter and one.ts_ms >= month_ms:
                hour = (one.guild_id, hour_start(one.ts_ms))
                left = getattr(self.hours[hour], one.severity) - 1
                self.hours[hour] = msgspec.structs.replace(self.hours[hour], **{one.severity: left})

    def add_hour(self, guild_id: int, counts: HourCounts) -> None:
        """Add to a guild's hour."""
        key = (guild_id, counts.hour_ms)
        self.hours[key] = self.hours[key].plus(counts) if key in self.hours else counts

    def hours_of(self, guild_id: int, since_ms: int) -> tuple[HourCounts, ...]:
        """Return a guild's hours from ``since_ms`` on, oldest first."""
        keys = sorted(key for key in self.hours if key[0] == guild_id and key[1] >= since_ms)
        return tuple(self.hours[key] for key in keys)


class MemoryGuildStore:
    """Implements :class:`domain.ports.GuildStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def register_director(self) -> int:
        """See the port."""
        self._database.require()
        self._database.incarnations += 1
        self._database.director = self._database.incarnations
        return self._database.director

    async def register_host(
        self, host_id: str, actor_name: str = "", director: int | None = None
    ) -> Incarnation:
        """See the port."""
        self._database.require()
        self._database.require_director(director)
        self._database.incarnations += 1
        self._database.hosts[host_id] = self._database.incarnations
        self._database.tokens[host_id] = (0, self._database.now_ms())
        self._database.host_rows[host_id] = HostRow(host_id, self._database.incarnations, actor_name)
        return Incarnation(host_id, self._database.incarnations)

    async def renew_token(self, incarnation: Incarnation, known: Collection[int], token: int) -> None:
        """See the port."""
        database, host_id = self._database, incarnation.host_id
        database.require()
        held = database.hosts.get(host_id)
        if held == incarnation.number and database.tokens[host_id][0] in known:
            database.tokens[host_id] = (token, database.now_ms())
        elif held is not None and held > incarnation.number:
            raise Fenced(f"Host {host_id} lives on as incarnation {held}.")
        else:
            raise HistoryTakenBack(f"The database does not know what host {host_id} wrote last.")

    async def write_taken_back(self, host_id: str) -> None:
        """See the port."""
        database, now_ms = self._database, self._database.now_ms()
        database.require()
        living = [database.tokens[known][1] for known in database.host_rows]
        _, since_ms = database.tokens.get(host_id, (0, min(living, default=now_ms)))
        told = any(gap.reason == "restored" and gap.until_ms > since_ms for _, gap in database.gaps)
        if not told:
            database.gaps.append(("database", Gap(since_ms, now_ms, 0, "restored")))

    async def retire_host(self, host_id: str, director: int | None = None) -> None:
        """See the port."""
        self._database.require()
        self._database.require_director(director)
        self._database.incarnations += 1
        self._database.hosts[host_id] = self._database.incarnations
        self._database.host_rows.pop(host_id, None)

    async def hosts(self) -> list[HostRow]:
        """See the port."""
        self._database.require()
        return [self._database.host_rows[host_id] for host_id in sorted(self._database.host_rows)]

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """See the port."""
        self._database.require()
        return self._database.runners.get(runner_id)

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """See the port."""
        database, now_ms = self._database, self._database.now_ms()
        database.require()
        held = database.runners.get(life.runner_id)
        if held is not None and (held.incarnation != after or after >= life.incarnation):
            return held
        covered_ms = now_ms if held is None else held.covered_ms
        if held is not None and held.spool_id != spool_id:
            until_ms = max(covered_ms, now_ms)
            database.gaps.append((life.runner_id, Gap(covered_ms, until_ms, 0, "spool_lost")))
            covered_ms = until_ms
        row = RunnerRow(life.incarnation, spool_id, life.node, covered_ms)
        database.runners[life.runner_id] = row
        return row

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """See the port."""
        self._database.require()
        held = self._database.runners.get(runner_id)
        if held is None:
            return
        if held.incarnation > incarnation:
            raise RunnerReplaced(f"Runner {runner_id} lives on as incarnation {held.incarnation}.")
        until_ms = held.covered_ms if covered_ms is None else max(covered_ms, held.covered_ms)
        self._database.runners[runner_id] = msgspec.structs.replace(
            held, incarnation=incarnation, covered_ms=until_ms, spool_id=spool_id
        )

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """See the port."""
        self._database.require()
        pending = [
            PendingDeletion(v.guild_id, v.event_id, v.ts_ms, v.channel_id, v.message_id)
            for row in self._database.violations.values()
            if (v := row.violation).action == "delete"
            and row.action_status == "pending"
            and span_ms[0] <= v.ts_ms < span_ms[1]
            and (v.guild_id >> 22) % shard_count in shard_ids
        ]
        return sorted(pending, key=lambda each: (each.ts_ms, each.event_id))[:limit]

    async def write_placement(self, placement: Placement) -> None:
        """See the port."""
        self._database.require()
        self._database.require_director(placement.director)
        if placement.version in self._database.placements:
            raise PlacementTaken(f"Placement {placement.version} is written already.")
        self._database.placements[placement.version] = placement

    async def last_placement(self) -> Placement | None:
        """See the port."""
        self._database.require()
        placements = self._database.placements
        return placements[max(placements)] if placements else None

    async def load_guilds(self, guild_ids: list[int], since_ms: int) -> dict[int, GuildState]:
        """See the port."""
        self._database.require()
        states: dict[int, GuildState] = {}
        for guild_id in guild_ids:
            row, hours = self._database.guilds.get(guild_id), self._database.hours_of(guild_id, since_ms)
            if row is not None:
                states[guild_id] = GuildState(
                    guild_id, row.name, row.member_count, row.bot_present, row.bot_online, hours
                )
            elif hours:
                states[guild_id] = GuildState(guild_id, hours=hours)
        return states

    async def taken_number(self, source: str) -> int:
        """See the port."""
        self._database.require()
        if "\0" in source:
            raise EventRefused("a text contains NUL")
        return self._database.marks.get(source, 0)

    async def settled_number(self, incarnation: Incarnation, source: str) -> int:
        """See the port; a commit here is never under way."""
        del incarnation
        return await self.taken_number(source)

    async def ensure_partitions(self, now_ms: int) -> None:
        """See the port; a dictionary has room for every month."""
        del now_ms
        self._database.require()

    async def forget(self, now_ms: int, retention_days: int) -> bool:
        """See the port; all at once."""
        self._database.require()
        self._database.forget(now_ms, retention_days)
        for version in sorted(self._database.placements)[:-PLACEMENTS_KEPT]:
            del self._database.placements[version]
        return False

    async def roll_up(self) -> bool:
        """See the port; here rows are counted when somebody asks."""
        self._database.require()
        return False

    async def commit(self, incarnation: Incarnation, commit: Commit) -> Committed:
        """See the port. All that writes happens between two awaits, so it happens whole."""
        database = self._database
        if database.before_commit is not None:
            await database.before_commit(commit)
        database.require()
        _check(database, incarnation, commit)
        committed = _write(database, commit)
        if database.after_commit is not None:
            await database.after_commit(commit)
        return committed

    async def probe(self, incarnation: Incarnation, commit: Commit) -> None:
        """See the port."""
        self._database.require()
        _check(self._database, incarnation, commit)

    async def poison(self, *, limit: int, source: str | None = None) -> list[PoisonRow]:
        """See the port."""
        self._database.require()
        return [row for row in self._database.poison if source in {None, row.event.source}][:limit]

    async def find_poison(self, poison_id: int) -> PoisonRow | None:
        """See the port."""
        self._database.require()
        return next((row for row in self._database.poison if row.poison_id == poison_id), None)

    async def settle_poison(self, poison_id: int) -> None:
        """See the port."""
        self._database.require()
        self._database.poison = [row for row in self._database.poison if row.poison_id != poison_id]


def _check(database: MemoryDatabase, incarnation: Incarnation, commit: Commit) -> None:
    """Raise what keeps a commit from being written."""
    held = database.hosts.get(incarnation.host_id)
    if held != incarnation.number:
        raise Fenced(f"Host {incarnation.host_id} lives on as incarnation {held}.")
    replaced = frozenset(
        (sender.runner_id, sender.incarnation)
        for sender in commit.senders
        if (row := database.runners.get(sender.runner_id)) and row.incarnation > sender.incarnation
    )
    if replaced:
        raise RunnerReplaced(lives=replaced)
    if any(database.marks.get(mark.source, 0) >= mark.number for mark in commit.marks):
        raise BatchTaken
    _refuse_what_postgres_refuses(commit)


class MemoryDashboardStore:
    """Implements :class:`domain.ports.DashboardStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def guilds(self, guild_ids: list[int]) -> dict[int, GuildRow]:
        """See the port."""
        self._database.require()
        known = self._database.guilds
        return {guild_id: known[guild_id] for guild_id in guild_ids if guild_id in known}

    async def hours(self, guild_id: int, since_ms: int) -> list[HourCounts]:
        """See the port."""
        self._database.require()
        return list(self._database.hours_of(guild_id, since_ms))

    async def ping(self) -> None:
        """See the port."""
        self._database.require()


def _write(database: MemoryDatabase, commit: Commit) -> Committed:
    now_ms = database.now_ms()
    database.commits += 1
    database.marks.update((mark.source, mark.number) for mark in commit.marks)
    for event in commit.poison:
        database.poison_ids += 1
        database.poison.append(PoisonRow(database.poison_ids, event, now_ms))
    database.gaps.extend(commit.gaps)
    database.users.update((user.user_id, user) for user in commit.users)
    new: set[UUID] = set()
    early: list[ActionSettled] = []
    actions: list[ActionSettled] = []
    for effect in commit.effects:
        match effect:
            case GuildChanged():
                _write_guild(database, effect)
            case HourAdvanced():
                database.add_hour(effect.guild_id, effect.counts)
            case ViolationRecorded(violation):
                key = (violation.event_id, violation.ts_ms)
                if key not in database.violations:
                    database.violations[key] = Row(violation, violation.action_status, now_ms)
                    database.add_hour(
                        violation.guild_id, one_violation(hour_start(violation.ts_ms), violation.severity)
                    )
                    new.add(violation.event_id)
                    if key in database.early_actions:
                        early.append(database.early_actions.pop(key))
            case ActionRecorded(settled):
                actions.append(settled)
            case _:
                assert_never(effect)
    return Committed(frozenset(new), tuple(_settle(database, [*early, *actions])), now_ms)


def _month_start(ts_ms: int) -> int:
    moment = datetime.fromtimestamp(ts_ms / 1000, UTC)
    return int(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp()) * 1000


def _write_guild(database: MemoryDatabase, effect: GuildChanged) -> None:
    state = effect.state
    if effect.described is not None:
        database.owners[state.guild_id] = effect.described.owner_id
    old = database.guilds.get(state.guild_id) or GuildRow(state.guild_id, None, None, None, False, False)
    database.guilds[state.guild_id] = GuildRow(
        guild_id=state.guild_id,
        name=old.name if state.name is None else state.name,
        icon_url=old.icon_url if effect.described is None else effect.described.icon_url,
        member_count=old.member_count if state.member_count is None else state.member_count,
        bot_present=state.bot_present,
        bot_online=state.bot_online,
    )


def _settle(database: MemoryDatabase, actions: list[ActionSettled]) -> Iterator[ViolationView]:
    for settled in actions:
        key = (settled.event_id, settled.ts_ms)
        row = database.violations.get(key)
        if row is None:
            database.early_actions.setdefault(key, settled)
        elif row.action_status == "pending":
            database.violations[key] = msgspec.structs.replace(
                row, action_status=settled.status, settled_ms=settled.settled_ms
            )
            yield database.view(database.violations[key])


_INTEGER = range(-(2**31), 2**31)
_BIGINT = range(-(2**63), 2**63)
_TIMES = range(-62_135_596_800_000, 253_402_300_800_000)
"""The years 1 to 9999: what a time of Python can say, in which they go to Postgres."""


def _refuse_what_postgres_refuses(commit: Commit) -> None:
    """Refuse NUL, which a text of Postgres cannot hold, and numbers that are too large for their columns."""
    if any("\0" in text for text in _texts(commit) if text):
        raise EventRefused("a text contains NUL")
    for number, allowed in _numbers(commit):
        if number is not None and number not in allowed:
            raise EventRefused(f"{number} is out of range")


def _texts(commit: Commit) -> Iterator[str | None]:
    for user in commit.users:
        yield from (user.username, user.display_name, user.avatar_url)
    for mark in commit.marks:
        yield mark.source
    for source, gap in commit.gaps:
        yield from (source, gap.reason)
    for poison in commit.poison:
        yield from (poison.source, poison.reason)
    for effect in commit.effects:
        if isinstance(effect, ViolationRecorded):
            violation = effect.violation
            yield from (violation.excerpt, violation.channel_name, violation.rule)
        elif isinstance(effect, GuildChanged):
            yield from (effect.state.name, effect.described.icon_url if effect.described else None)


def _numbers(commit: Commit) -> Iterator[tuple[int | None, range]]:
    for mark in commit.marks:
        yield mark.number, _BIGINT
    for _, gap in commit.gaps:
        yield from ((gap.since_ms, _TIMES), (gap.until_ms, _TIMES), (gap.lost_events, _BIGINT))
    for effect in commit.effects:
        match effect:
            case GuildChanged(state, described):
                yield state.member_count, _INTEGER
                yield described.owner_id if described else None, _BIGINT
            case HourAdvanced(_, counts):
                yield from ((counts.hour_ms, _TIMES), (counts.messages, _BIGINT))
            case ViolationRecorded(violation):
                yield violation.ts_ms, _TIMES
            case ActionRecorded(settled):
                yield from ((settled.ts_ms, _TIMES), (settled.settled_ms, _TIMES))
