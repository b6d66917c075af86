"""What the gateway said that outweighs older lists: remembered by the Rbac actor, bounded, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from cachetools import LRUCache

from domain.authority import (
    LIST_MARGIN_MS,
    OWNER_FROM_GATEWAY_MS,
    AuthorityNotice,
    GuildAuthority,
    MemberAuthority,
    outweighs,
    replaces,
)
from domain.roles import GuildRoles, Member

MAX_MEMBERS = 100_000
MAX_GUILDS = 20_000
MAX_DELETED_ROLES = 50_000
MAX_LISTS = 200_000

N = TypeVar("N", MemberAuthority, GuildAuthority)


class _Fact(NamedTuple, Generic[N]):
    notice: N
    order: int
    """How many were remembered when it came, itself among them."""


class _List(NamedTuple):
    as_of_ms: int
    order: int
    """How many notices were remembered when it was first seen."""


class AuthorityFacts:
    """The newest notice of each member and guild. To remember an older one changes nothing.

    What is newer is told by clocks, and clocks differ. But a list that was seen before a notice came is older
    than it, whatever the clocks say.
    """

    def __init__(self) -> None:
        self._members: LRUCache[tuple[int, int], _Fact[MemberAuthority]] = LRUCache(MAX_MEMBERS)
        self._guilds: LRUCache[int, _Fact[GuildAuthority]] = LRUCache(MAX_GUILDS)
        self._deleted: LRUCache[int, None] = LRUCache(MAX_DELETED_ROLES)
        self._lists: LRUCache[tuple[int, int], _List] = LRUCache(MAX_LISTS)
        self._order = 0
        self._overruled: LRUCache[int, list[int | None]] = LRUCache(MAX_GUILDS)
        """Guilds whose owner is taken from the gateway, with the one whom the database showed at first."""

    def remember(self, notices: Iterable[AuthorityNotice], now_ms: int) -> None:
        """Remember notices."""
        for notice in notices:
            if isinstance(notice, MemberAuthority):
                about = notice.guild_id, notice.user_id
                if self._is_news(notice, self._members.get(about), now_ms):
                    self._members[about] = _Fact(notice, self._order)
                continue
            self._deleted.update(dict.fromkeys(notice.deleted))
            earlier = self._guilds.get(notice.guild_id)
            if self._is_news(notice, earlier, now_ms):
                owner_id = None if earlier is None else earlier.notice.owner_id
                if notice.owner_id != owner_id and now_ms - notice.at_ms <= OWNER_FROM_GATEWAY_MS:
                    self._overruled[notice.guild_id] = []
                self._guilds[notice.guild_id] = _Fact(notice, self._order)

    def about(self, member: Member, now_ms: int) -> tuple[MemberAuthority | None, GuildAuthority | None]:
        """Return what was said of a member and of the guild, where it outweighs the member's list."""
        seen = self._first_seen(member, now_ms)
        fact = self._members.get((member.guild_id, member.user_id))
        guild = self._guilds.get(member.guild_id)
        return (
            None if fact is None or not _counts(fact, member, seen, now_ms) else fact.notice,
            None if guild is None or not _counts(guild, member, seen, now_ms) else guild.notice,
        )

    def existing(self, discord_roles: frozenset[int]) -> frozenset[int]:
        """Return those of a member's roles that were not deleted since they were asked for."""
        return frozenset(role_id for role_id in discord_roles if role_id not in self._deleted)

    def corrected(self, guild_id: int, record: GuildRoles, now_ms: int) -> GuildRoles:
        """Return what is on record of a guild, with the owner that the gateway named if that is newer."""
        fact, shown = self._guilds.get(guild_id), self._overruled.get(guild_id)
        if fact is None or fact.notice.owner_id is None or shown is None:
            return record
        if not shown:
            shown.append(record.discord_owner_id)
        owner_id, recorded = fact.notice.owner_id, record.discord_owner_id
        is_old = recorded == shown[0] and recorded != owner_id
        if not is_old and now_ms - fact.notice.at_ms > OWNER_FROM_GATEWAY_MS:
            del self._overruled[guild_id]
            return record
        return GuildRoles(owner_id, record.assigned, record.mapped)

    def _is_news(self, notice: N, known: _Fact[N] | None, now_ms: int) -> bool:
        if known is not None and (notice == known.notice or not replaces(notice, known.notice, now_ms)):
            return False
        self._order += 1
        return True

    def _first_seen(self, member: Member, now_ms: int) -> _List:
        about = member.guild_id, member.user_id
        seen = self._lists.get(about)
        from_future = seen is not None and seen.as_of_ms > now_ms + LIST_MARGIN_MS
        is_newer = seen is None or member.as_of_ms > seen.as_of_ms
        if seen is None or (member.as_of_ms != seen.as_of_ms and (is_newer or from_future)):
            seen = self._lists[about] = _List(member.as_of_ms, self._order)
        return seen


def _counts(fact: _Fact[N], member: Member, seen: _List, now_ms: int) -> bool:
    was_there_before = member.as_of_ms <= seen.as_of_ms and seen.order < fact.order
    return was_there_before or outweighs(fact.notice, member, now_ms)
