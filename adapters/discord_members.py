"""Members' roles by Discord's REST API, asked as the bot."""

from __future__ import annotations

import httpx2

from domain.errors import DiscordBusy, DiscordUnavailable

TIMEOUT_S = 10.0
BUSY_S = 1.0
"""How long to wait when Discord does not say."""


class DiscordMembers:
    """Implements :class:`domain.roles.MemberSource`."""

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
            body = response.json()
            if response.status_code == httpx2.codes.OK:
                return frozenset({guild_id, *map(int, body["roles"])})
            if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                raise DiscordBusy(retry_after_s=float(body.get("retry_after", BUSY_S)))
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")
