"""Who changes something, and by which request: for the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from domain.audit import Change
from serve_app.access import Changing


async def change_of(request: Request, session: Changing) -> Change:
    """Return the change that a request makes, after checking that it came from our own page."""
    return Change(session.user.user_id, request.state.request_id)


Changes = Annotated[Change, Depends(change_of)]
