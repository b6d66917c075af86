"""The warnings that a server's members have."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.ids import parse_snowflake
from domain.people import People
from domain.user_warnings import UserWarnings
from domain.views import UserView
from serve_app.access import ID_SCHEMA, Granted, Needs, Ports, UserId
from serve_app.changes import Changes
from serve_app.paging import Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers/{guild_id}/warnings", tags=["warnings"], route_class=PlainRoute)


class Warned(BaseModel):
    """Somebody, and how often they were warned since their warnings were last cleared."""

    user: UserView
    count: int
    last_at: int | None
    cleared_by: UserView | None
    cleared_at: int | None


class Cleared(BaseModel):
    """Whose warnings were cleared: those who had any."""

    cleared: list[str]


def _snowflake(text: str) -> str:
    if parse_snowflake(text) is None:
        message = "must be a Discord id, written as digits"
        raise ValueError(message)
    return text


_UserId = Annotated[str, AfterValidator(_snowflake), Field(json_schema_extra=ID_SCHEMA)]


class BulkClear(BaseModel):
    """Whose warnings to clear."""

    model_config = ConfigDict(extra="forbid", strict=True)

    user_ids: Annotated[list[_UserId], Field(min_length=1, max_length=100)]


@router.get("")
async def list_warned(
    granted: Annotated[Granted, Depends(Needs("view_warnings"))], ports: Ports, wanted: PageWanted
) -> Page[Warned]:
    """List who has warnings, most first."""
    rows, total = await ports.warnings.warned(granted.guild_id, limit=wanted.per_page, offset=wanted.offset)
    shown = await _shown(rows, ports.people)
    return page_of(shown, total, wanted, when_empty="Nobody has a warning here.")


@router.get("/{user_id}")
async def read_warnings(
    granted: Annotated[Granted, Depends(Needs("view_warnings"))], ports: Ports, user_id: UserId
) -> Warned:
    """Show somebody's warnings; who never had one has none."""
    found = await ports.warnings.warnings_of(granted.guild_id, user_id)
    if found is None:
        user = (await ports.people.resolve([user_id]))[user_id]
        return Warned(user=user, count=0, last_at=None, cleared_by=None, cleared_at=None)
    return (await _shown([found], ports.people))[0]


@router.delete("/{user_id}")
async def clear_warnings(
    granted: Annotated[Granted, Depends(Needs("manage_warnings"))],
    ports: Ports,
    change: Changes,
    user_id: UserId,
) -> Cleared:
    """Clear somebody's warnings."""
    return await _clear(granted, ports, change, [user_id])


@router.post("/bulk-clear")
async def clear_many(
    granted: Annotated[Granted, Depends(Needs("manage_warnings"))],
    ports: Ports,
    change: Changes,
    wanted: BulkClear,
) -> Cleared:
    """Clear the warnings of up to a hundred people, all or none of them."""
    return await _clear(granted, ports, change, [int(user_id) for user_id in wanted.user_ids])


async def _clear(granted: Granted, ports: Ports, change: Changes, user_ids: list[int]) -> Cleared:
    cleared = [
        str(user_id) for user_id in await ports.warnings.clear(granted.guild_id, user_ids, change=change)
    ]
    if cleared:
        await ports.announcer.announce(granted.guild_id, "warning_update", {"cleared": cleared})
    return Cleared(cleared=cleared)


async def _shown(rows: list[UserWarnings], people: People) -> list[Warned]:
    named = {row.user_id for row in rows} | {row.cleared_by for row in rows if row.cleared_by is not None}
    names = await people.resolve(named)
    return [
        Warned(
            user=names[row.user_id],
            count=row.count,
            last_at=row.last_at_ms,
            cleared_by=names[row.cleared_by] if row.cleared_by is not None else None,
            cleared_at=row.cleared_at_ms,
        )
        for row in rows
    ]
