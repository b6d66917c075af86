"""A database that is dictionaries, and a ledger of what must be in it.

The database takes effects one by one, and counts by itself what the domain counts too. The ledger knows
nothing of effects: it is told the events alone.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from typing import Any, Literal, assert_never
from uuid import UUID

import msgspec

from domain.errors import Fenced, StoreUnavailable
from domain.events import (
    SEVERITIES,
    ActionSettled,
    BotPresenceChanged,
    Event,
    GuildDescribed,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    ViolationDetected,
)
from domain.guild import (
    ActionRecorded,
    Effect,
    GuildChanged,
    GuildState,
    HourAdvanced,
    HourCounts,
    ViolationRecorded,
)
from domain.ports import BatchMark, Commit, Committed, GuildRow, Incarnation
from domain.views import violation_view

HOUR_MS = 3_600_000

Fate = Literal["made", "lost", "unheard"] | int
"""What becomes of a transaction: made; made, but the host does not hear it; made, but the shard does not; or
cut after so many of its writes."""

Columns = Counter[tuple[int, int, str]]
"""By guild, hour and column."""


def hour_of(ts_ms: int) -> int:
    return ts_ms // HOUR_MS * HOUR_MS


class Tables:
    """What is durable."""

    def __init__(self) -> None:
        self.guilds: dict[int, GuildRow] = {}
        self.hours: Columns = Counter()
        self.violations: dict[tuple[UUID, int], ViolationDetected] = {}
        self.marks: dict[str, int] = {}

    def copied(self) -> Tables:
        other = Tables()
        other.__dict__.update({name: copy(table) for name, table in self.__dict__.items()})
        return other

    def write(self, effect: Effect) -> ViolationDetected | None:
        """Do what an effect says; return the violation that became a row, or whose row has changed."""
        match effect:
            case GuildChanged(state, described):
                old = self.guilds.get(state.guild_id) or GuildRow(
                    state.guild_id, None, None, None, False, False
                )
                self.guilds[state.guild_id] = GuildRow(
                    guild_id=state.guild_id,
                    name=old.name if state.name is None else state.name,
                    icon_url=described.icon_url if described else old.icon_url,
                    member_count=old.member_count if state.member_count is None else state.member_count,
                    bot_present=state.bot_present,
                    bot_online=state.bot_online,
                )
            case HourAdvanced(guild_id, counts):
                for column in ("messages", "joins", "leaves"):
                    self.hours[guild_id, counts.hour_ms, column] += getattr(counts, column)
            case ViolationRecorded(violation):
                if (violation.event_id, violation.ts_ms) not in self.violations:
                    self.violations[violation.event_id, violation.ts_ms] = violation
                    self.hours[violation.guild_id, hour_of(violation.ts_ms), violation.severity] += 1
                    return violation
            case ActionRecorded(settled):
                row = self.violations.get((settled.event_id, settled.ts_ms))
                if row is not None and row.action_status == "pending":
                    row = msgspec.structs.replace(row, action_status=settled.status)
                    self.violations[settled.event_id, settled.ts_ms] = row
                    return row
            case _:
                assert_never(effect)
        return None


class Database:
    """Transactions over the tables, all of each or nothing, and only for the newest life of a host."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.incarnations = 0
        self.lives: dict[str, int] = {}
        self.commits = 0

    def register(self, host_id: str) -> Incarnation:
        self.incarnations += 1
        self.lives[host_id] = self.incarnations
        return Incarnation(host_id, self.incarnations)

    def commit(self, incarnation: Incarnation, commit: Commit, fate: Fate, now_ms: int) -> Committed:
        if self.lives[incarnation.host_id] != incarnation.number:
            raise Fenced
        # As in Postgres, what settles finds the rows of its own transaction.
        effects = sorted(commit.effects, key=lambda effect: isinstance(effect, ActionRecorded))
        steps: list[BatchMark | Effect] = [*commit.marks, *effects]
        cut = fate % (len(steps) + 1) if isinstance(fate, int) else None
        tables = self.tables.copied()
        new: set[UUID] = set()
        settled = []
        for done, step in enumerate(steps):
            if done == cut:
                raise StoreUnavailable
            if isinstance(step, BatchMark):
                assert step.number > tables.marks.get(step.source, 0), "a batch is taken twice"
                tables.marks[step.source] = step.number
            elif changed := tables.write(step):
                if isinstance(step, ViolationRecorded):
                    new.add(changed.event_id)
                else:
                    settled.append(violation_view(changed, now_ms))
        if cut is not None:
            raise StoreUnavailable
        self.tables = tables
        self.commits += 1
        if fate == "lost":
            raise StoreUnavailable
        return Committed(frozenset(new), tuple(settled), now_ms)

    def load(self, guild_id: int, since_ms: int) -> GuildState:
        row = self.tables.guilds.get(guild_id)
        hours: dict[int, HourCounts] = {}
        for (guild, hour_ms, column), count in sorted(self.tables.hours.items()):
            if guild == guild_id and hour_ms >= since_ms and count:
                counts = hours.get(hour_ms, HourCounts(hour_ms))
                hours[hour_ms] = msgspec.structs.replace(counts, **{column: count})
        state = GuildState(guild_id, hours=tuple(hours.values()))
        if row is None:
            return state
        return msgspec.structs.replace(
            state,
            name=row.name,
            member_count=row.member_count,
            bot_present=row.bot_present,
            bot_online=row.bot_online,
        )

    def shown(self, guild_id: int) -> dict[str, str]:
        """Return what a dashboard reads: a guild's violations, and how their actions stand."""
        return {
            str(row.event_id): row.action_status
            for row in self.tables.violations.values()
            if row.guild_id == guild_id
        }


class Ledger:
    """What must be true of the events that it was told, by nothing but the meaning of each."""

    def __init__(self) -> None:
        self.guilds: dict[int, dict[str, Any]] = {}
        self.hours: Columns = Counter()
        self.violations: dict[UUID, ViolationDetected] = {}

    def note(self, events: list[Event]) -> None:
        """Note events that became durable at once. Actions settle what the others brought."""
        for event in events:
            if not isinstance(event, ActionSettled):
                self._note(event)
        for event in events:
            if isinstance(event, ActionSettled):
                row = self.violations.get(event.event_id)
                if row is not None and row.action_status == "pending":
                    self.violations[event.event_id] = msgspec.structs.replace(row, action_status=event.status)

    def guild(self, guild_id: int) -> dict[str, Any]:
        unknown = {"name": None, "icon": None, "members": None, "present": False, "online": False}
        return self.guilds.setdefault(guild_id, unknown)

    def _note(self, event: Event) -> None:
        guild = self.guild(event.guild_id)
        match event:
            case GuildDescribed():
                guild.update(name=event.name, icon=event.icon_url, members=event.member_count, present=True)
            case GuildLeft():
                guild.update(present=False, online=False)
            case BotPresenceChanged():
                guild.update(online=event.online)
            case MessagesCounted():
                self._count(event, event.hour_ms, "messages", event.count)
            case MemberJoined():
                self._count(event, event.ts_ms, "joins")
                self._move_members(guild, +1)
            case MemberLeft():
                self._count(event, event.ts_ms, "leaves")
                self._move_members(guild, -1)
            case ViolationDetected() if event.event_id not in self.violations:
                self.violations[event.event_id] = event
                self._count(event, event.ts_ms, event.severity)

    def _count(self, event: Event, ts_ms: int, column: str, count: int = 1) -> None:
        self.hours[event.guild_id, hour_of(ts_ms), column] += count

    @staticmethod
    def _move_members(guild: dict[str, Any], by: int) -> None:
        if guild["members"] is not None:
            guild["members"] = max(0, guild["members"] + by)

    def last_day(self, guild_id: int, now_ms: int) -> dict[str, Any]:
        """Return the live counters as a dashboard shows them."""
        since = hour_of(now_ms) - 23 * HOUR_MS
        day: Counter[str] = Counter()
        hour: Counter[str] = Counter()
        for (guild, hour_ms, column), count in self.hours.items():
            if guild == guild_id and hour_ms >= since:
                day[column] += count
            if guild == guild_id and hour_ms == hour_of(now_ms):
                hour[column] += count
        guild_now = self.guild(guild_id)
        return {
            "since": since,
            "until": now_ms,
            "messages": day["messages"],
            "violations": sum(day[severity] for severity in SEVERITIES),
            "by_severity": {severity: day[severity] for severity in SEVERITIES},
            "joins": day["joins"],
            "leaves": day["leaves"],
            "member_count": guild_now["members"],
            "bot_online": guild_now["online"],
            "hour": {
                "ts": hour_of(now_ms),
                "messages": hour["messages"],
                "violations": sum(hour[severity] for severity in SEVERITIES),
            },
        }
