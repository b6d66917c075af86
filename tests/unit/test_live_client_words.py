"""What a client reads of frames, how it lists violations, and what waits for its consumer."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from domain.protocol import Subscribe as AskedFor
from domain.protocol import error, event_json, events_frame, parse_client_message, subscribed, unsubscribed
from guildhall.live import Applied, Connecting, FollowingEnded, Live, RecentViolations, Reset, ViolationList
from guildhall.live.messages import (
    BotStatus,
    Event,
    Events,
    HealthUpdate,
    MetricsUpdate,
    Other,
    Refusal,
    Review,
    Subscribe,
    Subscribed,
    User,
    Violation,
    encode,
    parse_frame,
)
from guildhall.live.outbox import Outbox

VIOLATION: dict[str, Any] = {
    "id": "9c5b94b1-35ad-49bb-b118-8e8fc24abf80",
    "guild_id": "1",
    "channel_id": "2",
    "channel_name": "general",
    "message_id": "1000",
    "user": {"id": "3", "username": "ann", "display_name": None, "avatar_url": None},
    "detection": "banned_word",
    "rule": "words",
    "severity": "high",
    "action": "delete",
    "action_status": "pending",
    "excerpt": "a word",
    "ts": 1_790_000_000_000,
    "committed_at": 1_790_000_000_100,
    "review": None,
}
METRICS: dict[str, Any] = {
    "since": 1,
    "until": 2,
    "messages": 3,
    "violations": 4,
    "by_severity": {"low": 1, "medium": 1, "high": 1, "critical": 1},
    "joins": 5,
    "leaves": 6,
    "member_count": None,
    "bot_online": True,
    "hour": {"ts": 7, "messages": 8, "violations": 9},
}


def data_of(kind: str, data: Any) -> Any:
    """Return the data of an event as it is read from a frame, or None where it was left out."""
    frame = parse_frame(events_frame(1, 7, [event_json(121, kind, 5, data)]))
    assert isinstance(frame, Events)
    return frame.events[0].data if frame.events else None


def violation(number: int, **other: Any) -> Violation:
    ids = {"id": f"v{number}", "message_id": str(number), "ts": number}
    return msgspec.convert(VIOLATION | ids | other, Violation)


def event(offset: int, data: Violation) -> Event:
    return Event(offset, 0, "violation", data)


def ids(shown: ViolationList) -> list[str]:
    return [row.id for row in shown]


def test_frames_are_read_as_the_relay_writes_them() -> None:
    """And a subscribe is written as the relay reads it."""
    assert parse_frame(subscribed(1, 7, 120, recovered=True)) == Subscribed("1", 7, 120, recovered=True)
    assert parse_frame(error("unavailable", "Later.", 1)) == Refusal("unavailable", "Later.", "1")
    assert parse_frame(error("not_allowed", "No.").decode()) == Refusal("not_allowed", "No.")
    assert parse_client_message(encode(Subscribe("1"))) == AskedFor(1)
    assert parse_client_message(encode(Subscribe("1", 7, 0))) == AskedFor(1, (7, 0))


def test_each_known_type_of_event_has_its_record() -> None:
    """Units are in the names."""
    read = data_of("violation", VIOLATION | {"added_later": 1})
    assert read.user == User("3", "ann")
    assert (read.ts_ms, read.committed_at_ms) == (1_790_000_000_000, 1_790_000_000_100)
    review = {"verdict": "confirmed", "by": "4", "at": 6, "note": "yes", "version": 3}
    assert data_of("violation", VIOLATION | {"review": review}).review == Review(
        "confirmed", "4", 6, "yes", 3
    )
    metrics = data_of("metrics_update", METRICS)
    assert isinstance(metrics, MetricsUpdate)
    assert (metrics.since_ms, metrics.hour.ts_ms, metrics.by_severity.critical) == (1, 7, 1)
    assert data_of("bot_status", {"online": False}) == BotStatus(online=False)
    assert data_of("health_update", {"store_available": True}) == HealthUpdate(store_available=True)


def test_what_is_not_known_keeps_its_place_in_the_order() -> None:
    """A type of a later release, and a health update about something else."""
    assert data_of("config_update", {"version": 3}) == Other({"version": 3})
    assert data_of("health_update", {"shards": 2}) == Other({"shards": 2})


@pytest.mark.parametrize(
    ("kind", "data"),
    [("violation", {"id": "1"}), ("violation", None), ("bot_status", []), ("metrics_update", {})],
)
def test_an_event_that_cannot_be_read_is_left_out(kind: str, data: Any) -> None:
    """Its offset is missing then, and the state is read anew."""
    assert data_of(kind, data) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"op":"later"}',
        '{"op":"events","guild_id":1,"epoch":7,"events":[]}',
        '{"op":"events","guild_id":"1","epoch":7,"events":{}}',
        b"\xff",
        "[" * 100_000,
        unsubscribed(1),
    ],
)
def test_a_frame_that_cannot_be_read_is_none(text: str | bytes) -> None:
    """Whatever it is."""
    assert parse_frame(text) is None


def test_an_event_without_an_offset_is_left_out() -> None:
    """The others of its frame are not."""
    good = event_json(5, "bot_status", 0, {"online": True})
    frame = parse_frame(events_frame(1, 7, [b'{"type":"x"}', b"3", good]))
    assert isinstance(frame, Events)
    assert [event.offset for event in frame.events] == [5]


def test_the_list_is_in_the_order_of_the_pages() -> None:
    """The newest first; of one moment the later message; of one message the first id."""
    shown = ViolationList()
    rows = [
        violation(1, ts=5, message_id="99", id="b"),
        violation(1, ts=5, message_id="99", id="a"),
        violation(1, ts=5, message_id="100", id="c"),
        violation(1, ts=6, message_id="1", id="d"),
    ]
    shown.reset(RecentViolations(tuple(rows[:2]), complete=True))
    new = shown.apply([event(1, rows[2]), event(2, rows[3]), event(3, rows[0])])
    assert ids(shown) == ["d", "c", "a", "b"]
    assert new == [rows[2], rows[3]]
    assert len(shown) == 4


def test_an_older_event_takes_nothing_back() -> None:
    """It may have waited while a newer state was read."""
    reviewed = {"verdict": "confirmed", "by": "4", "at": 6, "note": None, "version": 2}
    shown = ViolationList()
    read = violation(1, action_status="done", review=reviewed)
    shown.reset(RecentViolations((read,), complete=True))
    earlier = reviewed | {"version": 1}
    for stale in (violation(1), violation(1, review=earlier, action_status="done")):
        assert shown.apply([event(1, stale)]) == []
        assert list(shown) == [read]
    later = violation(1, action_status="failed", review=reviewed | {"version": 3})
    shown.apply([event(2, later)])
    assert list(shown) == [later]


def test_a_list_that_is_full_keeps_the_newest_and_says_so() -> None:
    """Nothing is added below its end, where it would leave a hole."""
    shown = ViolationList(most=3)
    shown.reset(RecentViolations((violation(5), violation(4)), complete=True))
    shown.apply([event(1, violation(2))])
    assert shown.complete
    assert [row.id for row in shown.apply([event(2, violation(6))])] == ["v6"]
    assert not shown.complete
    assert shown.apply([event(3, violation(1))]) == []
    assert ids(shown) == ["v6", "v5", "v4"]
    shown.reset(RecentViolations((violation(9),), complete=False))
    shown.apply([event(1, violation(8)), event(2, violation(10))])
    assert ids(shown) == ["v10", "v9"]


async def test_what_waits_is_given_in_order_and_a_new_state_replaces_what_it_holds() -> None:
    """Of statuses in a row the last is enough."""
    outbox: Outbox[str] = Outbox(max_events=2)
    one = Applied((event(1, violation(1)), event(2, violation(2))))
    outbox.put(Connecting())
    outbox.put(Live(resumed=True))
    outbox.put(one)
    assert not outbox.overfull
    outbox.put(one)
    assert outbox.overfull
    assert [await outbox.take(), await outbox.take()] == [Live(resumed=True), one]
    assert not outbox.overfull
    outbox.put(Connecting())
    outbox.put(Reset("state"))
    outbox.put(one)
    assert [await outbox.take() for _ in range(3)] == [Connecting(), Reset("state"), one]
    assert outbox.empty


async def test_the_end_comes_after_what_waits_and_its_first_reason_counts() -> None:
    """Also for a consumer that is waiting already."""
    outbox: Outbox[str] = Outbox(max_events=2)
    outbox.put(Reset("state"))
    outbox.end(FollowingEnded("session_over"))
    outbox.end(ValueError())
    assert await outbox.take() == Reset("state")
    with pytest.raises(FollowingEnded, match="log in again"):
        await outbox.take()
    waited_for: Outbox[str] = Outbox(max_events=2)
    taking = asyncio.ensure_future(waited_for.take())
    await asyncio.sleep(0)
    waited_for.end(FollowingEnded("not_allowed"))
    with pytest.raises(FollowingEnded) as ended:
        await taking
    assert ended.value.why == "not_allowed"
