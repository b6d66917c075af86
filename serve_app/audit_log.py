"""Who did what in a server, and who was turned away."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from domain.views import UserView
from serve_app.access import ID_SCHEMA, Granted, Needs, Ports, snowflake_of
from serve_app.paging import Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers/{guild_id}/audit-log", tags=["audit log"], route_class=PlainRoute)


class Logged(BaseModel):
    """One entry. ``actor`` is null when it was nobody who is known; ``target`` is what it was done to."""

    id: str
    at: int
    action: str
    actor: UserView | None
    target: str | None
    details: dict[str, Any]
    request_id: str | None


async def actor_id_of(
    actor_id: Annotated[
        str | None, Query(description="Only what this Discord user did", json_schema_extra=ID_SCHEMA)
    ] = None,
) -> int | None:
    """Return the person whose entries are wanted, if it is one person's."""
    return None if actor_id is None else snowflake_of(actor_id, "invalid_actor_id", "A person's")


@router.get("")
async def audit_log(
    granted: Annotated[Granted, Depends(Needs("view_config"))],
    ports: Ports,
    wanted: PageWanted,
    actor_id: Annotated[int | None, Depends(actor_id_of)],
    action: Annotated[str | None, Query(pattern=r"^[a-z_]+\.[a-z_]+$", max_length=64)] = None,
) -> Page[Logged]:
    """List what was done in a server and what was refused, newest first."""
    rows, total = await ports.audit.page(
        granted.guild_id, limit=wanted.per_page, offset=wanted.offset, action=action, actor_id=actor_id
    )
    names = await ports.people.resolve({row.entry.actor_id for row in rows if row.entry.actor_id is not None})
    shown = [
        Logged(
            id=str(row.audit_id),
            at=row.at_ms,
            action=row.entry.action,
            actor=None if row.entry.actor_id is None else names[row.entry.actor_id],
            target=row.entry.target,
            details=row.entry.details,
            request_id=row.entry.request_id,
        )
        for row in rows
    ]
    return page_of(shown, total, wanted, when_empty="Nothing is noted here yet.")
