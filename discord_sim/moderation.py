"""What changes who may do what in a guild: roles, bans, a new owner, a bot that is thrown out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from . import payloads
from .protocol import Event, Intents
from .world import EVERYONE_PERMISSIONS, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .simulation import Simulation
    from .world import Guild


class Moderation:
    """Applies such changes to the world of a simulation, and tells the gateway's sessions as Discord does."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world

    def give_roles(self, guild: Guild, user_id: int, role_ids: Iterable[int]) -> None:
        """Let a member have these roles, and no others."""
        member = guild.members[user_id]
        member.role_ids = tuple(role_ids)
        data = payloads.member(member) | {"guild_id": str(guild.id)}
        self._tell("GUILD_MEMBER_UPDATE", data, guild.id, Intents.GUILD_MEMBERS)

    def ban(self, guild: Guild, user_id: int) -> None:
        """Ban a member; they leave with it."""
        data = {"guild_id": str(guild.id), "user": payloads.user(guild.members[user_id].user)}
        self._tell("GUILD_BAN_ADD", data, guild.id, Intents.GUILD_MODERATION)
        self._simulation.leave(guild, user_id)

    def make_role(self, guild: Guild, name: str, permissions: int) -> Role:
        """Add a role."""
        role = Role(self._simulation.fresh_id(), name, permissions, len(guild.roles))
        guild.roles[role.id] = role
        self._tell_role("GUILD_ROLE_CREATE", guild, role)
        return role

    def change_role(self, guild: Guild, role_id: int, permissions: int) -> Role:
        """Give a role these permissions."""
        role = guild.roles[role_id]
        role.permissions = permissions
        self._tell_role("GUILD_ROLE_UPDATE", guild, role)
        return role

    def delete_role(self, guild: Guild, role_id: int) -> None:
        """Delete a role. As on Discord, no event names the members who had it."""
        del guild.roles[role_id]
        for member in guild.members.values():
            member.role_ids = tuple(kept for kept in member.role_ids if kept != role_id)
        ids = {"guild_id": str(guild.id), "role_id": str(role_id)}
        self._tell("GUILD_ROLE_DELETE", ids, guild.id, Intents.GUILDS)

    def give_away(self, guild: Guild, owner_id: int) -> None:
        """Give a guild to another member."""
        guild.owner_id = owner_id
        self._tell("GUILD_UPDATE", payloads.guild(guild), guild.id, Intents.GUILDS)

    def throw_bot_out(self, guild: Guild) -> None:
        """Remove the bot from a guild; the guild goes on without it."""
        guild.has_bot = False
        del guild.members[self._world.bot.id], self._world.guilds[guild.id]
        for channel in guild.channels:
            del self._world.channels[channel.id]
        self._world.add_guild(guild)
        self._tell("GUILD_DELETE", {"id": str(guild.id)}, guild.id, Intents.GUILDS)

    def _tell_role(self, name: str, guild: Guild, role: Role) -> None:
        data = {"guild_id": str(guild.id), "role": payloads.role(role)}
        self._tell(name, data, guild.id, Intents.GUILDS)

    def _tell(self, name: str, data: dict[str, Any], guild_id: int, intents: int) -> None:
        event = Event(name, orjson.dumps(data), guild_id=guild_id, intents=intents)
        self._simulation.gateway.dispatch(event)


NEW_ROLE_PERMISSIONS = EVERYONE_PERMISSIONS
