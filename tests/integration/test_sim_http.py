"""The local Discord over plain HTTP and WebSockets: REST, OAuth2, control API, gateway transport."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import orjson
import pytest
import zstandard

from discord_sim.app import DiscordSim, Settings
from discord_sim.gateway_session import GatewayOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

BOT = {"Authorization": "Bot demo-bot-token"}
BACK = "http://127.0.0.1:9/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
DEADLINE_S = 10.0


@pytest.fixture
async def sim() -> AsyncIterator[DiscordSim]:
    async with DiscordSim(Settings(guilds=6)) as running:
        yield running


@pytest.fixture
async def http(sim: DiscordSim) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sim.url) as session:
        yield session


async def call(http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with http.request(method, path, **options) as answer:
        text = await answer.text()
        return answer.status, orjson.loads(text) if text else None


def authorize(sim: DiscordSim, **changes: str) -> dict[str, str]:
    return {
        "client_id": str(sim.settings.client_id),
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": "identify guilds guilds.members.read",
        "state": "xyz",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    } | changes


async def log_in(sim: DiscordSim, http: aiohttp.ClientSession, name: str, **changes: str) -> dict[str, Any]:
    query = authorize(sim, user=name, **changes)
    async with http.get("/oauth2/authorize", params=query, allow_redirects=False) as answer:
        assert answer.status == 303
        sent_back = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert sent_back["state"] == ["xyz"]
    form = {
        "grant_type": "authorization_code",
        "code": sent_back["code"][0],
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    }
    credentials = f"{sim.settings.client_id}:{sim.settings.client_secret}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
    status, tokens = await call(http, "POST", "/api/oauth2/token", data=form, headers=headers)
    assert status == 200
    return dict(tokens)


# -- REST


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v10/channels/1", 404, 10003),
        ("GET", "/api/v10/guilds/1", 404, 10004),
        ("GET", "/api/v10/users/1", 404, 10013),
        ("GET", "/api/v10/users/abc", 400, 50035),
        ("GET", "/api/v10/guilds/{elsewhere}", 403, 50001),
        ("GET", "/api/v10/guilds/{guild}/members/1", 404, 10013),
        ("GET", "/api/v10/guilds/{guild}/members?limit=0", 400, 50035),
        ("DELETE", "/api/v10/channels/{channel}/messages/1", 404, 10008),
        ("POST", "/api/v10/channels/{channel}/messages", 400, 50006),
        ("GET", "/api/v10/nothing", 404, 0),
    ],
)
async def test_errors_have_discords_status_and_code(
    sim: DiscordSim, http: aiohttp.ClientSession, *, method: str, path: str, status: int, code: int
) -> None:
    """What a client checks for is what it gets."""
    world = sim.simulation.world
    guild = next(iter(world.guilds.values()))
    path = path.format(
        guild=guild.id, channel=guild.text_channels[0].id, elsewhere=next(iter(world.elsewhere))
    )
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}
    got, error = await call(http, method, path, headers=BOT, **body)
    assert (got, error["code"]) == (status, code)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bot wrong"}, {"Authorization": "Bearer wrong"}])
async def test_without_a_token_everything_is_unauthorized(
    http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    """401 in Discord's words."""
    status, error = await call(http, "GET", "/api/v10/users/@me", headers=headers)
    assert (status, error) == (401, {"message": "401: Unauthorized", "code": 0})


async def test_the_sixth_message_of_a_second_is_limited(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """429 with body and headers; another channel is not concerned."""
    first, second = (guild.text_channels[0].id for guild in list(sim.simulation.world.guilds.values())[:2])
    for number in range(6):
        path = f"/api/v10/channels/{first}/messages"
        async with http.post(path, json={"content": f"{number}"}, headers=BOT) as answer:
            body = await answer.json()
            headers = answer.headers
    assert answer.status == 429
    assert (body["message"], body["global"]) == ("You are being rate limited.", False)
    assert 0 < body["retry_after"] <= 1
    assert (headers["Retry-After"], headers["X-RateLimit-Scope"], headers["X-RateLimit-Remaining"]) == (
        "1",
        "user",
        "0",
    )
    status, _ = await call(
        http, "POST", f"/api/v10/channels/{second}/messages", json={"content": "x"}, headers=BOT
    )
    assert status == 200


async def test_messages_are_paged(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """Newest first; `before` and `after` bound the page."""
    channel = next(iter(sim.simulation.world.guilds.values())).text_channels[0]
    author = sim.simulation.world.people["owner"].id
    ids = [
        str(sim.simulation.post(channel_id=channel.id, author_id=author, content=str(number)).id)
        for number in range(5)
    ]
    path = f"/api/v10/channels/{channel.id}/messages"
    for query, expected in (
        ("", ids[::-1]),
        ("?limit=2", [ids[4], ids[3]]),
        (f"?before={ids[2]}", [ids[1], ids[0]]),
        (f"?after={ids[2]}&limit=1", [ids[3]]),
    ):
        status, found = await call(http, "GET", path + query, headers=BOT)
        assert (status, [message["id"] for message in found]) == (200, expected)


async def test_the_bots_gateway_says_how_many_starts_remain(
    sim: DiscordSim, http: aiohttp.ClientSession
) -> None:
    """GET /gateway/bot is for bots, GET /gateway for anyone."""
    status, found = await call(http, "GET", "/api/v10/gateway/bot", headers=BOT)
    assert (status, found["url"], found["shards"]) == (200, sim.gateway_url, 1)
    assert found["session_start_limit"]["remaining"] == 1000
    assert found["session_start_limit"]["max_concurrency"] == 16
    assert await call(http, "GET", "/api/v10/gateway") == (200, {"url": sim.gateway_url})


# -- OAuth2


async def test_a_person_logs_in_and_sees_their_guilds(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """Authorize, exchange with PKCE, read user, guilds with permissions, and membership."""
    tokens = await log_in(sim, http, "admin")
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    status, me = await call(http, "GET", "/api/v10/users/@me", headers=bearer)
    assert (status, me["username"]) == (200, "admin")
    status, guilds = await call(http, "GET", "/api/v10/users/@me/guilds", headers=bearer)
    assert status == 200
    assert len(guilds) == 7  # six with the bot, one without
    known = next(guild for guild in guilds if int(guild["id"]) in sim.simulation.world.guilds)
    assert {"id", "name", "icon", "owner", "permissions"} <= known.keys()
    assert known["owner"] is False
    assert int(known["permissions"]) & 8
    status, member = await call(
        http, "GET", f"/api/v10/users/@me/guilds/{known['id']}/member", headers=bearer
    )
    assert (status, member["user"]["id"]) == (200, me["id"])
    status, _ = await call(http, "GET", f"/api/v10/guilds/{known['id']}", headers=bearer)
    assert status == 401
    status, error = await call(http, "GET", "/api/v10/users/@me/guilds", headers=bearer)
    assert (status, error["global"]) == (429, False)


async def test_guilds_need_their_scope(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """Who only granted identify keeps their guilds to themselves."""
    tokens = await log_in(sim, http, "owner", scope="identify")
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    status, error = await call(http, "GET", "/api/v10/users/@me/guilds", headers=bearer)
    assert (status, error["code"]) == (403, 50001)


async def test_refresh_and_revoke(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """The client may send its secret in the form, too; a revoked token is worth nothing."""
    tokens = await log_in(sim, http, "viewer")
    proof = {"client_id": str(sim.settings.client_id), "client_secret": sim.settings.client_secret}
    form = proof | {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    status, fresh = await call(http, "POST", "/api/v10/oauth2/token", data=form)
    assert status == 200
    form = proof | {"token": fresh["access_token"]}
    assert (await call(http, "POST", "/api/oauth2/token/revoke", data=form))[0] == 200
    bearer = {"Authorization": f"Bearer {fresh['access_token']}"}
    assert (await call(http, "GET", "/api/v10/users/@me", headers=bearer))[0] == 401
    status, error = await call(http, "POST", "/api/oauth2/token", data=form | {"client_secret": "no"})
    assert (status, error) == (401, {"error": "invalid_client"})


async def test_tokens_are_controlled(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """How long they live, and that somebody removed the application; only what makes sense is taken."""
    assert await call(http, "PUT", "/_sim/tokens", json={"life_s": 30}) == (200, {"life_s": 30})
    tokens = await log_in(sim, http, "viewer")
    assert tokens["expires_in"] == 30
    assert await call(http, "DELETE", "/_sim/tokens", json={"user": "viewer"}) == (200, {"ended": 1})
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await call(http, "GET", "/api/v10/users/@me", headers=bearer))[0] == 401
    for method, body in (("PUT", {"life_s": 0}), ("PUT", {}), ("DELETE", {"user": "nobody"})):
        assert (await call(http, method, "/_sim/tokens", json=body))[0] == 400


async def test_oauth2_suffers_faults(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """The token endpoints are under the same sky as the rest, and are counted."""
    tokens = await log_in(sim, http, "viewer")
    proof = {"client_id": str(sim.settings.client_id), "client_secret": sim.settings.client_secret}
    form = proof | {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    fault = {"kind": "server_error", "path": "/oauth2/token", "count": 2}
    assert (await call(http, "POST", "/_sim/faults", json=fault))[0] == 200
    for path in ("/api/v10/oauth2/token", "/api/v10/oauth2/token/revoke"):
        assert (await call(http, "POST", path, data=form))[0] == 503
    assert (await call(http, "POST", "/api/v10/oauth2/token", data=form))[0] == 200
    calls = (await call(http, "GET", "/_sim/stats"))[1]["rest_calls"]
    assert (calls["POST /oauth2/token"], calls["POST /oauth2/token/revoke"]) == (3, 1)


async def test_the_consent_page_is_clicked(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """The page offers five people and a way out, and nothing from outside."""
    async with http.get("/oauth2/authorize", params=authorize(sim, state='"><i>')) as answer:
        page = await answer.text()
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Guildhall wants to access your account" in page
    assert '"><i>' not in page
    for choice, expected in (({"user": "owner"}, "code"), ({"cancel": "1"}, "error")):
        form = authorize(sim) | choice
        async with http.post("/oauth2/authorize", data=form, allow_redirects=False) as answer:
            sent_back = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert expected in sent_back
        assert sent_back.get("error", ["access_denied"]) == ["access_denied"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_id": "2"}, 400),
        ({"redirect_uri": "https://evil.example/"}, 400),
        ({"user": "nobody"}, 400),
        ({"response_type": "token"}, 303),
        ({"scope": "identify everything"}, 303),
        ({"scope": ""}, 303),
        ({"code_challenge_method": "plain"}, 303),
        ({"code_challenge": ""}, 303),
        ({"code_challenge": "short"}, 303),
        ({"prompt": "login"}, 303),
    ],
)
async def test_a_wrong_authorization_request_is_refused(
    sim: DiscordSim, http: aiohttp.ClientSession, changes: dict[str, str], status: int
) -> None:
    """Where the redirect URI is not known to be good, the error stays on a page."""
    query = authorize(sim, **changes)
    async with http.get("/oauth2/authorize", params=query, allow_redirects=False) as answer:
        assert answer.status == status
        if status == 303:
            assert "error" in parse_qs(urlsplit(answer.headers["Location"]).query)
        else:
            assert 'role="alert"' in await answer.text()


# -- control API


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/_sim/messages", {"guild_id": "1", "content": "x"}, 404),
        ("POST", "/_sim/messages", {"guild_id": "{guild}"}, 400),
        ("POST", "/_sim/messages", {"guild_id": "{guild}", "content": "x", "author": "nobody"}, 400),
        ("POST", "/_sim/messages", {"guild_id": "{guild}", "content": "x", "channel_id": "3"}, 404),
        ("POST", "/_sim/messages", {"guild_id": "{guild}", "content": "x", "label": "rude"}, 400),
        ("POST", "/_sim/members", {"guild_id": "{guild}", "user_id": "owner"}, 409),
        ("PUT", "/_sim/traffic", {"rate": -1}, 400),
        ("PUT", "/_sim/traffic", {"rate": "fast"}, 400),
        ("PUT", "/_sim/traffic", {"offence_share": 2}, 400),
        ("POST", "/_sim/faults", {"kind": "earthquake"}, 400),
        ("POST", "/_sim/faults", {"kind": "rate_limit", "scope": "galaxy"}, 400),
        ("POST", "/_sim/faults", {"kind": "drop_gateway", "close_code": 12}, 400),
        ("GET", "/_sim/ledger?since=x", None, 400),
    ],
)
async def test_bad_input_is_answered_with_a_sentence(
    sim: DiscordSim,
    http: aiohttp.ClientSession,
    *,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    """4xx, and what is wrong."""
    guild_id = str(next(iter(sim.simulation.world.guilds)))
    if body is not None:
        body = {key: guild_id if value == "{guild}" else value for key, value in body.items()}
    got, answer = await call(http, method, path, json=body)
    assert got == status
    assert answer["error"].endswith(".")


async def test_an_outage_cuts_and_refuses_everything_for_a_while(
    http: aiohttp.ClientSession,
) -> None:
    """Who holds a connection loses it, nobody gets another, and afterwards it is where it was."""
    socket = await http.ws_connect("/gateway?v=10&encoding=json")
    assert (await call(http, "POST", "/_sim/faults", json={"kind": "outage", "hold_ms": 500}))[0] == 200
    again, _ = await call(http, "POST", "/_sim/faults", json={"kind": "outage", "hold_ms": 500})
    assert again == 409
    async with asyncio.timeout(DEADLINE_S):
        while not socket.closed:
            await socket.receive()
        refused = 0
        while True:
            try:
                status, _ = await call(http, "GET", "/_sim/stats")
            except aiohttp.ClientError:
                refused += 1
                await asyncio.sleep(0.02)
            else:
                break
    assert (status, refused > 0) == (200, True)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("rebound.example:{port}", 403),
        ("127.0.0.1.rebound.example", 403),
        ("192.0.2.1:{port}", 403),
        ("localhost.", 403),
        ("localhost:{port}", 200),
        ("127.0.0.1", 200),
        ("[::1]:{port}", 200),
    ],
)
async def test_a_name_that_was_made_to_point_here_does_not_control(
    sim: DiscordSim, http: aiohttp.ClientSession, host: str, status: int
) -> None:
    """A browser takes such a page for one of ours, and sends along the name it has for us."""
    headers = {"Host": host.format(port=urlsplit(sim.url).port)}
    assert (await call(http, "GET", "/_sim/stats", headers=headers))[0] == status


async def test_pages_of_other_origins_may_not_control(http: aiohttp.ClientSession) -> None:
    """A web page that guesses the port gets nowhere."""
    status, _ = await call(http, "DELETE", "/_sim/faults", headers={"Origin": "https://evil.example"})
    assert status == 403


async def test_the_ledger_has_what_was_posted(sim: DiscordSim, http: aiohttp.ClientSession) -> None:
    """With its label, and where to read on."""
    guild_id = str(next(iter(sim.simulation.world.guilds)))
    body = {"guild_id": guild_id, "content": "discord.gg/abc", "label": "invite_link", "author": "outsider"}
    status, posted = await call(http, "POST", "/_sim/messages", json=body)
    assert status == 200
    _, page = await call(http, "GET", "/_sim/ledger?since=0")
    (entry,) = page["entries"]
    assert (page["next"], page["lost"]) == (1, 0)
    assert (entry["message_id"], entry["label"], entry["guild_id"]) == (posted["id"], "invite_link", guild_id)
    assert entry["author_id"] == str(sim.simulation.world.people["outsider"].id)


async def test_traffic_can_be_turned_on_and_off(http: aiohttp.ClientSession) -> None:
    """Messages appear in the ledger by themselves, and stop."""
    status, answer = await call(http, "PUT", "/_sim/traffic", json={"rate": 500, "offence_share": 0.2})
    assert (status, answer) == (200, {"rate": 500, "offence_share": 0.2})
    async with asyncio.timeout(DEADLINE_S):
        while not (await call(http, "GET", "/_sim/ledger"))[1]["entries"]:
            pass
    await call(http, "PUT", "/_sim/traffic", json={"rate": 0})
    assert (await call(http, "GET", "/_sim/traffic"))[1] == {"rate": 0, "offence_share": 0.2}


async def test_a_slow_answer_on_demand(http: aiohttp.ClientSession) -> None:
    """The answer comes, later."""
    await call(http, "POST", "/_sim/faults", json={"kind": "slow", "delay_ms": 80, "path": "/gateway"})
    began = asyncio.get_running_loop().time()
    assert (await call(http, "GET", "/api/v10/gateway"))[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.08


# -- gateway transport


def _plain() -> Callable[[Any], Any]:
    return orjson.loads


def _zlib() -> Callable[[Any], Any]:
    stream = zlib.decompressobj()
    return lambda data: orjson.loads(stream.decompress(data))


def _zstd() -> Callable[[Any], Any]:
    stream = zstandard.ZstdDecompressor().decompressobj()
    return lambda data: orjson.loads(stream.decompress(data))


@pytest.mark.parametrize(
    ("compress", "reader"), [("", _plain), ("zlib-stream", _zlib), ("zstd-stream", _zstd)]
)
async def test_each_compression_carries_the_whole_start(
    sim: DiscordSim, http: aiohttp.ClientSession, compress: str, reader: Callable[[], Callable[[Any], Any]]
) -> None:
    """HELLO, READY and every guild, one payload per message."""
    decode = reader()
    url = f"/gateway?v=10&encoding=json&compress={compress}"
    async with http.ws_connect(url, max_msg_size=0) as socket:
        assert decode((await socket.receive(DEADLINE_S)).data)["op"] == 10
        data = {"token": "demo-bot-token", "properties": {}, "intents": 513}
        await socket.send_json({"op": 2, "d": data})
        frames = [decode((await socket.receive(DEADLINE_S)).data) for _ in range(7)]
    assert [frame["t"] for frame in frames] == ["READY"] + ["GUILD_CREATE"] * 6
    assert {int(frame["d"]["id"]) for frame in frames[1:]} == set(sim.simulation.world.guilds)


async def test_whoever_connects_soon_sees_an_offence() -> None:
    """However little is going on, the first seconds have one in one of the first guilds."""
    quiet = Settings(guilds=40, rate=0.01)
    async with DiscordSim(quiet) as sim, aiohttp.ClientSession(sim.url) as http:
        async with asyncio.timeout(2.0), http.ws_connect("/gateway?v=10", max_msg_size=0) as socket:
            data = {"token": "demo-bot-token", "properties": {}, "intents": 513, "shard": [1, 2]}
            await socket.send_json({"op": 2, "d": data})
            while (frame := await socket.receive_json())["t"] != "MESSAGE_CREATE":
                pass
        _, page = await call(http, "GET", "/_sim/ledger")
        entry = next(each for each in page["entries"] if each["message_id"] == frame["d"]["id"])
        assert entry["label"] is not None
        assert int(entry["guild_id"]) in list(sim.simulation.world.guilds)[:5]


async def test_a_wrong_token_is_closed_with_4004(http: aiohttp.ClientSession) -> None:
    """The close frame carries the code."""
    async with http.ws_connect("/gateway?v=10") as socket:
        await socket.receive(DEADLINE_S)
        await socket.send_json({"op": 2, "d": {"token": "no", "properties": {}, "intents": 0}})
        message = await socket.receive(DEADLINE_S)
    assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 4004)


async def test_a_client_that_does_not_read_is_cut_and_may_come_back() -> None:
    """Its queue is bounded; nobody else waits for it, and its session stays."""
    options = GatewayOptions(queued_frames=100)
    async with DiscordSim(Settings(guilds=1, gateway=options)) as sim, aiohttp.ClientSession(sim.url) as http:
        core, channel_id = sim.simulation.gateway, next(iter(sim.simulation.world.channels.values())).id
        author_id = sim.simulation.world.people["owner"].id
        async with http.ws_connect("/gateway?v=10") as socket:
            data = {"token": "demo-bot-token", "properties": {}, "intents": 33281}
            await socket.send_json({"op": 2, "d": data})
            async with asyncio.timeout(DEADLINE_S):
                while (await socket.receive_json())["t"] != "GUILD_CREATE":
                    pass
                while core.connections:
                    sim.simulation.post(channel_id=channel_id, author_id=author_id, content="x" * 2000)
                    await asyncio.sleep(0)  # let the writer fill the socket
            assert [session.connection for session in core.sessions.values()] == [None]


async def test_etf_and_unknown_compressions_are_refused(http: aiohttp.ClientSession) -> None:
    """With a sentence instead of silence."""
    for query in ("encoding=etf", "compress=brotli"):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"/gateway?v=10&{query}")


async def test_stopping_closes_with_a_code_that_keeps_the_session() -> None:
    """1012: come back later."""
    sim = DiscordSim(Settings(guilds=1))
    await sim.start()
    async with aiohttp.ClientSession(sim.url) as http, http.ws_connect("/gateway?v=10") as socket:
        await socket.receive(DEADLINE_S)
        stopping = asyncio.create_task(sim.stop())
        assert (await socket.receive(DEADLINE_S)).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1012
        await stopping
