"""Members' roles by Discord's REST API, asked as the bot."""

from __future__ import annotations

from typing import TypeVar

import httpx2

from adapters.discord_answers import MemberRoles, NotDiscord, Refusal, Role, busy, read
from domain.errors import DiscordUnavailable

T = TypeVar("T")

TIMEOUT_S = 10.0
UNKNOWN_GUILD, UNKNOWN_MEMBER, UNKNOWN_USER, MISSING_ACCESS = 10004, 10007, 10013, 50001
NO_MEMBER = frozenset({UNKNOWN_GUILD, UNKNOWN_MEMBER, UNKNOWN_USER, MISSING_ACCESS})
"""Discord's codes that mean "no roles". Two of them say that the bot is not in the guild: its mappings give
nothing then. A 403 or 404 with any other code, or with none, is no answer: it may be a proxy's page."""


class DiscordMembers:
    """Implements :class:`domain.roles.MemberSource` and :class:`domain.roles.GuildRoleSource`."""

    def __init__(self, *, api_base: str, token: str) -> None:
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
        member = await self._get(f"/guilds/{guild_id}/members/{user_id}", MemberRoles)
        return frozenset() if member is None else frozenset({guild_id, *map(int, member.roles)})

    async def guild_roles(self, guild_id: int) -> frozenset[int]:
        """See the port."""
        roles = await self._get(f"/guilds/{guild_id}/roles", list[Role])
        if roles is None:
            raise DiscordUnavailable("The bot is not in this guild.")
        return frozenset({guild_id, *(int(role.id) for role in roles)})

    async def _get(self, path: str, kind: type[T]) -> T | None:
        """Return what Discord answers; None where it says that there is no such member or guild."""
        try:
            response = await self._client.get(path)
            if response.status_code == httpx2.codes.OK:
                return read(response.content, kind)
            if response.status_code in (httpx2.codes.NOT_FOUND, httpx2.codes.FORBIDDEN):
                if read(response.content, Refusal).code in NO_MEMBER:
                    return None
            elif response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                refusal = read(response.content, Refusal)
                raise busy(refusal.retry_after, everywhere=refusal.everywhere)
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        except NotDiscord as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")
