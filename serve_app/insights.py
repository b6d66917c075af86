"""What a server's numbers say: how much happens, how well it is, who and which rules, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from domain.guild import HourCounts
from domain.guild_settings import TimeZone
from domain.health import HealthPart, Vitals, judge
from domain.ids import HOUR_MS, hour_start
from domain.insights import Offender, Period, RuleRecord, Span, span_of
from domain.rhythm import USUAL_HOURS, MajorEvent, Peak, major_events, rhythm
from domain.views import HourView, SeverityCounts, UserView, View, hour_view, severity_counts
from serve_app.access import Granted, Needs
from serve_app.answers import remembered
from serve_app.paging import Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute
from serve_app.ports import ApiPorts

router = APIRouter(prefix="/api/servers/{guild_id}", tags=["insights"], route_class=PlainRoute)

BUCKET_HOURS: dict[Period, int] = {"hour": 1, "day": 1, "week": 1, "month": 24}

QUIET = "No violations in this period. Numbers appear here as soon as there are some."

Looks = Annotated[Granted, Depends(Needs("view_dashboard"))]


class _OfPeriod(View):
    """Numbers of a period of whole UTC hours, the running one included."""

    guild_id: str
    period: Period
    since: int
    until: int
    violations: int


class Metrics(_OfPeriod):
    """How much happened."""

    messages: int
    by_severity: SeverityCounts
    joins: int
    leaves: int
    member_count: int | None
    bot_online: bool
    series: list[HourView]


class ServerHealth(_OfPeriod):
    """How well a server is, from 0 to 100: the sum of the parts' scores, weighted.

    With ``limited_data`` too little happened for the score to say much.
    """

    score: float
    limited_data: bool
    parts: list[HealthPart]
    messages: int
    by_severity: SeverityCounts
    response_ms: int | None
    escalated_people: int
    message: str | None


class TopOffender(View):
    """A person with violations in the period."""

    user: UserView
    violations: int
    by_severity: SeverityCounts
    last_violation: int


class Outcomes(View):
    """How the actions that a rule called for ended."""

    done: int
    failed: int
    pending: int


class Trend(View):
    """Violations against those of as many hours before; ``change`` is null when there were none then."""

    previous: int
    change: float | None


class RuleEffectiveness(View):
    """What a rule did; ``false_positive_share`` is of its reviewed violations, null without reviews."""

    rule: str
    violations: int
    by_severity: SeverityCounts
    actions: Outcomes
    reviewed: int
    false_positives: int
    false_positive_share: float | None
    trend: Trend


class RulesEffectiveness(_OfPeriod):
    """What each rule did, who has most violations first; rules that nobody broke are not there."""

    rules: list[RuleEffectiveness]
    message: str | None


class TemporalAnalytics(_OfPeriod):
    """When violations happened, in local time: ``heatmap[weekday][hour]``, Monday first.

    ``major_events`` are hours of the period that stand out against the server's usual ones.
    """

    timezone: str
    heatmap: list[list[int]]
    peaks: list[Peak]
    quiet_hours: list[int]
    major_events: list[MajorEvent]
    message: str | None


@router.get("/metrics", response_model=Metrics)
async def metrics(granted: Looks, period: Period = "day") -> Response:
    """Count what happened in a server."""
    guild_id, ports = granted.guild_id, granted.ports

    async def load() -> Metrics:
        now_ms = ports.now_ms()
        span = span_of(period, now_ms)
        buckets = _buckets(await _hours(ports, guild_id, span), span, BUCKET_HOURS[period])
        known = (await ports.store.guilds([guild_id])).get(guild_id)
        total = _sum(buckets)
        return Metrics(
            guild_id=str(guild_id),
            period=period,
            since=span.since_ms,
            until=now_ms,
            messages=total.messages,
            violations=total.violations,
            by_severity=severity_counts(total),
            joins=total.joins,
            leaves=total.leaves,
            member_count=known.member_count if known else None,
            bot_online=bool(known and known.bot_online),
            series=[hour_view(bucket) for bucket in buckets],
        )

    return await _remembered(ports, guild_id, ("metrics", period), load)


@router.get("/health", response_model=ServerHealth)
async def health(granted: Looks, period: Period = "day") -> Response:
    """Tell how well a server is, and why."""
    guild_id, ports = granted.guild_id, granted.ports

    async def load() -> ServerHealth:
        now_ms = ports.now_ms()
        span = span_of(period, now_ms)
        hours, response_ms, escalated = await asyncio.gather(
            _hours(ports, guild_id, span),
            ports.insights.response_ms(guild_id, span),
            ports.insights.escalated(guild_id, span),
        )
        total = _sum(hours)
        by_severity = severity_counts(total)
        judged = judge(Vitals(total.messages, by_severity, response_ms, escalated))
        return ServerHealth(
            guild_id=str(guild_id),
            period=period,
            since=span.since_ms,
            until=now_ms,
            score=judged.score,
            limited_data=judged.limited_data,
            parts=judged.parts,
            messages=total.messages,
            violations=total.violations,
            by_severity=by_severity,
            response_ms=response_ms,
            escalated_people=escalated,
            message="There is little to judge by yet." if judged.limited_data else None,
        )

    return await _remembered(ports, guild_id, ("health", period), load)


@router.get("/top-offenders", response_model=Page[TopOffender])
async def top_offenders(granted: Looks, wanted: PageWanted, period: Period = "day") -> Response:
    """List who broke most rules, with what is known of them."""
    guild_id, ports = granted.guild_id, granted.ports

    async def load() -> Page[TopOffender]:
        offenders, total = await ports.insights.offenders(
            guild_id, span_of(period, ports.now_ms()), limit=wanted.per_page, offset=wanted.offset
        )
        people = await ports.people.resolve([offender.user_id for offender in offenders])
        rows = [_offender(offender, people[offender.user_id]) for offender in offenders]
        return page_of(rows, total, wanted, when_empty="Nobody broke a rule in this period.")

    key = ("top-offenders", period, wanted.page, wanted.per_page)
    return await _remembered(ports, guild_id, key, load)


@router.get("/rule-effectiveness", response_model=RulesEffectiveness)
async def rule_effectiveness(granted: Looks, period: Period = "day") -> Response:
    """Tell what each rule did, how its actions ended, and how often it was wrong."""
    guild_id, ports = granted.guild_id, granted.ports

    async def load() -> RulesEffectiveness:
        now_ms = ports.now_ms()
        span = span_of(period, now_ms)
        rules = [_rule(record) for record in await ports.insights.rules(guild_id, span)]
        violations = sum(rule.violations for rule in rules)
        return RulesEffectiveness(
            guild_id=str(guild_id),
            period=period,
            since=span.since_ms,
            until=now_ms,
            violations=violations,
            rules=rules,
            message=None if violations else QUIET,
        )

    return await _remembered(ports, guild_id, ("rule-effectiveness", period), load)


@router.get("/temporal-analytics", response_model=TemporalAnalytics)
async def temporal_analytics(
    granted: Looks, period: Period = "week", timezone: Annotated[TimeZone, Query()] = "UTC"
) -> Response:
    """Tell at which hours violations happen in a time zone, and which hours were out of the ordinary."""
    guild_id, ports = granted.guild_id, granted.ports

    async def load() -> TemporalAnalytics:
        now_ms = ports.now_ms()
        span = span_of(period, now_ms)
        quarters, usual = await asyncio.gather(
            ports.insights.quarters(guild_id, span),
            ports.store.hours(guild_id, span.until_ms - USUAL_HOURS * HOUR_MS),
        )
        when = rhythm(quarters, span, ZoneInfo(timezone))
        violations = sum(quarters.values())
        return TemporalAnalytics(
            guild_id=str(guild_id),
            period=period,
            since=span.since_ms,
            until=now_ms,
            violations=violations,
            timezone=timezone,
            heatmap=when.heatmap,
            peaks=when.peaks,
            quiet_hours=when.quiet_hours,
            major_events=major_events(usual, span, now_ms),
            message=None if violations else QUIET,
        )

    return await _remembered(ports, guild_id, ("temporal-analytics", period, timezone), load)


async def _remembered(
    ports: ApiPorts, guild_id: int, key: Hashable, load: Callable[[], Awaitable[BaseModel]]
) -> Response:
    """Answer from memory, for as long as the running hour is the same: every period ends with it."""
    return await remembered(ports, "metrics", guild_id, (key, hour_start(ports.now_ms())), load)


def _offender(offender: Offender, user: UserView) -> TopOffender:
    return TopOffender(
        user=user,
        violations=offender.violations,
        by_severity=offender.by_severity,
        last_violation=offender.last_ms,
    )


def _rule(record: RuleRecord) -> RuleEffectiveness:
    now, before = record.by_severity.total, record.before
    return RuleEffectiveness(
        rule=record.rule,
        violations=now,
        by_severity=record.by_severity,
        actions=Outcomes(done=record.done, failed=record.failed, pending=record.pending),
        reviewed=record.reviewed,
        false_positives=record.false_positives,
        false_positive_share=round(record.false_positives / record.reviewed, 3) if record.reviewed else None,
        trend=Trend(previous=before, change=round((now - before) / before, 3) if before else None),
    )


async def _hours(ports: ApiPorts, guild_id: int, span: Span) -> list[HourCounts]:
    """Return the span's hours in which something happened.

    Discord's clock may run ahead of ours: an hour that has not begun here is not among them.
    """
    hours = await ports.store.hours(guild_id, span.since_ms)
    return [hour for hour in hours if hour.hour_ms < span.until_ms]


def _sum(hours: list[HourCounts]) -> HourCounts:
    total = HourCounts(0)
    for hour in hours:
        total = total.plus(hour)
    return total


def _buckets(hours: list[HourCounts], span: Span, bucket_hours: int) -> list[HourCounts]:
    """Return one bucket for every ``bucket_hours`` of the span, empty ones included."""
    width = bucket_hours * HOUR_MS
    buckets = [HourCounts(start_ms) for start_ms in range(span.since_ms, span.until_ms, width)]
    for hour in hours:
        index = (hour.hour_ms - span.since_ms) // width
        buckets[index] = buckets[index].plus(hour)
    return buckets
