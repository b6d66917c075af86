"""What a server's numbers say, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from adapters.memory.samples import NOON_MS, person, violation
from domain.audit import Change
from domain.events import ActionSettled, Event
from domain.guild import HourCounts
from domain.ids import HOUR_MS
from domain.people import described
from tests.serve_app.test_servers import get, happen
from tests.serve_app.web import GUILD, Web, membership

HERE = f"/api/servers/{GUILD}"
PERIODS = [("hour", 1, 1), ("day", 24, 1), ("week", 168, 1), ("month", 30, 24)]
ANSWERS = ("metrics", "health", "top-offenders", "rule-effectiveness", "temporal-analytics")


async def ask(web: Web, what: str, **params: Any) -> Any:
    """Ask as the owner."""
    return await get(await web.browser_of(membership(owns=True)), f"{HERE}/{what}", **params)


def some(count: int, **changes: Any) -> list[Event]:
    """Return violations, a minute apart, the last one now."""
    first = changes.pop("first", 1)
    return [
        violation(GUILD, number, **({"ts_ms": NOON_MS - (first + count - 1 - number) * 60_000} | changes))
        for number in range(first, first + count)
    ]


# -- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period", "buckets", "bucket_hours"), PERIODS)
async def test_a_guild_where_nothing_happened_has_zeros(
    web: Web, period: str, buckets: int, bucket_hours: int
) -> None:
    """Numbers are 0 and not missing, the series is whole, and what nobody told us is null."""
    web.clock.now_ms = NOON_MS + 1_234
    metrics = await get(
        await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics", period=period
    )
    since = NOON_MS - (buckets * bucket_hours - 1) * HOUR_MS
    series = metrics.pop("series")
    assert series == [
        {"ts": since + index * bucket_hours * HOUR_MS, "messages": 0, "violations": 0}
        for index in range(buckets)
    ]
    assert metrics == {
        "guild_id": str(GUILD),
        "period": period,
        "since": since,
        "until": NOON_MS + 1_234,
        "messages": 0,
        "violations": 0,
        "by_severity": {"low": 0, "medium": 0, "high": 0, "critical": 0},
        "joins": 0,
        "leaves": 0,
        "member_count": None,
        "bot_online": False,
    }


@pytest.mark.parametrize(("period", "buckets", "bucket_hours"), PERIODS)
async def test_metrics_are_the_sums_of_their_series(
    web: Web, period: str, buckets: int, bucket_hours: int
) -> None:
    """The period's first and last hour count, those around it do not, and the sums are the series' own."""
    since = NOON_MS - (buckets * bucket_hours - 1) * HOUR_MS
    hours = {since - HOUR_MS, since, since + (buckets * bucket_hours // 2) * HOUR_MS, NOON_MS}
    for hour_ms in hours:
        web.database.add_hour(GUILD, HourCounts(hour_ms, 10, 1, 2, 3, 4, 5, 6))
    web.database.add_hour(GUILD + 1, HourCounts(NOON_MS, 999))
    metrics = await get(
        await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics", period=period
    )
    inside = len(hours) - 1
    assert metrics["messages"] == sum(bucket["messages"] for bucket in metrics["series"]) == 10 * inside
    assert metrics["violations"] == sum(bucket["violations"] for bucket in metrics["series"]) == 10 * inside
    assert metrics["by_severity"] == {
        "low": inside,
        "medium": 2 * inside,
        "high": 3 * inside,
        "critical": 4 * inside,
    }
    assert (metrics["joins"], metrics["leaves"]) == (5 * inside, 6 * inside)
    assert metrics["series"][0]["messages"] == (10 if buckets > 1 else 10 * inside)
    assert len(metrics["series"]) == buckets


async def test_an_hour_that_has_not_begun_is_in_no_sum(web: Web) -> None:
    """Discord's clock may run ahead of ours; the sums stay the series' own."""
    web.clock.now_ms = NOON_MS - 1
    web.database.add_hour(GUILD, HourCounts(NOON_MS, 1))
    metrics = await get(await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics")
    assert metrics["messages"] == sum(bucket["messages"] for bucket in metrics["series"]) == 0


async def test_an_unknown_period_is_refused(web: Web) -> None:
    """Only the four periods are answered."""
    answer = await (await web.browser_of(membership(owns=True))).get(
        f"/api/servers/{GUILD}/metrics", params={"period": "year"}
    )
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_request")
    assert answer.json()["details"][0]["where"] == "query.period"


# -- health ---------------------------------------------------------------------------------------


async def test_a_guild_without_violations_could_not_be_better(web: Web) -> None:
    """Its score is whole, every part too, and it says how little that rests on."""
    web.database.add_hour(GUILD, HourCounts(NOON_MS, messages=5_000))
    health = await ask(web, "health")
    assert (health["score"], health["violations"], health["messages"]) == (100.0, 0, 5_000)
    assert {part["score"] for part in health["parts"]} == {100.0}
    assert sum(part["weight"] for part in health["parts"]) == 100
    assert health["limited_data"]
    assert health["message"]


async def test_health_is_the_sum_of_its_parts(web: Web) -> None:
    """What was measured, how it is weighed and what comes out can be followed by hand."""
    await happen(web, *some(6, user=person(5)), *some(4, first=7, severity="critical", user=person(5)))
    for one in some(3):
        assert hasattr(one, "event_id")
        settled = ActionSettled(GUILD, one.event_id, one.ts_ms, "done", one.ts_ms + 4_500)
        await happen(web, violation(GUILD, one.message_id, ts_ms=one.ts_ms), settled)
    web.database.add_hour(GUILD, HourCounts(NOON_MS, messages=1_000))
    health = await ask(web, "health", period="week")
    parts = {part["name"]: part for part in health["parts"]}
    assert (health["violations"], health["by_severity"]["critical"], health["limited_data"]) == (13, 4, False)
    assert (health["response_ms"], health["escalated_people"], health["message"]) == (4_500, 1, None)
    values = {name: part["value"] for name, part in parts.items()}
    assert values == {"violation_rate": 13, "severity": 49, "response_time": 2_500, "escalation": 1}
    for part in parts.values():
        assert part["score"] == pytest.approx(100 * part["half"] / (part["half"] + part["value"]), abs=0.06)
        assert part["meaning"]
    total = sum(part["score"] * part["weight"] for part in parts.values()) / 100
    assert health["score"] == pytest.approx(total, abs=0.11)


# -- top offenders --------------------------------------------------------------------------------


async def test_offenders_have_names(web: Web) -> None:
    """Whom nobody knows has an id all the same."""
    web.people.known[5] = described(5, "five", "Five", "https://cdn/5.png", seen_ms=NOON_MS)
    await happen(web, *some(2, user=person(5)), *some(1, first=3, severity="high", user=person(6)))
    listed = await ask(web, "top-offenders")
    assert (listed["total"], listed["page"], listed["has_next"]) == (2, 1, False)
    assert listed["data"] == [
        {
            "user": {
                "id": "5",
                "username": "five",
                "display_name": "Five",
                "avatar_url": "https://cdn/5.png",
            },
            "violations": 2,
            "by_severity": {"low": 0, "medium": 2, "high": 0, "critical": 0},
            "last_violation": NOON_MS,
        },
        {
            "user": {"id": "6", "username": None, "display_name": None, "avatar_url": None},
            "violations": 1,
            "by_severity": {"low": 0, "medium": 0, "high": 1, "critical": 0},
            "last_violation": NOON_MS,
        },
    ]


async def test_pages_of_offenders_follow_each_other(web: Web) -> None:
    """One past the end is empty and knows the total."""
    await happen(
        web, *(one for user_id in range(1, 6) for one in some(1, first=user_id, user=person(user_id)))
    )
    pages = [await ask(web, "top-offenders", page=page, per_page=2) for page in range(1, 5)]
    assert [[row["user"]["id"] for row in page["data"]] for page in pages] == [
        ["1", "2"],
        ["3", "4"],
        ["5"],
        [],
    ]
    assert {page["total"] for page in pages} == {5}
    assert [page["has_next"] for page in pages] == [True, True, False, False]


# -- rules ----------------------------------------------------------------------------------------


async def test_a_rule_shows_what_it_is_worth(web: Web) -> None:
    """What it found and did, how often a moderator said that it was wrong, and where it goes."""
    before = some(4, first=1, rule="r", ts_ms=NOON_MS - 30 * HOUR_MS)
    now = some(3, first=10, rule="r")
    await happen(web, *before, *now, *some(1, first=20, rule="new", severity="low"))
    first, second, _ = now
    assert hasattr(first, "event_id")
    assert hasattr(second, "event_id")
    await happen(web, ActionSettled(GUILD, first.event_id, first.ts_ms, "done"))
    await happen(web, ActionSettled(GUILD, second.event_id, second.ts_ms, "failed"))
    for event_id, verdict in ((first.event_id, "false_positive"), (second.event_id, "confirmed")):
        await web.insights.review(
            GUILD,
            event_id,
            verdict,
            None,
            from_version=0,
            change=Change(1, None),  # type: ignore[arg-type]
        )
    answer = await ask(web, "rule-effectiveness")
    assert (answer["violations"], answer["message"], answer["period"]) == (4, None, "day")
    assert answer["rules"] == [
        {
            "rule": "r",
            "violations": 3,
            "by_severity": {"low": 0, "medium": 3, "high": 0, "critical": 0},
            "actions": {"done": 1, "failed": 1, "pending": 1},
            "reviewed": 2,
            "false_positives": 1,
            "false_positive_share": 0.5,
            "trend": {"previous": 4, "change": -0.25},
        },
        {
            "rule": "new",
            "violations": 1,
            "by_severity": {"low": 1, "medium": 0, "high": 0, "critical": 0},
            "actions": {"done": 0, "failed": 0, "pending": 1},
            "reviewed": 0,
            "false_positives": 0,
            "false_positive_share": None,
            "trend": {"previous": 0, "change": None},
        },
    ]


# -- when -----------------------------------------------------------------------------------------


async def test_hours_are_those_of_the_zone(web: Web) -> None:
    """What happened at 13:20 UTC on a Monday was in Kolkata at 18:50, and is counted there."""
    monday = 1_789_996_800_000 - 3 * 24 * HOUR_MS - 1_789_996_800_000 % (24 * HOUR_MS)
    monday -= (monday // (24 * HOUR_MS) + 3) % 7 * 24 * HOUR_MS
    web.clock.now_ms = monday + 20 * HOUR_MS
    await happen(web, *some(2, ts_ms=monday + 13 * HOUR_MS + 20 * 60_000))
    for zone, hour in (("UTC", 13), ("Asia/Kolkata", 18), ("America/New_York", 9)):
        answer = await ask(web, "temporal-analytics", timezone=zone)
        cells = {
            (day, hour): count
            for day, row in enumerate(answer["heatmap"])
            for hour, count in enumerate(row)
            if count
        }
        assert cells == {(0, hour): 2}
        assert (answer["timezone"], answer["violations"]) == (zone, 2)
        [peak] = answer["peaks"]
        assert (peak["weekday"], peak["hour"], peak["violations"]) == (0, hour, 2)
        assert answer["quiet_hours"] == [one for one in range(24) if one != hour]


@pytest.mark.parametrize(
    "zone",
    ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 200, "Europe/Berlin "],
)
async def test_a_zone_that_is_none_is_refused(web: Web, zone: str) -> None:
    """With the name of the parameter, and without a look at files."""
    browser = await web.browser_of(membership(owns=True))
    answer = await browser.get(f"{HERE}/temporal-analytics", params={"timezone": zone})
    assert answer.status_code == 422
    assert [problem["where"] for problem in answer.json()["details"]] == ["query.timezone"]


# -- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ANSWERS[1:])
async def test_an_answer_that_takes_too_long_is_a_504(web: Web, what: str) -> None:
    """And tells what to do, and nothing internal."""
    web.insights.slow = True
    answer = await (await web.browser_of(membership(owns=True))).get(f"{HERE}/{what}")
    assert (answer.status_code, answer.json()["error_code"]) == (504, "query_too_slow")


@pytest.mark.parametrize("what", ANSWERS)
async def test_what_is_asked_together_is_counted_once(
    web: Web, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Identical questions share one answer; another period is another question."""
    asked = []
    get_cached = web.caches.get

    async def noted(name: Any, guild_id: int, key: Any, load: Any) -> Any:
        asked.append((name, guild_id, key))
        return await get_cached(name, guild_id, key, load)

    monkeypatch.setattr(web.caches, "get", noted)
    for period in ("day", "week", "week"):
        await ask(web, what, period=period)
    day, week, again = asked
    assert day[:2] == ("metrics", GUILD)
    assert day != week == again


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("period", ["year", "", "DAY", "1"])
async def test_a_period_that_is_none_is_refused(web: Web, what: str, period: str) -> None:
    """Only the four periods are answered."""
    browser: httpx2.AsyncClient = await web.browser_of(membership(owns=True))
    answer = await browser.get(f"{HERE}/{what}", params={"period": period})
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_request")
    assert [problem["where"] for problem in answer.json()["details"]] == ["query.period"]
