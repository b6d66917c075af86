"""A server's violations, and what its moderators say of them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from domain.events import Detection, Severity
from domain.ids import parse_snowflake
from domain.insights import ReviewState, Wanted
from domain.people import People
from domain.views import Verdict, ViolationView
from serve_app.access import Granted, Needs, Ports
from serve_app.changes import Changes
from serve_app.errors import ApiError
from serve_app.paging import Page, PageWanted, page_of

router = APIRouter(prefix="/api/servers/{guild_id}/violations", tags=["violations"])

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
MAX_NOTE = 500

Moment = Annotated[int | None, Query(ge=0, le=MAX_MS, description="Unix milliseconds")]


class NewReview(BaseModel):
    """What a moderator says of a violation."""

    model_config = ConfigDict(extra="forbid")

    verdict: Verdict
    note: Annotated[str, Field(max_length=MAX_NOTE)] | None = None
    version: Annotated[int, Field(ge=0, le=2**31 - 1)]
    """Of the review that it is to replace; 0 when there is none."""


async def wanted_violations(
    *,
    severity: Severity | None = None,
    detection: Detection | None = None,
    user_id: str | None = None,
    rule: Annotated[str | None, Query(max_length=100)] = None,
    since: Moment = None,
    until: Moment = None,
    review: ReviewState | None = None,
) -> Wanted:
    """Return which violations the query asks for: from ``since`` on, before ``until``."""
    person = None if user_id is None else parse_snowflake(user_id)
    if user_id is not None and person is None:
        raise ApiError(422, "invalid_user_id", "A person's id is a number as Discord writes it.")
    return Wanted(
        severity=severity,
        detection=detection,
        user_id=person,
        rule=rule,
        since_ms=since,
        until_ms=until,
        review=review,
    )


@router.get("")
async def list_violations(
    granted: Annotated[Granted, Depends(Needs("view_violations"))],
    ports: Ports,
    page: PageWanted,
    wanted: Annotated[Wanted, Depends(wanted_violations)],
) -> Page[ViolationView]:
    """List a server's violations, newest first."""
    rows, total = await ports.insights.violations(
        granted.guild_id, wanted, limit=page.per_page, offset=page.offset
    )
    return page_of(
        await _with_people(rows, ports.people),
        total,
        page,
        when_empty="No violations yet. New ones appear here by themselves."
        if wanted == Wanted()
        else "No violation is like this. Take a filter away to see more.",
    )


@router.get("/{violation_id}")
async def read_violation(
    granted: Annotated[Granted, Depends(Needs("view_violations"))], ports: Ports, violation_id: UUID
) -> ViolationView:
    """Show one violation."""
    violation = await ports.insights.violation(granted.guild_id, violation_id)
    if violation is None:
        raise _no_such_violation()
    return (await _with_people([violation], ports.people))[0]


@router.post("/{violation_id}/review")
async def review_violation(
    granted: Annotated[Granted, Depends(Needs("manage_violations"))],
    ports: Ports,
    change: Changes,
    violation_id: UUID,
    said: NewReview,
) -> ViolationView:
    """Keep what a moderator says of a violation; 409 when somebody else reviewed it meanwhile."""
    note = (said.note or "").strip() or None
    reviewed = await ports.insights.review(
        granted.guild_id, violation_id, said.verdict, note, from_version=said.version, change=change
    )
    if reviewed is None:
        raise _no_such_violation()
    [violation] = await _with_people([reviewed.violation], ports.people)
    if reviewed.changed:
        await ports.announcer.announce(granted.guild_id, "violation", violation.plain())
    return violation


async def _with_people(violations: list[ViolationView], people: People) -> list[ViolationView]:
    """Find out who they are whose names did not come with their violations."""
    nameless = {int(one.user.id) for one in violations if one.user.display_name is None}
    if not nameless:
        return violations
    found = await people.resolve(nameless)
    return [
        one.model_copy(update={"user": found[int(one.user.id)]}) if int(one.user.id) in nameless else one
        for one in violations
    ]


def _no_such_violation() -> ApiError:
    return ApiError(404, "no_such_violation", "This server has no such violation.")
