"""Measures every answer from a guild with a million violations: by the store, and over HTTP; none remembered.

Beside it, the same statements where Postgres may use no index: a plain scan. Small runs are also held against
plain counting in Python.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

import httpx2

from adapters.clock import now_ms as wall_clock_ms
from adapters.dashboard_store import PostgresDashboardStore
from adapters.insight_store import PostgresInsightStore
from benchmarks import big_guild
from benchmarks.big_guild import GUILD
from benchmarks.one_app import owner_browser
from benchmarks.one_host import database
from benchmarks.result import Result
from domain.ids import HOUR_MS, MAX_SNOWFLAKE
from domain.insights import PERIOD_HOURS, Beyond, InsightStore, Wanted, span_of
from domain.ports import DashboardStore
from domain.rhythm import USUAL_HOURS
from serve_app.cursors import cursor_at

VIOLATIONS = 1_000_000
ROUNDS = 7
PLAIN_ROUNDS = 3
COMPARED_VIOLATIONS = 100_000
"""Up to so many, all answers are also counted in Python."""

PER_PAGE = 50
_DAY_MS = 24 * HOUR_MS
_PLAIN_SCAN = dict.fromkeys(("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"), "off")
_PATIENT_MS = 120_000

Ask = Callable[[], Coroutine[Any, Any, Any]]


class Took(NamedTuple):
    """How long an answer took, in milliseconds."""

    first: float
    p50: float
    worst: float


class Listed(NamedTuple):
    """A page of violations that is asked for."""

    name: str
    wanted: Wanted
    page: int = 1
    beyond: Beyond | None = None
    """A place where the list goes on, rather than at a page of a number."""


async def run(*, violations: int = VIOLATIONS, rounds: int = ROUNDS) -> Result:
    """Make the guild, ask everything in turn, several times, and compare."""
    now_ms = wall_clock_ms()
    async with AsyncExitStack() as stack:
        database_url = await stack.enter_async_context(database())
        started = time.perf_counter()
        await big_guild.make(database_url, violations, now_ms)
        made_s = time.perf_counter() - started
        dashboard = await PostgresDashboardStore.open(database_url)
        stack.push_async_callback(dashboard.close)
        # Without an index, offenders are found by counting everybody's rows: nothing would take longer than
        # scanning them for each person.
        insights, plain = [
            await PostgresInsightStore.open(
                database_url, timeout_ms=_PATIENT_MS, settings=settings, few_rows=few_rows
            )
            for settings, few_rows in (({}, None), (_PLAIN_SCAN, violations))
        ]
        for store in (insights, plain):
            stack.push_async_callback(store.close)
        browser = await stack.enter_async_context(
            owner_browser(GUILD, now_ms, store=dashboard, insights=insights)
        )
        lists = _lists(now_ms, violations)
        by_store = _of_store(insights, dashboard, now_ms, lists)
        stored = await _time(by_store, rounds)
        served = await _time(_over_http(browser, lists), rounds)
        scanned = await _time(_of_store(plain, dashboard, now_ms, lists), PLAIN_ROUNDS)
        exact: dict[str, Any] = {}
        if violations <= COMPARED_VIOLATIONS:
            counted = await big_guild.counted_in_python(database_url, now_ms)
            exact = await _compare(by_store, _of_store(*counted, now_ms, lists))
        sizes = await big_guild.megabytes(database_url)
    short = [took for name, took in (*stored.items(), *served.items()) if name.endswith(("_day", "_week"))]
    figures: dict[str, Any] = {
        "violations": violations,
        "rounds": rounds,
        "made_in_s": round(made_s, 1),
        **sizes,
        **exact,
        "slowest_by_store_ms": _slowest(stored.values()),
        "slowest_over_http_ms": _slowest(served.values()),
        "slowest_of_day_and_week_ms": _slowest(short),
        **{f"store_{name}_ms": took._asdict() for name, took in stored.items()},
        **{f"http_{name}_ms": took._asdict() for name, took in served.items()},
    }
    baseline = {f"plain_scan_{name}_ms_p50": took.p50 for name, took in scanned.items()}
    ratio = sum(took.p50 for took in scanned.values()) / sum(took.p50 for took in stored.values())
    return Result("analytics", figures, baseline, ratio)


def _lists(now_ms: int, violations: int) -> list[Listed]:
    a_month = Wanted(since_ms=now_ms - 45 * _DAY_MS, until_ms=now_ms - 15 * _DAY_MS)
    middle = Beyond(now_ms - 30 * _DAY_MS, MAX_SNOWFLAKE, UUID(int=0))
    return [
        Listed("newest", Wanted()),
        Listed("in_the_middle", Wanted(), violations // PER_PAGE // 2),
        Listed("on_from_the_middle", Wanted(), beyond=middle),
        Listed("back_from_the_middle", Wanted(), beyond=middle._replace(newer=True)),
        Listed("on_of_a_rule", Wanted(rule="rule-number-11"), beyond=middle),
        Listed("critical", Wanted(severity="critical")),
        Listed("of_a_kind", Wanted(detection="banned_word")),
        Listed("of_the_worst_person", Wanted(user_id=big_guild.WORST_PERSON)),
        Listed("of_a_rule", Wanted(rule="rule-number-11")),
        Listed("of_no_rule", Wanted(rule="nobody has this")),
        Listed("of_a_month", a_month),
        Listed("unreviewed", Wanted(review="unreviewed")),
        Listed("unreviewed_of_a_rule", Wanted(review="unreviewed", rule="rule-number-3")),
        Listed("false_positives", Wanted(review="false_positive")),
    ]


def _of_store(
    insights: InsightStore, dashboard: DashboardStore, now_ms: int, lists: list[Listed]
) -> dict[str, Ask]:
    """Return the questions by name; what a route asks for one answer is asked in one."""
    asks: dict[str, Ask] = {}
    for period in PERIOD_HOURS:
        span = span_of(period, now_ms)
        hours = partial(dashboard.hours, GUILD, span.since_ms)
        usual = partial(dashboard.hours, GUILD, span.until_ms - USUAL_HOURS * HOUR_MS)
        response = partial(insights.response_ms, GUILD, span)
        escalated = partial(insights.escalated, GUILD, span)
        asks |= {
            f"metrics_{period}": _all(hours),
            f"health_{period}": _all(hours, response, escalated),
            f"top_offenders_{period}": _all(
                partial(insights.offenders, GUILD, span, limit=PER_PAGE, offset=0)
            ),
            f"rule_effectiveness_{period}": _all(partial(insights.rules, GUILD, span)),
            f"temporal_analytics_{period}": _all(partial(insights.quarters, GUILD, span), usual),
        }
    for name, wanted, page, beyond in lists:
        offset = (page - 1) * PER_PAGE
        asks[f"violations_{name}"] = _all(
            partial(insights.violations, GUILD, wanted, limit=PER_PAGE, offset=offset, beyond=beyond)
        )
    return asks


def _over_http(browser: httpx2.AsyncClient, lists: list[Listed]) -> dict[str, Ask]:
    """Return the same questions as requests."""

    async def get(path: str, **params: Any) -> None:
        answer = await browser.get(f"/api/servers/{GUILD}/{path}", params=params)
        answer.raise_for_status()

    asks: dict[str, Ask] = {}
    for period in PERIOD_HOURS:
        for path in ("metrics", "health", "top-offenders", "rule-effectiveness"):
            asks[f"{path.replace('-', '_')}_{period}"] = partial(get, path, period=period)
        zone = {"timezone": "Europe/Berlin"}
        asks[f"temporal_analytics_{period}"] = partial(get, "temporal-analytics", period=period, **zone)
    for name, wanted, page, beyond in lists:
        given = {
            "severity": wanted.severity,
            "detection": wanted.detection,
            "user_id": wanted.user_id,
            "rule": wanted.rule,
            "since": wanted.since_ms,
            "until": wanted.until_ms,
            "review": wanted.review,
            "page": page,
            "cursor": cursor_at(beyond) if beyond else None,
        }
        params = {key: value for key, value in given.items() if value is not None}
        asks[f"violations_{name}"] = partial(get, "violations", **params)
    return asks


def _all(*questions: Callable[[], Awaitable[Any]]) -> Ask:
    async def ask() -> list[Any]:
        return [await question() for question in questions]

    return ask


async def _time(asks: dict[str, Ask], rounds: int) -> dict[str, Took]:
    """Ask everything in turn, so often."""
    took_ms: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            started = time.perf_counter()
            await ask()
            took_ms[name].append(round((time.perf_counter() - started) * 1000, 1))
    return {name: Took(each[0], median(each), max(each)) for name, each in took_ms.items()}


def _slowest(times: Any) -> dict[str, float]:
    """Return the highest of the medians, and the highest of all."""
    each = list(times)
    return {"p50": max(took.p50 for took in each), "worst": max(took.worst for took in each)}


async def _compare(asks: dict[str, Ask], expected: dict[str, Ask]) -> dict[str, Any]:
    """Hold each answer against the one that Python counted."""
    wrong = [name for name, ask in asks.items() if await ask() != await expected[name]()]
    return {"answers_compared": len(asks), "answers_wrong": wrong}
