"""What discord.py hears of roles and owners, as the domain knows it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import discord
import structlog

from domain.authority import GuildAuthority, MemberAuthority

log = structlog.get_logger()

_MEMBER_UPDATE = "GUILD_MEMBER_UPDATE"


def guild_authority(guild: discord.Guild, at_ms: int, deleted: int | None = None) -> GuildAuthority:
    """Return who is what in a guild now, and which role is no longer there."""
    gone = frozenset() if deleted is None else frozenset({deleted})
    return GuildAuthority(guild.id, at_ms, guild.owner_id or 0, _administrators(guild) - gone, gone)


def member_authority(
    guild: discord.Guild, user_id: int, role_ids: Collection[int], at_ms: int
) -> MemberAuthority:
    """Return what somebody is who has these roles beside @everyone."""
    roles = frozenset({guild.id, *role_ids})
    return MemberAuthority(guild.id, user_id, at_ms, roles, not roles.isdisjoint(_administrators(guild)))


def on_member_update(client: discord.Client, heard: Callable[[int, int, list[int]], None]) -> None:
    """Call back with guild, user and roles of every member that Discord says has changed.

    discord.py tells of a member's change only when it has the member in its cache, and there is none. So this
    stands before its own handling of the event.
    """
    parsers = client._connection.parsers  # noqa: SLF001 - there is no event for it
    parse = parsers[_MEMBER_UPDATE]

    def hear(data: Any) -> None:
        try:
            heard(int(data["guild_id"]), int(data["user"]["id"]), [int(role) for role in data["roles"]])
        except Exception:
            log.exception("member_update_not_read")
        parse(data)

    parsers[_MEMBER_UPDATE] = hear


def _administrators(guild: discord.Guild) -> frozenset[int]:
    return frozenset(role.id for role in guild.roles if role.permissions.administrator)
