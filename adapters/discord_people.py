"""People by Discord's REST API, asked as the bot."""

from __future__ import annotations

from collections.abc import Callable

import httpx2

from adapters.discord_answers import NotDiscord, Refusal, User, busy, read
from domain.errors import DiscordUnavailable
from domain.people import Person, described, gone
from domain.text import storable

TIMEOUT_S = 10.0
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
        except httpx2.HTTPError as error:
            raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
        seen_ms = self._now_ms()
        try:
            if response.status_code == httpx2.codes.OK:
                user = _of(user_id, read(response.content, User))
                name, shown = storable(user.username), user.shown_name
                return described(user_id, name, shown, user.avatar_url, seen_ms=seen_ms)
            if response.status_code == httpx2.codes.NOT_FOUND:
                if read(response.content, Refusal).code == UNKNOWN_USER:
                    return gone(user_id, seen_ms=seen_ms)
            elif response.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                raise busy(read(response.content, Refusal).retry_after)
        except NotDiscord as error:
            raise DiscordUnavailable("What answered was not Discord.") from error
        raise DiscordUnavailable(f"Discord answered {response.status_code}.")


def _of(user_id: int, user: User) -> User:
    if int(user.id) != user_id:
        raise NotDiscord
    return user
