"""What the dashboard shows of a person's servers."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from domain.guild import HourCounts
from domain.ids import HOUR_MS, hour_start
from domain.permissions import PERMISSIONS, Permission, Role
from domain.ports import GuildRow
from domain.sessions import SessionGuild
from domain.views import HourView, SeverityCounts, ViolationView, hour_view, severity_counts
from serve_app.access import Granted, LoggedIn, Needs, OfGate, Ports
from serve_app.paging import Page, PageWanted, page_of

router = APIRouter(prefix="/api/servers", tags=["servers"])

Period = Literal["hour", "day", "week", "month"]

PERIOD_HOURS: dict[Period, int] = {"hour": 1, "day": 24, "week": 7 * 24, "month": 30 * 24}
BUCKET_HOURS: dict[Period, int] = {"hour": 1, "day": 1, "week": 1, "month": 24}


class Server(BaseModel):
    """A server that the person may look at, and what they may do there.

    ``invite_url`` is there when the bot is not.
    """

    id: str
    name: str
    icon_url: str | None
    member_count: int | None
    role: Role
    permissions: list[Permission]
    bot_present: bool
    bot_online: bool
    invite_url: str | None


class Metrics(BaseModel):
    """A server's numbers over a period of whole UTC hours, the running one included."""

    guild_id: str
    period: Period
    since: int
    until: int
    messages: int
    violations: int
    by_severity: SeverityCounts
    joins: int
    leaves: int
    member_count: int | None
    bot_online: bool
    series: list[HourView]


@router.get("")
async def servers(session: LoggedIn, ports: Ports, gate: OfGate, wanted: PageWanted) -> Page[Server]:
    """List the servers that the person may look at, by name."""
    roles = await gate.roles_of(session)
    visible = sorted(
        (guild for guild in session.guilds if guild.guild_id in roles),
        key=lambda guild: (guild.name.casefold(), guild.guild_id),
    )
    page = visible[wanted.offset : wanted.offset + wanted.per_page]
    known = await ports.store.guilds([guild.guild_id for guild in page])
    rows = [
        _server(guild, roles[guild.guild_id], known.get(guild.guild_id), ports.settings.invite_url)
        for guild in page
    ]
    return page_of(
        rows,
        len(visible),
        wanted,
        when_empty="None of your servers is open to you here. Ask a server's owner for a role.",
    )


@router.get("/{guild_id}/metrics")
async def metrics(
    granted: Annotated[Granted, Depends(Needs("view_dashboard"))], ports: Ports, period: Period = "day"
) -> Metrics:
    """Count what happened in a server."""
    now_ms = ports.now_ms()
    since = hour_start(now_ms) - (PERIOD_HOURS[period] - 1) * HOUR_MS
    hours = await ports.store.hours(granted.guild_id, since)
    known = (await ports.store.guilds([granted.guild_id])).get(granted.guild_id)
    buckets = _buckets(hours, since, PERIOD_HOURS[period], BUCKET_HOURS[period])
    total = HourCounts(since)
    for bucket in buckets:
        total = total.plus(bucket)
    return Metrics(
        guild_id=str(granted.guild_id),
        period=period,
        since=since,
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


@router.get("/{guild_id}/violations")
async def violations(
    granted: Annotated[Granted, Depends(Needs("view_violations"))], ports: Ports, wanted: PageWanted
) -> Page[ViolationView]:
    """List a server's violations, newest first."""
    rows, total = await ports.store.violations(granted.guild_id, limit=wanted.per_page, offset=wanted.offset)
    return page_of(rows, total, wanted, when_empty="No violations yet. New ones appear here by themselves.")


def _server(guild: SessionGuild, role: Role, row: GuildRow | None, invite_url: str) -> Server:
    present = row is not None and row.bot_present
    return Server(
        id=str(guild.guild_id),
        name=guild.name,
        icon_url=guild.icon_url,
        member_count=row.member_count if row else None,
        role=role,
        permissions=sorted(PERMISSIONS[role]),
        bot_present=present,
        bot_online=row is not None and row.bot_online,
        invite_url=None if present else f"{invite_url}&guild_id={guild.guild_id}",
    )


def _buckets(hours: list[HourCounts], since: int, count: int, bucket_hours: int) -> list[HourCounts]:
    """Return one bucket for every ``bucket_hours`` of the period, empty ones included.

    Discord's clock may run ahead of ours: an hour that has not begun here is in no bucket and no sum.
    """
    width = bucket_hours * HOUR_MS
    buckets = [HourCounts(since + index * width) for index in range(count // bucket_hours)]
    for hour in hours:
        index = (hour.hour_ms - since) // width
        if 0 <= index < len(buckets):
            buckets[index] = buckets[index].plus(hour)
    return buckets
