from __future__ import annotations

import json

import pytest
from hypothesis import given

from adapters.memory.samples import NOON_MS, person, violation
from domain.guild import GuildState, HourCounts
from domain.ids import HOUR_MS
from domain.sessions import Session, SessionGuild
from domain.views import MetricsUpdate, hour_view, metrics_update, user_view, violation_view
from tests.unit.strategies import users


def test_a_violation_as_moderators_see_it() -> None:
    """Ids are strings, times are milliseconds; the hash of the text stays in the house."""
    one = violation(2**63 - 1, 5, channel_name=None)
    seen = violation_view(one, committed_at_ms=9).plain()
    assert seen["guild_id"] == str(2**63 - 1)
    assert (seen["id"], seen["message_id"], seen["channel_id"]) == (str(one.event_id), "5", "7")
    assert (seen["ts"], seen["committed_at"], seen["channel_name"]) == (NOON_MS, 9, None)
    assert "content_hash" not in seen
    assert json.loads(json.dumps(seen)) == seen


@given(users)
def test_a_person_is_shown_as_they_were(user: object) -> None:
    """Nothing is made up, and the id is a string."""
    seen = user_view(user).plain()  # type: ignore[arg-type]
    assert seen == {
        "id": str(user.user_id),  # type: ignore[attr-defined]
        "username": user.username,  # type: ignore[attr-defined]
        "display_name": user.display_name,  # type: ignore[attr-defined]
        "avatar_url": user.avatar_url,  # type: ignore[attr-defined]
    }


def test_an_empty_guild_shows_zeros() -> None:
    """Nothing happened is a state like any other."""
    seen = metrics_update(GuildState(1), NOON_MS + 5).plain()
    assert seen == {
        "since": NOON_MS - 23 * HOUR_MS,
        "until": NOON_MS + 5,
        "messages": 0,
        "violations": 0,
        "by_severity": {"low": 0, "medium": 0, "high": 0, "critical": 0},
        "joins": 0,
        "leaves": 0,
        "member_count": None,
        "bot_online": False,
        "hour": {"ts": NOON_MS, "messages": 0, "violations": 0},
    }


@pytest.mark.parametrize(
    ("now_ms", "messages", "running"),
    [
        (NOON_MS, 7, 4),  # both hours, the second one runs
        (NOON_MS + HOUR_MS, 7, 0),  # a new hour has begun
        (NOON_MS + 23 * HOUR_MS, 4, 0),  # the first hour is a day old
        (NOON_MS + 24 * HOUR_MS, 0, 0),
    ],
)
def test_counters_are_those_of_the_last_day(now_ms: int, messages: int, running: int) -> None:
    """As of now, whatever the state still holds."""
    hours = (HourCounts(NOON_MS - HOUR_MS, messages=3, low=1), HourCounts(NOON_MS, messages=4, high=2))
    seen = metrics_update(GuildState(1, member_count=5, bot_online=True, hours=hours), now_ms)
    assert isinstance(seen, MetricsUpdate)
    assert (seen.messages, seen.hour.messages) == (messages, running)
    assert seen.violations == sum(seen.by_severity.plain().values())
    assert (seen.member_count, seen.bot_online) == (5, True)


def test_an_hour_counts_every_severity() -> None:
    """A chart's bucket."""
    counts = HourCounts(NOON_MS, messages=9, low=1, medium=2, high=3, critical=4)
    assert hour_view(counts).plain() == {"ts": NOON_MS, "messages": 9, "violations": 10}


def test_a_session_knows_its_guilds() -> None:
    """And none that Discord did not name."""
    guild = SessionGuild(5, "Guild", None, owns=False, permissions=0)
    session = Session(person(), (guild,), "csrf", NOON_MS)
    assert session.guild(5) is guild
    assert session.guild(6) is None
