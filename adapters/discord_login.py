"""Discord's OAuth2 for people: code grant with PKCE, by Authlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from adapters.discord_answers import (
    BUSY_S,
    Guild,
    NotDiscord,
    Refusal,
    TokenAnswer,
    User,
    busy,
    picture_url,
    read,
    take,
)
from domain.errors import DiscordUnavailable, LoginFailed
from domain.events import UserRef
from domain.sessions import Identity, SessionGuild, Tokens
from domain.text import storable

SCOPE = "identify guilds"
TIMEOUT_S = 15.0
"""For a login, which a person waits for and would have to begin anew."""
ASK_TIMEOUT_S = 5.0
"""For everything that can be asked again later."""
STRANGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What Authlib raises over an answer that is none, and what we raise."""

T = TypeVar("T")


class DiscordLogin:
    """Implements :class:`domain.sessions.LoginProvider`."""

    def __init__(
        self, *, api_base: str, authorize_url: str, client_id: str, client_secret: str, redirect_uri: str
    ) -> None:
        self._api_base = api_base
        self._authorize_url = authorize_url
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_uri = redirect_uri
        self._http = httpx2.AsyncClient(timeout=ASK_TIMEOUT_S)

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    def authorize_url(self, state: str, code_verifier: str) -> str:
        """See the port."""
        url, _ = self._client(TIMEOUT_S).create_authorization_url(
            self._authorize_url, state=state, code_verifier=code_verifier
        )
        return str(url)

    async def identify(self, code: str, code_verifier: str) -> Identity:
        """See the port."""
        try:
            async with self._client(TIMEOUT_S) as client:
                answer = await client.fetch_token(
                    f"{self._api_base}/oauth2/token", code=code, code_verifier=code_verifier
                )
                person = await self._get(client, "/users/@me", User)
                guilds = await self._get(client, "/users/@me/guilds", list[Guild])
            return Identity(_user(person), tuple(map(_guild, guilds)), _tokens(answer))
        except AuthlibBaseError as error:
            raise LoginFailed(f"Discord did not accept the login: {error.error}.") from error
        except httpx2.HTTPError as error:
            raise LoginFailed(f"Discord could not be asked: {type(error).__name__}.") from error
        except STRANGE as error:
            raise LoginFailed("What answered the login was not Discord.") from error

    async def guilds(self, access_token: str) -> tuple[SessionGuild, ...]:
        """See the port."""
        with _unavailable_when_strange():
            answer = await self._http.get(
                f"{self._api_base}/users/@me/guilds", headers={"Authorization": f"Bearer {access_token}"}
            )
            _require_calm(answer)
            if answer.status_code == httpx2.codes.UNAUTHORIZED:
                # A session ends by this: a proxy's 401 does not count.
                if read(answer.content, Refusal).code is None:
                    raise NotDiscord
                raise LoginFailed("Discord does not know the access token any more.")
            return tuple(map(_guild, read(answer.raise_for_status().content, list[Guild])))

    async def renew(self, refresh_token: str) -> Tokens:
        """See the port."""
        with _unavailable_when_strange():
            try:
                async with self._client(ASK_TIMEOUT_S) as client:
                    client.register_compliance_hook("refresh_token_response", _require_calm)
                    answer = await client.refresh_token(
                        f"{self._api_base}/oauth2/token", refresh_token=refresh_token
                    )
            except AuthlibBaseError as error:
                # Anything else, a wrong client secret say, is no word about the person.
                if error.error == "invalid_grant":
                    raise LoginFailed("Discord does not take the refresh token any more.") from error
                raise DiscordUnavailable(f"Discord renews nothing: {error.error}.") from error
            return _tokens(answer)

    async def revoke(self, tokens: Tokens) -> None:
        """See the port."""
        with _unavailable_when_strange():
            async with self._client(ASK_TIMEOUT_S) as client:
                answer = await client.revoke_token(
                    f"{self._api_base}/oauth2/token/revoke", tokens.refresh_token, "refresh_token"
                )
            _require_calm(answer)
            answer.raise_for_status()

    def _client(self, timeout_s: float) -> Any:
        return AsyncOAuth2Client(
            client_id=self._client_id,
            client_secret=self._client_secret,
            redirect_uri=self._redirect_uri,
            scope=SCOPE,
            code_challenge_method="S256",
            timeout=timeout_s,
        )

    async def _get(self, client: Any, path: str, kind: type[T]) -> T:
        response = await client.get(f"{self._api_base}{path}")
        response.raise_for_status()
        return read(response.content, kind)


@contextmanager
def _unavailable_when_strange() -> Iterator[None]:
    """Take whatever is no answer of Discord's for Discord being away."""
    try:
        yield
    except httpx2.HTTPError as error:
        raise DiscordUnavailable(f"Discord could not be asked: {type(error).__name__}.") from error
    except STRANGE as error:
        raise DiscordUnavailable("What answered was not Discord.") from error


def _require_calm(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        raise busy(float(answer.headers.get("retry-after", BUSY_S)))
    return answer


def _tokens(answer: object) -> Tokens:
    found = take(answer, TokenAnswer)
    return Tokens(found.access_token, found.refresh_token, found.expires_at * 1000)


def _user(person: User) -> UserRef:
    return UserRef(int(person.id), storable(person.username), person.shown_name, person.avatar_url)


def _guild(guild: Guild) -> SessionGuild:
    return SessionGuild(
        guild_id=int(guild.id),
        name=storable(guild.name),
        icon_url=picture_url("icons", guild.id, guild.icon),
        owns=guild.owner,
        permissions=int(guild.permissions),
    )
