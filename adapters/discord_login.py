"""Discord's OAuth2 for people: code grant with PKCE, by Authlib."""

from __future__ import annotations

from typing import Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from domain.errors import LoginFailed
from domain.events import UserRef
from domain.sessions import Identity, SessionGuild
from domain.text import storable

SCOPE = "identify guilds"
CDN = "https://cdn.discordapp.com"
TIMEOUT_S = 15.0


class DiscordLogin:
    """Implements :class:`domain.ports.LoginProvider`.

    The access token lives as long as one ``identify``: nothing of it is kept.
    """

    def __init__(
        self, *, api_base: str, authorize_url: str, client_id: str, client_secret: str, redirect_uri: str
    ) -> None:
        self._api_base = api_base
        self._authorize_url = authorize_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri

    def authorize_url(self, state: str, code_verifier: str) -> str:
        """See the port."""
        url, _ = self._client().create_authorization_url(
            self._authorize_url, state=state, code_verifier=code_verifier
        )
        return str(url)

    async def identify(self, code: str, code_verifier: str) -> Identity:
        """See the port."""
        try:
            async with self._client() as client:
                await client.fetch_token(
                    f"{self._api_base}/oauth2/token", code=code, code_verifier=code_verifier
                )
                person = await self._get(client, "/users/@me")
                guilds = await self._get(client, "/users/@me/guilds")
            return Identity(_user(person), tuple(_guild(guild) for guild in guilds))
        except AuthlibBaseError as error:
            raise LoginFailed(f"Discord did not accept the login: {error.error}.") from error
        except httpx2.HTTPError as error:
            raise LoginFailed(f"Discord could not be asked: {type(error).__name__}.") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LoginFailed("What answered the login was not Discord.") from error

    def _client(self) -> Any:
        return AsyncOAuth2Client(
            client_id=self._client_id,
            client_secret=self._client_secret,
            redirect_uri=self._redirect_uri,
            scope=SCOPE,
            code_challenge_method="S256",
            timeout=TIMEOUT_S,
        )

    async def _get(self, client: Any, path: str) -> Any:
        response = await client.get(f"{self._api_base}{path}")
        response.raise_for_status()
        return response.json()


def _user(person: dict[str, Any]) -> UserRef:
    user_id, avatar = person["id"], person.get("avatar")
    return UserRef(
        user_id=int(user_id),
        username=storable(person["username"]),
        display_name=storable(person.get("global_name") or person["username"]),
        avatar_url=f"{CDN}/avatars/{user_id}/{avatar}.png?size=64" if avatar else None,
    )


def _guild(guild: dict[str, Any]) -> SessionGuild:
    guild_id, icon = guild["id"], guild.get("icon")
    return SessionGuild(
        guild_id=int(guild_id),
        name=storable(guild["name"]),
        icon_url=f"{CDN}/icons/{guild_id}/{icon}.png?size=64" if icon else None,
        owns=bool(guild.get("owner")),
        permissions=int(guild.get("permissions", "0")),
    )
