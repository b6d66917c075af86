from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.memory.samples import NOON_MS, described, person, violation
from domain.events import (
    SEVERITIES,
    ActionSettled,
    BotPresenceChanged,
    Event,
    GuildLeft,
    MemberJoined,
    MemberLeft,
    MessagesCounted,
    ViolationDetected,
)
from domain.guild import (
    WINDOW_HOURS,
    ActionRecorded,
    GuildChanged,
    GuildState,
    HourAdvanced,
    HourCounts,
    ViolationRecorded,
    apply,
    apply_all,
    window,
)
from domain.ids import HOUR_MS, hour_start
from tests.unit.strategies import events

GUILD = 1
EMPTY = GuildState(GUILD)
lives = st.lists(events(st.just(GUILD)), max_size=60)


def hour(**counts: int) -> HourCounts:
    return HourCounts(NOON_MS, **counts)


ONE = violation(GUILD)
SETTLED = ActionSettled(GUILD, ONE.event_id, NOON_MS, "done")
JOINED = MemberJoined(GUILD, person(), NOON_MS + 5)
KNOWN = GuildState(GUILD, "Guild", 3, bot_present=True, bot_online=True)
GONE = GuildState(GUILD, "Guild", 3)
OFFLINE = GuildState(GUILD, "Guild", 3, bot_present=True)


def with_hours(state: GuildState, members: int | None, *hours: HourCounts) -> GuildState:
    return GuildState(GUILD, state.name, members, state.bot_present, state.bot_online, hours)


@pytest.mark.parametrize(
    ("state", "event", "after", "effects"),
    [
        # A violation is counted by the store, so its effect is the row alone.
        (EMPTY, ONE, with_hours(EMPTY, None, hour(medium=1)), [ViolationRecorded(ONE)]),
        (
            EMPTY,
            MessagesCounted(GUILD, NOON_MS + 7, 3),  # any moment of the hour
            with_hours(EMPTY, None, hour(messages=3)),
            [HourAdvanced(GUILD, hour(messages=3))],
        ),
        # Members move only from a count that Discord gave.
        (EMPTY, JOINED, with_hours(EMPTY, None, hour(joins=1)), [HourAdvanced(GUILD, hour(joins=1))]),
        (
            KNOWN,
            JOINED,
            with_hours(KNOWN, 4, hour(joins=1)),
            [
                HourAdvanced(GUILD, hour(joins=1)),
                GuildChanged(with_hours(KNOWN, 4, hour(joins=1))),
            ],
        ),
        (EMPTY, SETTLED, EMPTY, [ActionRecorded(SETTLED)]),
        (
            EMPTY,
            described(GUILD, name="Guild", member_count=3),
            OFFLINE,
            [GuildChanged(OFFLINE, described(GUILD, name="Guild", member_count=3))],
        ),
        (KNOWN, GuildLeft(GUILD), GONE, [GuildChanged(GONE)]),
        (KNOWN, BotPresenceChanged(GUILD, False, NOON_MS), OFFLINE, [GuildChanged(OFFLINE)]),
        # What is so already costs no write.
        (KNOWN, BotPresenceChanged(GUILD, True, NOON_MS), KNOWN, []),
    ],
)
def test_what_an_event_does(
    state: GuildState, event: Event, after: GuildState, effects: list[object]
) -> None:
    """Each kind of event, what the guild becomes by it, and what must be written."""
    assert apply(state, event) == (after, tuple(effects))


def test_members_are_never_fewer_than_none() -> None:
    """More may leave than the last description counted."""
    state, _ = apply_all(EMPTY, [described(GUILD, member_count=1), *[MemberLeft(GUILD, 5, NOON_MS)] * 3])
    assert state.member_count == 0


def test_events_that_come_late_find_their_hour() -> None:
    """Order of arrival does not matter to the hours."""
    hours = [NOON_MS + number * HOUR_MS for number in (3, 1, 2, 1, 3)]
    state, _ = apply_all(EMPTY, [MessagesCounted(GUILD, hour_ms, 1) for hour_ms in hours])
    assert [(h.hour_ms - NOON_MS) // HOUR_MS for h in state.hours] == [1, 2, 3]
    assert [h.messages for h in state.hours] == [2, 1, 2]


def test_the_newest_hours_are_kept() -> None:
    """Of more than a day, whatever the order in which they came."""
    starts = [NOON_MS + number * HOUR_MS for number in range(30)]
    for order in (starts, starts[::-1]):
        state, _ = apply_all(EMPTY, [MessagesCounted(GUILD, start, 1) for start in order])
        assert [h.hour_ms for h in state.hours] == starts[-WINDOW_HOURS:]


@given(lives)
def test_the_hours_are_few_and_in_order(life: list[Event]) -> None:
    """At most a day of them, each once, on the hour, oldest first, nothing below zero."""
    state, _ = apply_all(EMPTY, life)
    starts = [h.hour_ms for h in state.hours]
    assert len(starts) <= WINDOW_HOURS
    assert starts == sorted(set(starts))
    assert all(start % HOUR_MS == 0 for start in starts)
    assert state.member_count is None or state.member_count >= 0


@given(lives)
def test_what_is_in_the_window_is_counted_whole(life: list[Event]) -> None:
    """The sums over the last 24 hours are those of the events that fell into them."""
    state, _ = apply_all(EMPTY, life)
    now_ms = NOON_MS + HOUR_MS
    since, total = window(state, now_ms)
    assert now_ms - since == (WINDOW_HOURS - 1) * HOUR_MS
    recent = [e for e in life if hour_start(getattr(e, "ts_ms", getattr(e, "hour_ms", 0))) >= since]
    severities = Counter(e.severity for e in recent if isinstance(e, ViolationDetected))
    assert {name: getattr(total, name) for name in SEVERITIES} == {n: severities[n] for n in SEVERITIES}
    assert total.violations == sum(severities.values())
    assert total.messages == sum(e.count for e in recent if isinstance(e, MessagesCounted))
    assert total.joins == sum(isinstance(e, MemberJoined) for e in recent)
    assert total.leaves == sum(isinstance(e, MemberLeft) for e in recent)


@given(lives, lives)
def test_applying_is_a_fold(first: list[Event], second: list[Event]) -> None:
    """All at once or in two halves: the same state, the same effects, nothing of the old state changed."""
    half, some = apply_all(EMPTY, first)
    whole, rest = apply_all(half, second)
    assert apply_all(EMPTY, first + second) == (whole, some + rest)
    assert GuildState(GUILD) == EMPTY


@given(lives)
def test_every_count_becomes_durable(life: list[Event]) -> None:
    """Whether it fits the live window or not, it is written."""
    _, effects = apply_all(EMPTY, life)
    written = [e.counts for e in effects if isinstance(e, HourAdvanced)]
    assert sum(c.messages for c in written) == sum(e.count for e in life if isinstance(e, MessagesCounted))
    assert sum(c.joins for c in written) == sum(isinstance(e, MemberJoined) for e in life)
    assert sum(c.violations for c in written) == 0
    rows = [e.violation for e in effects if isinstance(e, ViolationRecorded)]
    assert rows == [e for e in life if isinstance(e, ViolationDetected)]


def test_the_window_forgets_by_itself() -> None:
    """A guild in which nothing happens any more shows zeros, without an event to tell it."""
    state, _ = apply(EMPTY, ONE)
    last = NOON_MS + (WINDOW_HOURS - 1) * HOUR_MS
    assert window(state, last + HOUR_MS - 1)[1].violations == 1
    assert window(state, last + HOUR_MS)[1].violations == 0
