"""Property 1: a guild in which nothing happened has answers like any other, with zeros in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.events import SEVERITIES
from domain.ids import DISCORD_EPOCH_MS, HOUR_MS, MAX_SNOWFLAKE
from domain.insights import PERIOD_HOURS
from tests.serve_app.web import PLAIN, Web, membership, running

EXAMPLES = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

guild_ids = st.integers(1, MAX_SNOWFLAKE)
periods = st.sampled_from(sorted(PERIOD_HOURS))
pages = st.integers(1, 100_000)
per_page = st.integers(1, 100)
clocks = st.integers(1, 4_102_444_800_000)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"])
filters = st.fixed_dictionaries(
    {},
    optional={
        "severity": st.sampled_from(SEVERITIES),
        "detection": st.sampled_from(["invite_link", "repeated_message"]),
        "user_id": guild_ids.map(str),
        "rule": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=100),
        "since": st.integers(DISCORD_EPOCH_MS, 253_402_300_799_999),
        "until": st.integers(DISCORD_EPOCH_MS, 253_402_300_799_999),
        "review": st.sampled_from(["unreviewed", "reviewed", "confirmed", "false_positive", "dismissed"]),
    },
)

NOTHING = {"low": 0, "medium": 0, "high": 0, "critical": 0}


@pytest.fixture(scope="module")
async def web(page_dir: Path) -> AsyncIterator[Web]:
    async with running(PLAIN, page_dir) as web:
        yield web


async def ask(web: Web, guild_id: int, what: str, **params: Any) -> Any:
    async with await web.browser_of(membership(guild_id, owns=True)) as owner:
        answer = await owner.get(f"/api/servers/{guild_id}/{what}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def check_span(answer: dict[str, Any], guild_id: int, period: str, now_ms: int) -> None:
    hours = PERIOD_HOURS[period]  # type: ignore[index]
    assert (answer["guild_id"], answer["period"], answer["until"]) == (str(guild_id), period, now_ms)
    assert answer["since"] == now_ms - now_ms % HOUR_MS - (hours - 1) * HOUR_MS


@EXAMPLES
@given(guild_id=guild_ids, wanted=filters, page=pages, per_page=per_page)
async def test_an_empty_list_of_violations_is_a_list(
    web: Web, guild_id: int, wanted: dict[str, Any], page: int, per_page: int
) -> None:
    """Whatever is asked for: no rows, no total, and a message."""
    answer = await ask(web, guild_id, "violations", page=page, per_page=per_page, **wanted)
    assert answer.pop("message")
    assert answer == {
        "data": [],
        "total": 0,
        "page": page,
        "per_page": per_page,
        "has_next": False,
        "has_prev": page > 1,
        "is_empty": True,
        "next": None,
        "prev": None,
    }


@EXAMPLES
@given(guild_id=guild_ids, period=periods, page=pages, per_page=per_page, now_ms=clocks, zone=zones)
async def test_analytics_of_nothing_are_zeros(  # noqa: PLR0917 - hypothesis names them
    web: Web, guild_id: int, period: str, page: int, per_page: int, now_ms: int, zone: str
) -> None:
    """Nothing is missing and nothing is an error; health is whole, what was not measured is null."""
    web.clock.now_ms = now_ms

    metrics = await ask(web, guild_id, "metrics", period=period)
    check_span(metrics, guild_id, period, now_ms)
    assert metrics["by_severity"] == NOTHING
    assert {metrics[name] for name in ("messages", "violations", "joins", "leaves")} == {0}
    assert all(bucket["messages"] == bucket["violations"] == 0 for bucket in metrics["series"])
    assert metrics["series"]

    health = await ask(web, guild_id, "health", period=period)
    check_span(health, guild_id, period, now_ms)
    assert (health["score"], health["limited_data"], health["response_ms"]) == (100.0, True, None)
    assert health["by_severity"] == NOTHING
    assert {part["score"] for part in health["parts"]} == {100.0}
    assert health["message"]

    offenders = await ask(web, guild_id, "top-offenders", period=period, page=page, per_page=per_page)
    assert (offenders["data"], offenders["total"], offenders["is_empty"]) == ([], 0, True)
    assert (offenders["page"], offenders["per_page"], offenders["has_next"]) == (page, per_page, False)
    assert offenders["message"]

    rules = await ask(web, guild_id, "rule-effectiveness", period=period)
    check_span(rules, guild_id, period, now_ms)
    assert (rules["rules"], rules["violations"]) == ([], 0)
    assert rules["message"]

    when = await ask(web, guild_id, "temporal-analytics", period=period, timezone=zone)
    check_span(when, guild_id, period, now_ms)
    assert when["heatmap"] == [[0] * 24 for _ in range(7)]
    assert (when["peaks"], when["quiet_hours"], when["major_events"]) == ([], [], [])
    assert (when["timezone"], when["violations"]) == (zone, 0)
    assert when["message"]
