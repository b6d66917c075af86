"""Lists, a page at a time."""

from __future__ import annotations

import re
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator

T = TypeVar("T")


def _digits(text: object) -> object:
    if isinstance(text, str) and not re.fullmatch(r"0|[1-9][0-9]{0,18}", text):
        message = "must be a whole number, written as digits"
        raise ValueError(message)
    return text


DIGITS = BeforeValidator(_digits)
"""A number in a query has one way to be written: not ``1.0``, ``+1`` or ``1_000``. It stands last, or the
bounds before it are in no description."""

MAX_PER_PAGE = 100
MAX_PAGE = 100_000


class PageRequest(BaseModel):
    """Which page of a list is wanted."""

    page: int
    per_page: int

    @property
    def offset(self) -> int:
        """Rows before the page."""
        return (self.page - 1) * self.per_page


async def _page_request(
    page: Annotated[int, Query(ge=1, le=MAX_PAGE), DIGITS] = 1,
    per_page: Annotated[int, Query(ge=1, le=MAX_PER_PAGE), DIGITS] = 50,
) -> PageRequest:
    return PageRequest(page=page, per_page=per_page)


PageWanted = Annotated[PageRequest, Depends(_page_request)]


class Page(BaseModel, Generic[T]):
    """One page of a list; ``message`` helps when there is nothing."""

    data: list[T]
    total: int
    page: int
    per_page: int
    has_next: bool
    has_prev: bool
    is_empty: bool
    message: str | None


def _why_empty(total: int, wanted: PageRequest, when_empty: str) -> str:
    if total == 0:
        return when_empty
    last = (total - 1) // wanted.per_page + 1
    return f"There is no page {wanted.page}: the last one is {last}."


def page_of(rows: list[T], total: int, wanted: PageRequest, *, when_empty: str) -> Page[T]:
    """Return the page that holds these rows out of ``total``."""
    return Page(
        data=rows,
        total=total,
        page=wanted.page,
        per_page=wanted.per_page,
        has_next=wanted.offset + len(rows) < total and bool(rows),
        has_prev=wanted.page > 1,
        is_empty=not rows,
        message=_why_empty(total, wanted, when_empty) if not rows else None,
    )
