"""Reads a guild's violations over HTTP: the state that its stream continues."""

from __future__ import annotations

from http import HTTPStatus

import aiohttp
import msgspec

from guildhall.live.messages import Violation
from guildhall.live.status import LoadFailed
from guildhall.live.words import LoadFailure

PER_PAGE = 100
"""The longest page that the API gives."""

_REFUSALS: dict[int, LoadFailure] = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    # What was asked for is refused: asking again, for ever, would get the same answer.
    HTTPStatus.BAD_REQUEST: "forbidden",
    HTTPStatus.NOT_FOUND: "forbidden",
    HTTPStatus.UNPROCESSABLE_ENTITY: "forbidden",
}


class RecentViolations(msgspec.Struct, frozen=True):
    """A guild's violations, the newest first, each once."""

    rows: tuple[Violation, ...]
    complete: bool
    """False where there are older ones that were not read."""


class _Page(msgspec.Struct, frozen=True):
    data: list[Violation]
    has_next: bool


_pages = msgspec.json.Decoder(_Page)


class ReadViolations:
    """Something to give to ``follow`` as its ``load``.

    Args:
        http: whose connections to use; it stays open.
        url: the dashboard's address.
        guild_id: the guild's Discord id.
        cookie: opens the session, as for ``follow``.
        most: how many violations to read at most, in pages of 100.
        within_s: how long a page may take.

    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        guild_id: str | int,
        *,
        cookie: str | None = None,
        most: int = 500,
        within_s: float = 30.0,
    ) -> None:
        self._http = http
        self._address = f"{url.rstrip('/')}/api/servers/{guild_id}/violations"
        self._headers = {} if cookie is None else {"Cookie": cookie}
        self._most = most
        self._timeout = aiohttp.ClientTimeout(total=within_s)

    async def __call__(self) -> RecentViolations:
        """Return the newest violations.

        What happens meanwhile moves rows on to later pages, so a row may come twice, but none is passed over.

        Raises:
            LoadFailed: with what the API said, or "unavailable" where it said nothing of use.

        """
        rows: dict[str, Violation] = {}
        page = _Page([], has_next=True)
        number = 0
        while page.has_next and len(rows) < self._most:
            number += 1
            page = await self._page(number)
            for violation in page.data:
                rows.setdefault(violation.id, violation)
        newest = tuple(rows.values())[: self._most]
        return RecentViolations(newest, complete=not page.has_next and len(newest) == len(rows))

    async def _page(self, number: int) -> _Page:
        query = {"per_page": PER_PAGE, "page": number}
        try:
            async with self._http.get(
                self._address, params=query, headers=self._headers, timeout=self._timeout
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise LoadFailed("unavailable", f"The API did not answer: {problem!r}") from problem
        if answer.status != HTTPStatus.OK:
            failure = _REFUSALS.get(answer.status, "unavailable")
            raise LoadFailed(failure, f"The API answered {answer.status}.")
        try:
            return _pages.decode(body)
        except msgspec.MsgspecError as problem:
            raise LoadFailed("unavailable", f"The API's answer cannot be read: {problem}") from problem
