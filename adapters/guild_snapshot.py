"""What the bot must know of a guild to go on in a session that does not describe it again.

discord.py learns of guilds by GUILD_CREATE, which follows an IDENTIFY and never a RESUME. So a runner keeps
what its handlers need of each: the names of guild and channels, the owner, and the roles' permissions.
"""

from __future__ import annotations

from typing import Any

import discord
import msgspec
import structlog

log = structlog.get_logger()

_LONG_AGO = "2015-01-01T00:00:00+00:00"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def encode_guild(guild: discord.Guild) -> bytes:
    """Return a guild as it is known now."""
    return _encode(
        {
            "id": str(guild.id),
            "name": guild.name,
            "icon": guild._icon,  # noqa: SLF001 - the public property has the address, not the hash
            "owner_id": str(guild.owner_id) if guild.owner_id else None,
            "member_count": guild.member_count,
            "unavailable": guild.unavailable,
            "roles": [
                {
                    "id": str(role.id),
                    "name": role.name,
                    "permissions": str(role.permissions.value),
                    "position": role.position,
                }
                for role in guild.roles
            ],
            "channels": [
                {"id": str(channel.id), "name": channel.name, "type": channel.type.value}
                for channel in guild.channels
            ],
            "threads": [
                {
                    "id": str(thread.id),
                    "name": thread.name,
                    "type": thread.type.value,
                    "parent_id": str(thread.parent_id),
                    "owner_id": str(thread.owner_id),
                }
                for thread in guild.threads
            ],
        }
    )


def restore_guild(client: discord.Client, payload: bytes) -> None:
    """Put a guild into discord.py's cache as if it had been described, unless it cannot be read."""
    try:
        known = _decode(payload)
        for channel in known["channels"]:
            channel |= {"position": 0, "bitrate": 64_000, "user_limit": 0}
        for thread in known["threads"]:
            archived = {"archived": False, "auto_archive_duration": 60, "archive_timestamp": _LONG_AGO}
            thread |= {"message_count": 0, "member_count": 0, "thread_metadata": archived}
        client._connection._add_guild_from_data(known)  # type: ignore[arg-type]  # noqa: SLF001
    except Exception:
        log.exception("guild_not_restored")
