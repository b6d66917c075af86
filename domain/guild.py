"""What a guild is, and how an event changes it.

``apply`` is the heart: ``(state, event) -> (state, effects)``. It runs no effect. A host applies a
batch, makes the effects durable, and only then adopts the state and shows it; so the state that a
guild actor holds is never ahead of the database, and a batch that fails leaves no trace.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from domain.events import (
    ActionSettled,
    BotPresenceChanged,
    Event,
    GuildDescribed,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    Severity,
    ViolationDetected,
)
from domain.ids import HOUR_MS, hour_start

WINDOW_HOURS = 24
"""Live counters cover this many UTC hours, the running one included."""


class HourCounts(msgspec.Struct, frozen=True, gc=False):
    """What happened in one guild in one UTC hour."""

    hour_ms: int
    messages: int = 0
    low: int = 0
    medium: int = 0
    high: int = 0
    critical: int = 0
    joins: int = 0
    leaves: int = 0

    @property
    def violations(self) -> int:
        """Violations of every severity."""
        return self.low + self.medium + self.high + self.critical

    def plus(self, other: HourCounts) -> HourCounts:
        """Return both counts together, under this one's hour."""
        return HourCounts(
            self.hour_ms,
            self.messages + other.messages,
            self.low + other.low,
            self.medium + other.medium,
            self.high + other.high,
            self.critical + other.critical,
            self.joins + other.joins,
            self.leaves + other.leaves,
        )


class GuildState(msgspec.Struct, frozen=True, gc=False):
    """A guild's live state, as durable as the last commit."""

    guild_id: int
    name: str | None = None
    member_count: int | None = None
    bot_present: bool = False
    bot_online: bool = False
    hours: tuple[HourCounts, ...] = ()
    """The hours in which something happened, oldest first, at most ``WINDOW_HOURS``."""


class GuildChanged(msgspec.Struct, frozen=True):
    """Effect: the guild's own row must say this from now on."""

    state: GuildState
    described: GuildDescribed | None = None


class HourAdvanced(msgspec.Struct, frozen=True):
    """Effect: add ``counts`` to the guild's hour. Violations are counted by the store, from new rows."""

    guild_id: int
    counts: HourCounts


class ViolationRecorded(msgspec.Struct, frozen=True):
    """Effect: this violation becomes a row, once."""

    violation: ViolationDetected


class ActionRecorded(msgspec.Struct, frozen=True):
    """Effect: a violation's row learns how its action ended."""

    settled: ActionSettled


Effect = GuildChanged | HourAdvanced | ViolationRecorded | ActionRecorded
Decision = tuple[GuildState, tuple[Effect, ...]]


def apply(state: GuildState, event: Event) -> Decision:
    """Return what the guild becomes through ``event``, and what must be done for that to be true."""
    match event:
        case ViolationDetected():
            one = one_violation(hour_start(event.ts_ms), event.severity)
            return _count(state, one), (ViolationRecorded(event),)
        case MessagesCounted():
            return _counted(state, HourCounts(hour_start(event.hour_ms), messages=event.count))
        case MemberJoined():
            return _members_moved(state, +1, HourCounts(hour_start(event.ts_ms), joins=1))
        case MemberLeft():
            return _members_moved(state, -1, HourCounts(hour_start(event.ts_ms), leaves=1))
        case ActionSettled():
            return state, (ActionRecorded(event),)
        case GuildDescribed():
            described = msgspec.structs.replace(
                state, name=event.name, member_count=event.member_count, bot_present=True
            )
            return described, (GuildChanged(described, event),)
        case GuildLeft():
            left = msgspec.structs.replace(state, bot_present=False, bot_online=False)
            return left, (GuildChanged(left),)
        case BotPresenceChanged():
            changed = msgspec.structs.replace(state, bot_online=event.online)
            return (state, ()) if changed == state else (changed, (GuildChanged(changed),))
        case _:
            assert_never(event)


def apply_all(state: GuildState, events: tuple[Event, ...] | list[Event]) -> Decision:
    """Apply the events in order; return the last state and all effects."""
    effects: list[Effect] = []
    for event in events:
        state, more = apply(state, event)
        effects.extend(more)
    return state, tuple(effects)


def window(state: GuildState, now_ms: int) -> tuple[int, HourCounts]:
    """Return the start of the live window at ``now_ms`` and the sum of what happened in it."""
    since = hour_start(now_ms) - (WINDOW_HOURS - 1) * HOUR_MS
    total = HourCounts(since)
    for hour in state.hours:
        if hour.hour_ms >= since:
            total = total.plus(hour)
    return since, total


def _counted(state: GuildState, counts: HourCounts) -> Decision:
    return _count(state, counts), (HourAdvanced(state.guild_id, counts),)


def _count(state: GuildState, counts: HourCounts) -> GuildState:
    """Add to the hour. An hour older than the window still counts in the store, but not here."""
    hours = list(state.hours)
    index = len(hours)
    while index > 0 and hours[index - 1].hour_ms > counts.hour_ms:
        index -= 1
    if index > 0 and hours[index - 1].hour_ms == counts.hour_ms:
        hours[index - 1] = hours[index - 1].plus(counts)
    else:
        hours.insert(index, counts)
    return msgspec.structs.replace(state, hours=tuple(hours[-WINDOW_HOURS:]))


def _members_moved(state: GuildState, by: int, counts: HourCounts) -> Decision:
    """Move the member count, if Discord ever gave one to start from."""
    state, effects = _counted(state, counts)
    if state.member_count is None:
        return state, effects
    state = msgspec.structs.replace(state, member_count=max(0, state.member_count + by))
    return state, (*effects, GuildChanged(state))


def one_violation(hour_ms: int, severity: Severity) -> HourCounts:
    """Return what a single violation adds to its hour."""
    match severity:
        case "low":
            return HourCounts(hour_ms, low=1)
        case "medium":
            return HourCounts(hour_ms, medium=1)
        case "high":
            return HourCounts(hour_ms, high=1)
        case "critical":
            return HourCounts(hour_ms, critical=1)
        case _:
            assert_never(severity)
