"""Logins on the whole system: what Discord is asked, who is let in from where, and what is written down."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx2
import pytest
from redis.asyncio import Redis

from guildhall.testing import DemoProcess, Person, Sim
from serve_app.sessions import SHOWN_MS
from tests.waiting import eventually

ASK_GUILDS = "GET /users/@me/guilds"
RENEW = "POST /oauth2/token"
REVOKE = "POST /oauth2/token/revoke"


@pytest.fixture
async def redis(stack: DemoProcess) -> AsyncIterator[Redis]:
    addresses = json.loads((stack.data_dir / "addresses.json").read_text())
    async with Redis.from_url(addresses["redis_url"], decode_responses=True) as redis:
        yield redis


@pytest.fixture
async def short_lived(sim: Sim) -> AsyncIterator[None]:
    """Let access tokens end so soon that each question takes a new one: none of them was used too often."""
    await sim.put("tokens", life_s=120)
    yield
    await sim.put("tokens", life_s=604_800)


async def age_guilds(redis: Redis, user_id: str) -> None:
    """Let a person's list of guilds be as old as no page shows it without asking."""
    key = f"guildhall:guilds-of:{user_id}"
    known = json.loads(await redis.get(key) or "{}")
    await redis.set(key, json.dumps(known | {"as_of_ms": known["as_of_ms"] - SHOWN_MS}), keepttl=True)


async def asked(sim: Sim, route: str) -> int:
    """Return how often Discord was asked something."""
    calls: dict[str, int] = (await sim.get("stats"))["rest_calls"]
    return calls.get(route, 0)


async def test_pages_ask_discord_nothing(stack: DemoProcess, sim: Sim) -> None:
    """However many are loaded: its limit is one list of guilds a second."""
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        before = await asked(sim, ASK_GUILDS)
        for _ in range(30):
            assert (await owner.get("/api/servers"))["total"] >= 12
        assert await asked(sim, ASK_GUILDS) == before


@pytest.mark.usefixtures("short_lived")
async def test_whoever_left_a_server_loses_it(stack: DemoProcess, sim: Sim, redis: Redis) -> None:
    """Without logging out, when the list is next asked for; whoever comes back gets it back."""
    guild_id = (await sim.guild(1))["id"]
    path = f"/api/servers/{guild_id}/metrics"
    async with Person(stack.url) as viewer:
        await viewer.log_in("viewer")
        assert (await viewer.ask("GET", path))[0] == 200
        await sim._ask("DELETE", "members", json={"guild_id": guild_id, "user_id": viewer.user_id})
        try:
            await age_guilds(redis, viewer.user_id)
            assert (await viewer.ask("GET", path))[0] == 403
        finally:
            await sim.post("members", guild_id=guild_id, name="viewer")
        await age_guilds(redis, viewer.user_id)
        assert (await viewer.ask("GET", path))[0] == 200


@pytest.mark.usefixtures("short_lived")
async def test_tokens_are_renewed_on_the_way(stack: DemoProcess, sim: Sim, redis: Redis) -> None:
    """An access token that ends soon is traded for a new one; the person notices nothing."""
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        before = await asked(sim, RENEW)
        await age_guilds(redis, owner.user_id)
        assert (await owner.get("/api/servers"))["total"] >= 12
        assert await asked(sim, RENEW) == before + 1


async def test_discord_away_throws_nobody_out(stack: DemoProcess, sim: Sim, redis: Redis) -> None:
    """The list there is is shown."""
    async with Person(stack.url) as moderator:
        await moderator.log_in("moderator")
        fault = {"kind": "server_error", "path": "/users/@me/guilds", "count": 5}
        await sim._ask("POST", "faults", json=fault)
        try:
            await age_guilds(redis, moderator.user_id)
            assert (await moderator.get("/api/servers"))["total"] == 5
        finally:
            await sim._ask("DELETE", "faults")
            await redis.delete(f"guildhall:turn:guilds:{moderator.user_id}")


async def test_whoever_removes_us_at_discord_is_logged_out(
    stack: DemoProcess, sim: Sim, redis: Redis
) -> None:
    """When the list is next asked for; they may log in again."""
    async with Person(stack.url) as admin:
        await admin.log_in("admin")
        await sim._ask("DELETE", "tokens", json={"user": "admin"})
        await age_guilds(redis, admin.user_id)
        status, body = await admin.ask("GET", "/api/servers")
        assert (status, body["error_code"]) == (401, "no_session")
        await admin.log_in("admin")
        assert (await admin.get("/api/servers"))["total"] == 8


async def test_logging_out_everywhere(stack: DemoProcess, sim: Sim) -> None:
    """Both browsers are out, and Discord is told that our tokens are over."""
    async with Person(stack.url) as here, Person(stack.url) as there:
        await here.log_in("outsider")
        await there.log_in("outsider")
        before = await asked(sim, REVOKE)
        headers = {"X-CSRF-Token": here.csrf_token}
        assert (await here.ask("POST", "/api/auth/logout-everywhere", headers=headers))[0] == 204
        for person in (here, there):
            assert (await person.ask("GET", "/api/auth/me"))[0] == 401

        async def told() -> bool:
            return await asked(sim, REVOKE) == before + 1

        await eventually(told)


async def test_nobody_chooses_their_address(stack: DemoProcess) -> None:
    """HAProxy says who came; what a browser says about itself changes nothing."""
    transport = httpx2.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx2.AsyncClient(base_url=stack.url, transport=transport) as stranger:
        statuses = [
            (
                await stranger.get(
                    "/api/auth/callback", headers={"x-forwarded-for": f"203.0.113.{number % 250}"}
                )
            ).status_code
            for number in range(301)
        ]
    assert statuses == [303] * 300 + [429]
    async with httpx2.AsyncClient(base_url=stack.url) as somebody_else:
        assert (await somebody_else.get("/api/auth/callback")).status_code == 303


async def test_a_giant_is_refused_at_the_front_door(stack: DemoProcess) -> None:
    """413 in the one form of errors, declared or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b"x" * 1_000

    async with Person(stack.url) as person:
        await person.log_in("viewer")
        headers = {"X-CSRF-Token": person.csrf_token, "Content-Type": "application/json"}
        for data in (b"x" * 80_000, chunks()):
            status, body = await person.ask("POST", "/api/auth/logout", headers=headers, data=data)
            assert (status, body["error_code"]) == (413, "body_too_large")
        async with person.http.head(f"{stack.url}/servers/1") as answer:
            assert answer.status == 200


async def test_no_log_holds_what_a_login_needs(stack: DemoProcess) -> None:
    """Neither cookie nor code nor state stands in any file that the system writes."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        async with browser.get(f"{stack.url}/api/auth/login", allow_redirects=False) as answer:
            consent = answer.headers["location"]
        async with browser.get(f"{consent}&user=viewer", allow_redirects=False) as answer:
            callback = answer.headers["location"]
        async with browser.get(callback, allow_redirects=False) as answer:
            assert answer.status == 303
        async with browser.get(callback, allow_redirects=False) as answer:
            assert answer.headers["location"].endswith("login_error=expired")
        # Serve holds lines back until there are a thousand, in each of the two replicas.
        first_ids = set()
        for number in range(2_500):
            async with browser.get(f"{stack.url}/api/auth/me") as answer:
                if number < 100:
                    first_ids.add(answer.headers["x-request-id"])
        query = parse_qs(urlsplit(callback).query)
        secrets = {cookie.value for cookie in browser.cookie_jar} | {query["code"][0], query["state"][0]}
    runtime_dir = Path((stack.data_dir / "runtime-dir").read_text())
    files = [
        *(runtime_dir / "ray" / "session_latest" / "logs").rglob("*"),
        *stack.data_dir.glob("*.log"),
        *(runtime_dir / "h").rglob("*.log"),
    ]
    texts = {file: file.read_text(errors="replace") for file in files if file.is_file()}
    logged = re.compile(r'"request_id": "([^"]+)"')
    ours = [text for text in texts.values() if first_ids & set(logged.findall(text))]
    assert len(ours) == 2
    assert any('"path": "/api/auth/callback"' in text for text in ours)
    for file, text in texts.items():
        for secret in secrets:
            assert secret not in text, file


def test_the_key_is_its_owners(stack: DemoProcess) -> None:
    """What seals Discord's tokens lies in the data folder, and nobody else may read it."""
    key: Any = stack.data_dir / "secret-key"
    assert key.stat().st_mode & 0o777 == 0o600
