"""Members' roles by Discord's REST API, asked as the bot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx2
from cachetools import LRUCache

from adapters.discord_answers import (
    ListedMember,
    MemberRoles,
    NotDiscord,
    Refusal,
    Role,
    busy_by,
    exhausted_s,
    read,
)
from domain.errors import DiscordBusy, DiscordUnavailable
from domain.roles import MemberPage

T = TypeVar("T")

TIMEOUT_S = 10.0
PAGE_SIZE = 500
"""Discord gives 1,000. Members with many roles take a kilobyte each, and an answer may have a megabyte."""
MAX_LIMITS = 20_000

UNKNOWN_GUILD, UNKNOWN_MEMBER, UNKNOWN_USER, MISSING_ACCESS = 10004, 10007, 10013, 50001
NO_MEMBER = frozenset({UNKNOWN_GUILD, UNKNOWN_MEMBER, UNKNOWN_USER, MISSING_ACCESS})
"""Discord's codes that mean "no roles". Two of them say that the bot is not in the guild: its mappings give
nothing then. A 403 or 404 with any other code, or with none, is no answer: it may be a proxy's page."""

_Limited = tuple[str, int]
"""What has a limit of its own: a kind of request, and a guild."""


class DiscordMembers:
    """Implements :class:`domain.roles.MemberSource` and :class:`domain.roles.GuildRoleSource`.

    Discord's limits are kept by what its answers say of them: a request that it would refuse is not sent.
    """

    def __init__(
        self, *, api_base: str, token: str, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic_s = monotonic_s
        self._limited_until_s: LRUCache[_Limited, float] = LRUCache(MAX_LIMITS)
        self._client = httpx2.AsyncClient(
            base_url=api_base,
            headers={"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (guildhall, 0.1)"},
            timeout=TIMEOUT_S,
        )

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    async def discord_roles(self, guild_id: int, user_id: int) -> frozenset[int]:
        """See the port."""
        member = await self._get(("member", guild_id), f"/guilds/{guild_id}/members/{user_id}", MemberRoles)
        return frozenset() if member is None else frozenset({guild_id, *map(int, member.roles)})

    async def list_members(self, guild_id: int, after: int) -> MemberPage:
        """See the port."""
        path = f"/guilds/{guild_id}/members?limit={PAGE_SIZE}&after={after}"
        members = await self._get(("members", guild_id), path, list[ListedMember])
        if members is None:
            raise DiscordUnavailable("The bot is not in this guild, or may not list its members.")
        roles = {int(each.user.id): frozenset({guild_id, *map(int, each.roles)}) for each in members}
        return MemberPage(roles, max(roles) if len(members) >= PAGE_SIZE else None)

    async def guild_roles(self, guild_id: int) -> frozenset[int]:
        """See the port."""
        roles = await self._get(("roles", guild_id), f"/guilds/{guild_id}/roles", list[Role])
        if roles is None:
            raise DiscordUnavailable("The bot is not in this guild.")
        return frozenset({guild_id, *(int(role.id) for role in roles)})

    async def _get(self, limited: _Limited, path: str, kind: type[T]) -> T | None:
        """Return what Discord answers; None where it says that there is no such member or guild."""
        wait_s = self._limited_until_s.get(limited, float("-inf")) - self._monotonic_s()
        if wait_s > 0:
            raise DiscordBusy(retry_after_s=wait_s, everywhere=False)
        try:
            response = await self._client.get(path)
            self._note_limit(limited, exhausted_s(response.headers))
            if response.status_code == httpx2.codes.OK:
                return read(response.content, kind)
            if response.status_code in (httpx2.codes.NOT_FOUND, httpx2.codes.FORBIDDEN):
                if read(response.content, Refusal).code in NO_MEMBER:
                    return None
            elif response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                busy = busy_by(response.content, response.headers)
                if not busy.everywhere:
                    self._note_limit(limited, busy.retry_after_s)
                raise busy
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        except NotDiscord as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")

    def _note_limit(self, limited: _Limited, for_s: float) -> None:
        if for_s > 0:
            self._limited_until_s[limited] = self._monotonic_s() + for_s
