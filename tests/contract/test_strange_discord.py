"""Whatever answers in Discord's place, the outcome is one error of ours, in every adapter that asks it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from adapters.clock import now_ms
from adapters.discord_answers import BUSY_S, MAX_BUSY_S, busy
from adapters.discord_api import ask_gateway
from adapters.discord_login import DiscordLogin
from adapters.discord_members import DiscordMembers
from adapters.discord_people import DiscordPeople
from domain.errors import BotRefused, DiscordBusy, DiscordUnavailable, LoginFailed

DEEP = "[" * 100_000
HUGE = str(2**63)
USER = {"id": "1", "username": "ada"}
GUILD = {"id": "5", "name": "Guild", "permissions": "8"}
TOKENS = {"access_token": "a", "refresh_token": "r", "expires_in": 600, "token_type": "Bearer"}

NO_JSON = ["", "<html>", DEEP, '{"id": ' + DEEP, "1e999", "NaN", "9" * 5_000, '"\\ud800', "\0"]
NO_USER = [
    *NO_JSON,
    "[]",
    "null",
    *(
        json.dumps(USER | wrong)
        for wrong in (
            {"id": 1},
            {"id": "0"},
            {"id": "01"},
            {"id": HUGE},
            {"id": "-1"},
            {"id": None},
            {"id": ["1"]},
            {"username": 5},
            {"username": ""},
            {"username": None},
            {"username": {"a": 1}},
            {"username": "x" * 201},
            {"global_name": 5},
            {"avatar": []},
        )
    ),
    '{"id": 1e999, "username": "ada"}',
    json.dumps(USER | {"more": "x" * (1 << 20)}),
]
NO_GUILDS = [
    *NO_JSON,
    "{}",
    "[5]",
    *(
        json.dumps([GUILD, GUILD | wrong])
        for wrong in (
            {"id": HUGE},
            {"id": 5},
            {"name": None},
            {"owner": "yes"},
            {"owner": 1},
            {"permissions": "-1"},
            {"permissions": 8},
            {"permissions": "1" * 19},
            {"permissions": "0x8"},
            {"permissions": "1e9"},
        )
    ),
]
NO_TOKENS = [
    *NO_JSON,
    "[]",
    "{}",
    '{"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 1e999}',
    *(
        json.dumps(TOKENS | wrong)
        for wrong in (
            {"access_token": 5},
            {"access_token": "a\r\nX-Injected: 1"},
            {"access_token": ""},
            {"refresh_token": None},
            {"refresh_token": "x" * 3_000},
            {"expires_in": 10**30},
            {"expires_in": "soon"},
            {"expires_in": -(10**12)},
        )
    ),
]
NO_MEMBER = [
    *NO_JSON,
    "[]",
    "{}",
    *(json.dumps({"roles": roles}) for roles in (None, "12", 5, [5], [HUGE], ["0"], [None], [["1"]])),
    '{"roles": [1e999]}',
]
NO_GATEWAY = [
    *NO_JSON,
    "[]",
    "{}",
    *(
        json.dumps(
            {
                "url": "wss://gateway.discord.test",
                "shards": 1,
                "session_start_limit": {"max_concurrency": 1, "remaining": 1},
            }
            | wrong
        )
        for wrong in (
            {"url": "http://elsewhere"},
            {"url": 5},
            {"shards": 0},
            {"shards": 10**9},
            {"shards": "1"},
            {"session_start_limit": None},
            {"session_start_limit": {"max_concurrency": 0, "remaining": 1}},
            {"session_start_limit": {"max_concurrency": 1, "remaining": -1}},
        )
    ),
]


class Strange:
    """Answers what a test wants, by the end of the path."""

    def __init__(self) -> None:
        self.bodies = {
            "token": json.dumps(TOKENS),
            "@me": json.dumps(USER),
            "guilds": json.dumps([GUILD]),
        }
        self.status = 200
        self.headers: dict[str, str] = {}
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        body = self.bodies.get(request.path.rsplit("/", 1)[-1], self.bodies.get("", "{}"))
        headers = {"content-type": "application/json"} | self.headers
        return web.Response(body=body.encode("utf-8", "surrogatepass"), status=self.status, headers=headers)

    def login(self) -> DiscordLogin:
        return DiscordLogin(
            api_base=self.url,
            authorize_url=f"{self.url}/authorize",
            client_id="1",
            client_secret="secret",
            redirect_uri="http://localhost",
        )


@pytest.fixture
async def strange() -> AsyncIterator[Strange]:
    strange = Strange()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", strange.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    strange.url = f"http://{host}:{port}"
    yield strange
    await runner.cleanup()


async def test_what_is_right_is_taken(strange: Strange) -> None:
    """Or the others would be refused for another reason than their own."""
    login = strange.login()
    identity = await login.identify("code", "v" * 48)
    assert (identity.user.user_id, identity.guilds[0].permissions) == (1, 8)
    assert identity.tokens is not None
    assert now_ms() < identity.tokens.expires_at_ms < now_ms() + 700_000
    assert len(await login.guilds("token")) == 1
    assert (await login.renew("token")).refresh_token == "r"
    await login.close()


@pytest.mark.parametrize(("place", "bodies"), [("@me", NO_USER), ("guilds", NO_GUILDS), ("token", NO_TOKENS)])
async def test_a_login_fails_in_a_sentence(strange: Strange, place: str, bodies: list[str]) -> None:
    """Whichever of its three answers is none."""
    login = strange.login()
    for body in bodies:
        strange.bodies[place] = body
        with pytest.raises(LoginFailed) as failed:
            await login.identify("code", "v" * 48)
        assert str(failed.value).startswith("Discord") or "not Discord" in str(failed.value)
    await login.close()


async def test_a_session_takes_no_strange_answer(strange: Strange) -> None:
    """Nobody is logged out by it either: it is as if Discord were away."""
    login = strange.login()
    for body in NO_GUILDS:
        strange.bodies["guilds"] = body
        with pytest.raises(DiscordUnavailable):
            await login.guilds("token")
    for body in NO_TOKENS:
        strange.bodies["token"] = body
        with pytest.raises(DiscordUnavailable):
            await login.renew("token")
    await login.close()


async def test_people_members_and_the_gateway_take_no_strange_answer(strange: Strange) -> None:
    """Nobody is described wrongly, has a role that Discord did not name, or is without one."""
    people = DiscordPeople(api_base=strange.url, token="t", now_ms=now_ms)
    members = DiscordMembers(api_base=strange.url, token="t")
    for body in [*NO_USER, json.dumps(USER | {"id": "2"})]:
        strange.bodies[""] = strange.bodies["1"] = body
        with pytest.raises(DiscordUnavailable):
            await people.describe(1)
    for body in NO_MEMBER:
        strange.bodies["1"] = body
        with pytest.raises(DiscordUnavailable):
            await members.discord_roles(5, 1)
    for body in [*NO_JSON, *NO_MEMBER, '[{"roles": []}]', '[{"user": {"id": "1"}}]', '[{"user": {"id": 1}}]']:
        strange.bodies["members"] = body
        if body != "[]":
            with pytest.raises(DiscordUnavailable):
                await members.list_members(5, 0)
    for body in [*NO_JSON, "{}", "[5]", '[{"id": 5}]', '[{"id": "0"}]', '[{"id": 1e999}]']:
        strange.bodies["roles"] = body
        with pytest.raises(DiscordUnavailable):
            await members.guild_roles(5)
    for body in NO_GATEWAY:
        strange.bodies["bot"] = body
        with pytest.raises(BotRefused, match="is not Discord"):
            await ask_gateway(strange.url, "t")
    await people.close()
    await members.close()


async def test_a_refusal_that_is_not_discords_is_no_answer(strange: Strange) -> None:
    """A proxy's page takes nobody's role, ends no session, and blames no token."""
    login, members = strange.login(), DiscordMembers(api_base=strange.url, token="t")
    pages = ["<html>error code: 1020</html>", "", "[]", "{}", '{"message": "Forbidden"}', '{"code": null}']
    for strange.status in (401, 403, 404):
        for body in [*pages, '{"message": "Missing Permissions", "code": 50013}', '{"code": 0}']:
            strange.bodies["1"] = strange.bodies["roles"] = body
            with pytest.raises(DiscordUnavailable):
                await members.discord_roles(5, 1)
            with pytest.raises(DiscordUnavailable):
                await members.guild_roles(5)
        for body in pages:
            strange.bodies["guilds"] = strange.bodies["bot"] = body
            with pytest.raises(DiscordUnavailable):
                await login.guilds("token")
            with pytest.raises(BotRefused, match="Discord answered"):
                await ask_gateway(strange.url, "t")
    for strange.status, code in ((404, 10004), (404, 10007), (404, 10013), (403, 50001)):
        strange.bodies["1"] = json.dumps({"message": "no", "code": code})
        assert await members.discord_roles(5, 1) == frozenset()
    strange.status = 401
    strange.bodies["guilds"] = strange.bodies["bot"] = '{"message": "401: Unauthorized", "code": 0}'
    with pytest.raises(LoginFailed):
        await login.guilds("token")
    with pytest.raises(BotRefused, match="does not know this bot token"):
        await ask_gateway(strange.url, "t")
    await login.close()
    await members.close()


@pytest.mark.parametrize("said", ["1e999", "-5", "nan", "1e300"])
async def test_nobody_rests_for_ever(strange: Strange, said: str) -> None:
    """However long Discord says to wait."""
    strange.status, strange.headers = 429, {"retry-after": said}
    login = strange.login()
    with pytest.raises(DiscordBusy) as told:
        await login.guilds("token")
    assert 0 <= told.value.retry_after_s <= MAX_BUSY_S
    await login.close()
    members = DiscordMembers(api_base=strange.url, token="t")
    strange.bodies["1"] = json.dumps({"retry_after": 1e300})
    with pytest.raises(DiscordBusy) as told:
        await members.discord_roles(5, 1)
    assert told.value.retry_after_s == MAX_BUSY_S
    for strange.bodies["1"], strange.headers in (
        ('{"retry_after": [1]}', {"retry-after": "30"}),
        ("<html>error code: 1015</html>", {"retry-after": "30"}),
    ):
        with pytest.raises(DiscordBusy) as told:
            await members.discord_roles(6, 1)
        assert (told.value.retry_after_s, told.value.everywhere) == (30.0, True)
    await members.close()
    assert busy(None).retry_after_s == busy(float("inf")).retry_after_s == BUSY_S


@pytest.mark.parametrize("picture", ["../../@me", "a" * 32 + "?x", "x" * 200, "A" * 32, ""])
async def test_a_picture_that_is_none_is_put_into_no_address(strange: Strange, picture: str) -> None:
    """It would be asked for by every browser that shows the person."""
    wrong: dict[str, Any] = USER | {"avatar": picture}
    strange.bodies |= {"@me": json.dumps(wrong), "guilds": json.dumps([GUILD | {"icon": picture}])}
    login = strange.login()
    identity = await login.identify("code", "v" * 48)
    assert (identity.user.avatar_url, identity.guilds[0].icon_url) == (None, None)
    await login.close()
