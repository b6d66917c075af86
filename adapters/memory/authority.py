"""The twin of what the gateway said of people who are logged in."""

from __future__ import annotations

from collections.abc import Collection

from domain.authority import FACTS_KEPT_MS, AuthorityNotice, MemberAuthority, change_of
from domain.errors import SessionsUnavailable


class MemoryAuthorityStore:
    """Implements :class:`domain.authority.AuthorityStore`: it keeps something of who is ``logged_in``."""

    def __init__(self) -> None:
        self.logged_in: set[int] = set()
        self.available = True
        self._kept: dict[tuple[int, int | None], AuthorityNotice] = {}

    async def keep(self, notices: Collection[AuthorityNotice]) -> set[int]:
        """See the port."""
        self._require()
        people = {notice.user_id for notice in notices if isinstance(notice, MemberAuthority)}
        for notice in notices:
            if not isinstance(notice, MemberAuthority) or notice.user_id in self.logged_in:
                self._kept[change_of(notice)[:2]] = notice
        return people & self.logged_in

    async def load(self, now_ms: int) -> list[AuthorityNotice]:
        """See the port."""
        self._require()
        self._kept = {
            about: kept for about, kept in self._kept.items() if now_ms - kept.at_ms < FACTS_KEPT_MS
        }
        return list(self._kept.values())

    def _require(self) -> None:
        if not self.available:
            raise SessionsUnavailable
