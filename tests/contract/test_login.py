"""One suite for Discord's OAuth2, against the local Discord, and for its twin."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from adapters.clock import now_ms
from adapters.discord_login import DiscordLogin
from adapters.memory import MemoryLogin
from adapters.memory.samples import person
from domain.errors import DiscordBusy, DiscordUnavailable, LoginFailed
from domain.sessions import Identity, LoginProvider, SessionGuild, Tokens

OWNER = Identity(person(1, username="owner"), (SessionGuild(5, "Guild", None, owns=True, permissions=8),))


class Login(NamedTuple):
    """A provider, and a person who says yes, and later no."""

    provider: LoginProvider
    consent: Callable[[str], Awaitable[str]]
    """Take a verifier, return the code that the person comes back with."""
    disown: Callable[[], Awaitable[Any]]
    """Take back everything that the person allowed."""

    async def tokens(self) -> Tokens:
        """Log in; return what Discord answers to from then on."""
        identity = await self.provider.identify(await self.consent(VERIFIER), VERIFIER)
        assert identity.tokens is not None
        return identity.tokens


def real(discord: dict[str, Any], **changes: str) -> DiscordLogin:
    given = {
        "api_base": f"{discord['url']}/api/v10",
        "authorize_url": f"{discord['url']}/oauth2/authorize",
        "client_id": discord["client_id"],
        "client_secret": discord["client_secret"],
        "redirect_uri": "http://localhost/api/auth/callback",
    }
    provider = DiscordLogin(**(given | changes))
    _opened.append(provider)
    return provider


_opened: list[DiscordLogin] = []


@pytest.fixture(autouse=True)
async def closed_again() -> AsyncIterator[None]:
    yield
    while _opened:
        await _opened.pop().close()


def _memory() -> Login:
    provider = MemoryLogin()

    async def consent(verifier: str) -> str:
        code = secrets.token_urlsafe(8)
        provider.allow(code, verifier, OWNER)
        return code

    async def disown() -> None:
        provider.disown(OWNER.user.user_id)

    return Login(provider, consent, disown)


def _discord(discord: dict[str, Any]) -> Login:
    provider = real(discord)

    async def consent(verifier: str) -> str:
        url = f"{provider.authorize_url('a state', verifier)}&user=owner"
        async with httpx2.AsyncClient() as client:
            back = urlsplit((await client.get(url)).headers["location"])
        assert parse_qs(back.query)["state"] == ["a state"]
        return parse_qs(back.query)["code"][0]

    async def disown() -> None:
        await control(discord, "DELETE", "tokens", user="owner")

    return Login(provider, consent, disown)


async def control(discord: dict[str, Any], method: str, path: str, **body: Any) -> None:
    """Make something happen at the local Discord."""
    async with httpx2.AsyncClient() as client:
        answer = await client.request(method, f"{discord['url']}/_sim/{path}", json=body)
        answer.raise_for_status()


@pytest.fixture(params=["memory", "discord"])
async def login(request: pytest.FixtureRequest, discord: dict[str, Any]) -> AsyncIterator[Login]:
    if request.param == "memory":
        yield _memory()
        return
    login = _discord(discord)
    yield login
    await control(discord, "DELETE", "faults")


VERIFIER = "v" * 48


async def test_whoever_comes_back_is_known(login: Login) -> None:
    """Who they are, and the guilds they are in with what they may do there."""
    identity = await login.provider.identify(await login.consent(VERIFIER), VERIFIER)
    assert identity.user.username == "owner"
    assert identity.user.user_id > 0
    assert any(guild.owns for guild in identity.guilds)
    assert all(guild.guild_id > 0 and guild.name for guild in identity.guilds)


async def test_a_code_works_once(login: Login) -> None:
    """Whoever finds it later in a history gets nowhere."""
    code = await login.consent(VERIFIER)
    await login.provider.identify(code, VERIFIER)
    with pytest.raises(LoginFailed):
        await login.provider.identify(code, VERIFIER)


async def test_a_code_is_no_use_without_its_verifier(login: Login) -> None:
    """PKCE: only who began the login can end it."""
    code = await login.consent(VERIFIER)
    with pytest.raises(LoginFailed):
        await login.provider.identify(code, "w" * 48)


async def test_guilds_can_be_asked_for_later(login: Login) -> None:
    """With an access token, which is good for a while."""
    tokens = await login.provider.renew((await login.tokens()).refresh_token)
    assert tokens.expires_at_ms > now_ms() + 60_000
    guilds = await login.provider.guilds(tokens.access_token)
    assert any(guild.owns for guild in guilds)
    for nonsense in ("never given", tokens.refresh_token):
        with pytest.raises(LoginFailed):
            await login.provider.guilds(nonsense)


async def test_tokens_are_renewed(login: Login) -> None:
    """The old pair is worth nothing from then on, and the new one opens what the old one did."""
    old = await login.tokens()
    new = await login.provider.renew(old.refresh_token)
    assert {new.access_token, new.refresh_token}.isdisjoint({old.access_token, old.refresh_token})
    assert new.expires_at_ms > now_ms() + 60_000
    assert await login.provider.guilds(new.access_token)
    with pytest.raises(LoginFailed):
        await login.provider.guilds(old.access_token)
    for refused in (old.refresh_token, new.access_token, "never given"):
        with pytest.raises(LoginFailed):
            await login.provider.renew(refused)


@pytest.mark.parametrize("how", ["revoke", "disown"])
async def test_what_was_taken_back_ends_every_pair(login: Login, how: str) -> None:
    """Whether we revoke one pair or the person removes us, nothing is answered any more."""
    first, second = await login.tokens(), await login.tokens()
    await (login.provider.revoke(first) if how == "revoke" else login.disown())
    for pair in (first, second):
        with pytest.raises(LoginFailed):
            await login.provider.guilds(pair.access_token)
        with pytest.raises(LoginFailed):
            await login.provider.renew(pair.refresh_token)
    await login.provider.revoke(first)  # again: no error


async def test_a_discord_that_is_away_says_nothing_about_the_person(discord: dict[str, Any]) -> None:
    """5xx, no connection and a wrong client secret are no refusal; nor is another's answer."""
    login = _discord(discord)
    tokens = await login.tokens()
    away = real(discord, api_base="http://127.0.0.1:1")
    for provider in (away, login.provider):
        await control(discord, "POST", "faults", kind="server_error", count=3)
        for call in (
            provider.guilds(tokens.access_token),
            provider.renew(tokens.refresh_token),
            provider.revoke(tokens),
        ):
            with pytest.raises(DiscordUnavailable):
                await call
        await control(discord, "DELETE", "faults")
    with pytest.raises(DiscordUnavailable):
        await real(discord, client_secret="wrong").renew(tokens.refresh_token)
    tokens = await login.provider.renew(tokens.refresh_token)
    assert await login.provider.guilds(tokens.access_token)


async def test_a_busy_discord_says_for_how_long(discord: dict[str, Any]) -> None:
    """429 of any kind carries the seconds to wait."""
    login = _discord(discord)
    tokens = await login.tokens()
    await control(discord, "POST", "faults", kind="rate_limit", count=3, retry_after_s=7)
    for call in (
        login.provider.guilds(tokens.access_token),
        login.provider.renew(tokens.refresh_token),
        login.provider.revoke(tokens),
    ):
        with pytest.raises(DiscordBusy) as caught:
            await call
        assert caught.value.retry_after_s == 7
    await control(discord, "DELETE", "faults")


async def test_the_address_carries_the_state_and_not_the_verifier(login: Login) -> None:
    """The verifier is the secret half."""
    url = login.provider.authorize_url("a state", VERIFIER)
    assert parse_qs(urlsplit(url).query)["state"] == ["a state"]
    assert VERIFIER not in url


async def test_discord_away_is_a_login_that_failed(discord: dict[str, Any]) -> None:
    """And so is a wrong secret: a sentence, no driver's error."""
    for provider in (real(discord, api_base="http://127.0.0.1:1"), real(discord, client_secret="wrong")):
        code = await _discord(discord).consent(VERIFIER)
        with pytest.raises(LoginFailed):
            await provider.identify(code, VERIFIER)


PORTALS = [
    "<html>Welcome to our Wi-Fi</html>",
    "[]",
    "{}",
    '{"access_token": "t"}',
    '[{"id": "x"}]',
    '"\\ud800"',
]


@pytest.mark.parametrize("body", PORTALS)
async def test_an_answer_that_is_not_discords_is_a_login_that_failed(
    discord: dict[str, Any], body: str
) -> None:
    """A captive portal answers 200 with anything: nobody is logged in or out by that, and nothing breaks."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as portal:
        port = portal.sockets[0].getsockname()[1]
        provider = real(discord, api_base=f"http://127.0.0.1:{port}")
        with pytest.raises(LoginFailed):
            await provider.identify("code", VERIFIER)
        with pytest.raises(DiscordUnavailable):
            await provider.renew("refresh token")
        if body != "[]":  # which is somebody who is in no guild
            with pytest.raises(DiscordUnavailable):
                await provider.guilds("access token")
