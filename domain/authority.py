"""Who lost or gained authority on Discord, as the gateway says, and when that outweighs an older list.

Where somebody is a member, and what they may do there, stands in a list that Discord gives for a person every
few minutes. What the gateway reports is newer than every list that was asked for before it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from domain.permissions import ADMINISTRATOR, Role
from domain.roles import AuthorityChange, GuildRoles, Member

LIST_MARGIN_MS = 10_000
"""Clocks differ, and a list takes its time to arrive: one that is not clearly newer is taken for older."""

OWNER_FROM_GATEWAY_MS = 10 * 60_000
"""For so long at least a new owner is taken from the gateway, and on until the database shows another one
than it did: what waits on the way to it may be older."""

FACTS_KEPT_MS = 24 * 3_600_000
"""As long as the oldest list that may still be shown."""


class MemberAuthority(msgspec.Struct, frozen=True, tag="member"):
    """What the gateway said of a member."""

    guild_id: int
    user_id: int
    at_ms: int
    discord_roles: frozenset[int] | None
    """The member's roles, @everyone among them; None when they are no member any more."""
    administrator: bool = False
    """Whether one of these roles has Discord's permission ADMINISTRATOR."""


class GuildAuthority(msgspec.Struct, frozen=True, tag="guild"):
    """What the gateway said of a guild's roles or owner."""

    guild_id: int
    at_ms: int
    owner_id: int | None
    """None when the bot is there no longer, and hears nothing of the guild from here on."""
    administrators: frozenset[int] = frozenset()
    """The roles that have Discord's permission ADMINISTRATOR now."""
    deleted: frozenset[int] = frozenset()
    """Roles that are no longer there, though members may be remembered to have them."""
    missed: bool = False
    """Whether members may have changed before it without a notice."""


AuthorityNotice = MemberAuthority | GuildAuthority


def change_of(notice: AuthorityNotice) -> AuthorityChange:
    """Return what a notice means for those who hold answers."""
    user_id = notice.user_id if isinstance(notice, MemberAuthority) else None
    return AuthorityChange(notice.guild_id, user_id, notice.at_ms)


def outweighs(notice: AuthorityNotice, member: Member, now_ms: int) -> bool:
    """Whether a notice is newer than the list that describes a member.

    A list from the future counts as old: a clock was set back since, or another one goes wrong.
    """
    return member.as_of_ms > now_ms + LIST_MARGIN_MS or notice.at_ms + LIST_MARGIN_MS > member.as_of_ms


def replaces(notice: AuthorityNotice, earlier: AuthorityNotice, now_ms: int) -> bool:
    """Whether a notice counts in place of an earlier one of the same; one from the future holds up none."""
    return notice.at_ms >= earlier.at_ms or earlier.at_ms > now_ms + LIST_MARGIN_MS


class Judgement(NamedTuple):
    """What somebody is in a guild, or that it is not known."""

    known: bool
    role: Role | None = None
    member: Member | None = None
    """The person as they are now; None where they are no member."""
    discord_roles: frozenset[int] = frozenset()


def asks_discord(
    member: Member, record: GuildRoles, fact: MemberAuthority | None, guild: GuildAuthority | None
) -> bool:
    """Whether the person's role depends on which roles Discord gave them."""
    if fact is not None and fact.discord_roles is None:
        return False
    if record.owns(member) or member.user_id in record.assigned:
        return False
    return bool(record.mapped) or _administers(member, fact, guild, None) is None


def judge(
    member: Member,
    record: GuildRoles,
    fact: MemberAuthority | None,
    guild: GuildAuthority | None,
    discord_roles: frozenset[int] | None,
) -> Judgement:
    """Say what somebody is. ``fact`` and ``guild`` are what was heard and outweighs their list.

    ``discord_roles`` are the person's roles, None where they matter and are not known.
    """
    if fact is not None and fact.discord_roles is None:
        return Judgement(known=True)
    if not record.owns(member) and member.user_id not in record.assigned:
        administrator = _administers(member, fact, guild, discord_roles)
        if discord_roles is None or administrator is None:
            return Judgement(known=False)
        bits = member.discord_permissions & ~ADMINISTRATOR
        member = member._replace(discord_permissions=bits | ADMINISTRATOR if administrator else bits)
    roles = discord_roles or frozenset()
    return Judgement(True, record.role_of(member, roles), member, roles)


def _administers(
    member: Member,
    fact: MemberAuthority | None,
    guild: GuildAuthority | None,
    discord_roles: Collection[int] | None,
) -> bool | None:
    """Return whether somebody is an administrator on Discord, or None when that is not known."""
    if guild is None or guild.owner_id is None or (fact is not None and fact.at_ms >= guild.at_ms):
        return bool(member.discord_permissions & ADMINISTRATOR) if fact is None else fact.administrator
    if not guild.administrators:
        return False
    if fact is not None and fact.discord_roles is not None:
        return not guild.administrators.isdisjoint(fact.discord_roles)
    if not member.discord_permissions & ADMINISTRATOR:
        return False  # if that was gained since, the next list says so
    return None if discord_roles is None else not guild.administrators.isdisjoint(discord_roles)


class AuthorityStore(Protocol):
    """Keeps what the gateway said of people who are logged in, for a day, over all lives of the Rbac actor.

    All calls raise ``SessionsUnavailable``.
    """

    async def keep(self, notices: Collection[AuthorityNotice]) -> set[int]:
        """Keep those about guilds, and about people who are logged in; return these people's ids.

        A notice replaces what was kept of the same member or guild.
        """
        ...

    async def load(self, now_ms: int) -> list[AuthorityNotice]:
        """Return what is kept, and forget what is too old."""
        ...
