"""People by Discord's REST API, asked as the bot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2

from adapters.discord_login import CDN
from domain.errors import DiscordBusy, DiscordUnavailable
from domain.people import Person, described, gone
from domain.text import storable

TIMEOUT_S = 10.0
BUSY_S = 1.0
"""How long to wait when Discord does not say."""
UNKNOWN_USER = 10013


class DiscordPeople:
    """Implements :class:`domain.people.PersonSource`."""

    def __init__(self, *, api_base: str, token: str, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._client = httpx2.AsyncClient(
            base_url=api_base,
            headers={"Authorization": f"Bot {token}", "User-Agent": "DiscordBot (guildhall, 0.1)"},
            timeout=TIMEOUT_S,
        )

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    async def describe(self, user_id: int) -> Person:
        """See the port."""
        try:
            response = await self._client.get(f"/users/{user_id}")
            body = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        seen_ms = self._now_ms()
        try:
            if response.status_code == httpx2.codes.OK:
                return _described(user_id, body, seen_ms)
            if response.status_code == httpx2.codes.NOT_FOUND and body["code"] == UNKNOWN_USER:
                return gone(user_id, seen_ms=seen_ms)
            if response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                raise DiscordBusy(retry_after_s=float(body.get("retry_after", BUSY_S)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")


def _described(user_id: int, body: dict[str, Any], seen_ms: int) -> Person:
    avatar = body.get("avatar")
    return described(
        user_id,
        storable(body["username"]),
        storable(body.get("global_name") or body["username"]),
        f"{CDN}/avatars/{user_id}/{avatar}.png?size=64" if avatar else None,
        seen_ms=seen_ms,
    )
