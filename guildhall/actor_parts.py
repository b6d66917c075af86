"""What actors open in their own processes. Whatever is imported here, each pays for in time and memory."""

from __future__ import annotations

from functools import partial

from actors import remote
from actors.handles import (
    HostHandle,
)
from actors.host import HostSettings
from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.user_resolver import PersonMemories
from adapters.clock import now_ms
from adapters.discord_members import DiscordMembers
from adapters.guild_store import PostgresGuildStore
from adapters.people_table import PeopleTable
from adapters.postgres import USER_TABLE_CONNECTIONS, open_pool
from adapters.redis_people import RedisPeople


async def open_person_memories(database_url: str, redis_url: str) -> PersonMemories:
    """Open where a UserResolver looks for people."""
    return PersonMemories(
        RedisPeople(redis_url),
        PeopleTable(await open_pool(database_url, max_size=USER_TABLE_CONNECTIONS)),
    )


def ask_for_members(api_base: str, token: str) -> MemberRoles:
    """Return what asks Discord for members' roles, for the Rbac actor."""
    source = DiscordMembers(api_base=api_base, token=token)
    return MemberRoles(MemberRolesSettings(), source)


def create_host(database_url: str, host_id: str, actor_name: str) -> HostHandle:
    """Create a guild host, for the Director."""
    open_store = partial(PostgresGuildStore.open, database_url, actor_name)
    settings = HostSettings(host_id, actor_name, owns_process=True)
    return remote.create_host(actor_name, settings, open_store, now_ms)
