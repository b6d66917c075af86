"""What the gateway said that outweighs older lists: remembered by the Rbac actor, bounded, newest first."""

from __future__ import annotations

from collections.abc import Iterable

from cachetools import LRUCache

from domain.authority import (
    OWNER_FROM_GATEWAY_MS,
    AuthorityNotice,
    GuildAuthority,
    MemberAuthority,
    outweighs,
)
from domain.roles import GuildRoles, Member

MAX_MEMBERS = 100_000
MAX_GUILDS = 20_000
MAX_DELETED_ROLES = 50_000


class AuthorityFacts:
    """The newest notice of each member and guild. To remember an older one changes nothing."""

    def __init__(self) -> None:
        self._members: LRUCache[tuple[int, int], MemberAuthority] = LRUCache(MAX_MEMBERS)
        self._guilds: LRUCache[int, GuildAuthority] = LRUCache(MAX_GUILDS)
        self._deleted: LRUCache[int, None] = LRUCache(MAX_DELETED_ROLES)

    def remember(self, notices: Iterable[AuthorityNotice]) -> None:
        """Remember notices."""
        for notice in notices:
            if isinstance(notice, MemberAuthority):
                about = notice.guild_id, notice.user_id
                known = self._members.get(about)
                if known is None or known.at_ms <= notice.at_ms:
                    self._members[about] = notice
                continue
            self._deleted.update(dict.fromkeys(notice.deleted))
            earlier = self._guilds.get(notice.guild_id)
            if earlier is None or earlier.at_ms <= notice.at_ms:
                self._guilds[notice.guild_id] = notice

    def about(self, member: Member) -> tuple[MemberAuthority | None, GuildAuthority | None]:
        """Return what was said of a member and of the guild, where it outweighs the member's list."""
        fact = self._members.get((member.guild_id, member.user_id))
        guild = self._guilds.get(member.guild_id)
        return (
            fact if fact is not None and outweighs(fact, member) else None,
            guild if guild is not None and outweighs(guild, member) else None,
        )

    def existing(self, discord_roles: frozenset[int]) -> frozenset[int]:
        """Return those of a member's roles that were not deleted since they were asked for."""
        return frozenset(role_id for role_id in discord_roles if role_id not in self._deleted)

    def corrected(self, guild_id: int, record: GuildRoles, now_ms: int) -> GuildRoles:
        """Return what is on record of a guild with the owner that the gateway named a moment ago."""
        fact = self._guilds.get(guild_id)
        if fact is None or fact.owner_id is None or now_ms - fact.at_ms > OWNER_FROM_GATEWAY_MS:
            return record
        return GuildRoles(fact.owner_id, record.assigned, record.mapped)
