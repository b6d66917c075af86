"""Members' roles by Discord's REST API, asked as the bot."""

from __future__ import annotations

import httpx2

from adapters.discord_answers import MemberRoles, NotDiscord, Refusal, Role, busy, read
from domain.errors import DiscordUnavailable

TIMEOUT_S = 10.0


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
        try:
            response = await self._client.get(f"/guilds/{guild_id}/members/{user_id}")
            if response.status_code in (httpx2.codes.NOT_FOUND, httpx2.codes.FORBIDDEN):
                return frozenset()  # not a member, or not a guild that the bot is in
            if response.status_code == httpx2.codes.OK:
                return frozenset({guild_id, *map(int, read(response.content, MemberRoles).roles)})
            if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                raise busy(read(response.content, Refusal).retry_after)
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        except NotDiscord as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")

    async def guild_roles(self, guild_id: int) -> frozenset[int]:
        """See the port."""
        try:
            response = await self._client.get(f"/guilds/{guild_id}/roles")
            if response.status_code == httpx2.codes.OK:
                return frozenset({guild_id, *(int(role.id) for role in read(response.content, list[Role]))})
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        except NotDiscord as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")
