"""A server's violations, and what its moderators say of them."""

from __future__ import annotations

import re
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from domain.events import Detection, Severity
from domain.ids import DISCORD_EPOCH_MS, parse_snowflake
from domain.insights import ReviewState, Wanted
from domain.json_numbers import MOST_WHOLE, WHOLE
from domain.people import People
from domain.views import Verdict, ViolationView
from serve_app.access import ID_SCHEMA, Granted, Needs, Ports
from serve_app.changes import Changes
from serve_app.cursors import Cursor, beyond, cursor_of
from serve_app.errors import ApiError
from serve_app.inputs import PLAIN_TEXT
from serve_app.paging import DIGITS, Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers/{guild_id}/violations", tags=["violations"], route_class=PlainRoute)

MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
MAX_NOTE = 500


def _plausible(ms: int) -> int:
    if not DISCORD_EPOCH_MS <= ms <= MAX_MS:
        unit = "seconds" if DISCORD_EPOCH_MS <= ms * 1000 <= MAX_MS else "something else"
        message = f"must be Unix milliseconds of 2015 or later; this looks like {unit}"
        raise ValueError(message)
    return ms


_Millis = Annotated[
    int,
    AfterValidator(_plausible),
    Field(json_schema_extra={"minimum": DISCORD_EPOCH_MS, "maximum": MAX_MS}),
    DIGITS,
]
Moment = Annotated[_Millis | None, Query(description="Unix milliseconds; Discord began in 2015")]

_CANONICAL_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _canonical(text: object) -> object:
    if isinstance(text, str) and not _CANONICAL_UUID.fullmatch(text):
        message = "must be a UUID with its hyphens"
        raise ValueError(message)
    return text


ViolationId = Annotated[UUID, BeforeValidator(_canonical)]


class NewReview(BaseModel):
    """What a moderator says of a violation."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Verdict
    note: Annotated[str, Field(max_length=MAX_NOTE, json_schema_extra=PLAIN_TEXT)] | None = None
    version: Annotated[int, Field(ge=0, le=MOST_WHOLE), WHOLE]
    """Of the review that it is to replace; 0 when there is none."""


async def wanted_violations(
    *,
    severity: Severity | None = None,
    detection: Detection | None = None,
    user_id: Annotated[str | None, Query(json_schema_extra=ID_SCHEMA)] = None,
    rule: Annotated[str | None, Query(min_length=1, max_length=100, json_schema_extra=PLAIN_TEXT)] = None,
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


class ViolationPage(Page[ViolationView]):
    """A page of violations. ``next`` and ``prev`` are where the list goes on, whatever comes meanwhile.

    Where it was asked for by one of these, ``page`` counts on from there.
    """

    next: str | None
    prev: str | None


@router.get("")
async def list_violations(
    granted: Annotated[Granted, Depends(Needs("view_violations"))],
    ports: Ports,
    page: PageWanted,
    wanted: Annotated[Wanted, Depends(wanted_violations)],
    cursor: Annotated[Cursor | None, Query(description="`next` or `prev` of a page")] = None,
) -> ViolationPage:
    """List a server's violations, newest first: by the number of a page, or on from another one."""
    place = None if cursor is None else beyond(cursor)
    # One more than is shown tells whether there is more.
    rows, total = await ports.insights.violations(
        granted.guild_id, wanted, limit=page.per_page + 1, offset=page.offset, beyond=place
    )
    more = len(rows) > page.per_page
    backwards = place is not None and place.newer
    rows = rows[-page.per_page :] if backwards else rows[: page.per_page]
    behind = page.page > 1 or (place is not None and bool(rows))
    older, newer = (behind, more) if backwards else (more, behind)
    of_guild = "No violations yet. New ones appear here by themselves."
    of_filter = "No violation is like this. Take a filter away to see more."
    listed = page_of(
        await _with_people(rows, ports.people),
        total,
        page,
        when_empty=of_guild if wanted == Wanted() else of_filter,
    )
    if place is not None and total and not rows:
        listed.message = "There is nothing further on."
    return ViolationPage(
        **dict(listed)
        | {
            "has_next": older,
            "has_prev": newer,
            "next": cursor_of(rows[-1], newer=False) if older and rows else None,
            "prev": cursor_of(rows[0], newer=True) if newer and rows else None,
        }
    )


@router.get("/{violation_id}")
async def read_violation(
    granted: Annotated[Granted, Depends(Needs("view_violations"))], ports: Ports, violation_id: ViolationId
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
    violation_id: ViolationId,
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
