"""One suite for Discord's OAuth2, against the local Discord, and for its twin."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from adapters.discord_login import DiscordLogin
from adapters.memory import MemoryLogin
from adapters.memory.samples import person
from domain.errors import LoginFailed
from domain.sessions import Identity, LoginProvider, SessionGuild

OWNER = Identity(person(1, username="owner"), (SessionGuild(5, "Guild", None, owns=True, permissions=8),))


class Login(NamedTuple):
    """A provider, and a person who says yes."""

    provider: LoginProvider
    consent: Callable[[str], Awaitable[str]]
    """Take a verifier, return the code that the person comes back with."""


def real(discord: dict[str, Any], **changes: str) -> DiscordLogin:
    given = {
        "api_base": f"{discord['url']}/api/v10",
        "authorize_url": f"{discord['url']}/oauth2/authorize",
        "client_id": discord["client_id"],
        "client_secret": discord["client_secret"],
        "redirect_uri": "http://localhost/api/auth/callback",
    }
    return DiscordLogin(**(given | changes))


def _memory() -> Login:
    provider = MemoryLogin()

    async def consent(verifier: str) -> str:
        code = secrets.token_urlsafe(8)
        provider.allow(code, verifier, OWNER)
        return code

    return Login(provider, consent)


def _discord(discord: dict[str, Any]) -> Login:
    provider = real(discord)

    async def consent(verifier: str) -> str:
        url = f"{provider.authorize_url('a state', verifier)}&user=owner"
        async with httpx2.AsyncClient() as client:
            back = urlsplit((await client.get(url)).headers["location"])
        assert parse_qs(back.query)["state"] == ["a state"]
        return parse_qs(back.query)["code"][0]

    return Login(provider, consent)


@pytest.fixture(params=["memory", "discord"])
async def login(request: pytest.FixtureRequest, discord: dict[str, Any]) -> Login:
    return _memory() if request.param == "memory" else _discord(discord)


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


@pytest.mark.parametrize("body", ["<html>Welcome to our Wi-Fi</html>", "[]", '{"access_token": "t"}'])
async def test_an_answer_that_is_not_discords_is_a_login_that_failed(
    discord: dict[str, Any], body: str
) -> None:
    """A captive portal answers 200 with anything: nobody is logged in by that, and nothing breaks."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as portal:
        port = portal.sockets[0].getsockname()[1]
        with pytest.raises(LoginFailed):
            await real(discord, api_base=f"http://127.0.0.1:{port}").identify("code", VERIFIER)
