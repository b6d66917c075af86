"""Who gets in, and what they are told when they do not."""

from __future__ import annotations

import base64
import os
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from guildhall.testing import DemoProcess, Person, Sim


async def test_everybody_sees_the_servers_of_their_role(stack: DemoProcess) -> None:
    """Each demo person sees the servers where they have a role; an outsider sees none, and why."""
    seen = {}
    for name in ("owner", "admin", "moderator", "viewer", "outsider"):
        async with Person(stack.url) as person:
            await person.log_in(name)
            servers = await person.get("/api/servers")
            seen[name] = (servers["total"], {server["role"] for server in servers["data"]})
            assert servers["is_empty"] is (servers["total"] == 0)
            if servers["is_empty"]:
                assert "role" in servers["message"]
    assert seen["admin"] == (8, {"admin"})
    assert seen["moderator"] == (5, {"moderator"})
    assert seen["viewer"] == (5, {"viewer"})
    assert seen["outsider"] == (0, set())
    assert seen["owner"][0] >= 12
    assert seen["owner"][1] == {"owner"}


async def test_nobody_looks_without_a_session(stack: DemoProcess, sim: Sim) -> None:
    """Without a session everything but health and the page is 401, in the one form of errors."""
    guild_id = (await sim.guild(0))["id"]
    async with Person(stack.url) as nobody:
        for path in ("/api/auth/me", "/api/servers", f"/api/servers/{guild_id}/metrics"):
            status, body = await nobody.ask("GET", path)
            assert status == 401
            assert body["error_code"] == "no_session"
            assert set(body) == {"error", "error_code", "details", "request_id"}
        status, body = await nobody.ask("GET", "/health")
        assert (status, body["status"]) == (200, "ok")


async def test_a_server_one_may_not_look_at_is_refused(stack: DemoProcess, sim: Sim) -> None:
    """An outsider gets 403 with the missing permission, for a known server and for an invented one."""
    guild_id = (await sim.guild(0))["id"]
    async with Person(stack.url) as outsider:
        await outsider.log_in("outsider")
        for guild in (guild_id, "1", str(2**63 - 1)):
            status, body = await outsider.ask("GET", f"/api/servers/{guild}/violations")
            assert status == 403
            assert body["details"] == {"permission": "view_violations"}
        for nonsense in ("abc", "0", "-1", str(2**63), "1e5", "%00"):
            status, body = await outsider.ask("GET", f"/api/servers/{nonsense}/metrics")
            assert (status, body["error_code"]) == (422, "invalid_guild_id")


async def test_logging_out_ends_the_session(stack: DemoProcess) -> None:
    """Logging out needs the CSRF token and our own origin; afterwards the old cookie opens nothing."""
    async with Person(stack.url) as person:
        await person.log_in("viewer")
        cookies = {cookie.key: cookie.value for cookie in person.http.cookie_jar}
        logout = ("POST", "/api/auth/logout")
        assert (await person.ask(*logout))[0] == 403
        headers = {"X-CSRF-Token": person.csrf_token}
        foreign = headers | {"Origin": "https://evil.example"}
        assert (await person.ask(*logout, headers=foreign))[1]["error_code"] == "wrong_origin"
        assert (await person.ask(*logout, headers=headers))[0] == 204
    async with (
        aiohttp.ClientSession(cookies=cookies) as again,
        again.get(f"{stack.url}/api/auth/me") as answer,
    ):
        assert answer.status == 401


async def test_a_login_that_was_not_begun_here_fails(stack: DemoProcess) -> None:
    """A callback with somebody else's state, or a used one, begins no session."""
    async with Person(stack.url) as victim, Person(stack.url) as attacker:
        async with attacker.http.get(f"{stack.url}/api/auth/login", allow_redirects=False) as answer:
            consent = answer.headers["location"]
        async with attacker.http.get(f"{consent}&user=owner", allow_redirects=False) as answer:
            callback = answer.headers["location"]
        async with victim.http.get(callback, allow_redirects=False) as answer:
            assert answer.headers["location"].endswith("/?login_error=expired")
        assert (await victim.ask("GET", "/api/auth/me"))[0] == 401


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "x"])
async def test_a_login_never_leads_to_another_site(stack: DemoProcess, target: str) -> None:
    """Whatever ``next`` says, one comes back to this site."""
    async with Person(stack.url) as person:
        query = {"next": target}
        async with person.http.get(
            f"{stack.url}/api/auth/login", params=query, allow_redirects=False
        ) as answer:
            consent = answer.headers["location"]
        async with person.http.get(f"{consent}&user=viewer", allow_redirects=False) as answer:
            callback = answer.headers["location"]
        async with person.http.get(callback, allow_redirects=False) as answer:
            assert answer.headers["location"] == f"{stack.url}/"


async def test_answers_carry_the_security_headers(stack: DemoProcess) -> None:
    """The page may run nothing but its own scripts, and nobody may frame it."""
    async with Person(stack.url) as nobody, nobody.http.get(f"{stack.url}/servers/1") as answer:
        assert answer.status == 200
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_socket_without_a_session_is_told_so(stack: DemoProcess) -> None:
    """Close code 4001 says: log in."""
    async with Person(stack.url) as nobody:
        assert await (await nobody.watch()).close_code() == 4001


async def test_a_socket_from_another_site_is_refused(stack: DemoProcess) -> None:
    """A page of another origin gets no socket, though the browser sends the cookie."""
    async with Person(stack.url) as person:
        await person.log_in("owner")
        handshake = {
            "Origin": "https://evil.example",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        async with person.http.get(f"{stack.url}/ws", headers=handshake) as answer:
            assert answer.status == 403


async def test_nonsense_on_a_socket_closes_it(stack: DemoProcess) -> None:
    """Close code 4010 says: what you sent makes no sense."""
    async with Person(stack.url) as person:
        await person.log_in("owner")
        watching = await person.watch()
        await watching.say(op="dance")
        assert await watching.close_code() == 4010


async def test_watching_needs_a_role(stack: DemoProcess, sim: Sim) -> None:
    """A subscribe without the permission is refused, and the socket lives on."""
    guild_id = (await sim.guild(0))["id"]
    async with Person(stack.url) as outsider:
        await outsider.log_in("outsider")
        watching = await outsider.watch()
        assert (await watching.subscribe(guild_id))["code"] == "not_allowed"
        await watching.say(op="unsubscribe", guild_id=guild_id)
        assert (await watching.hear())["op"] == "unsubscribed"


async def test_the_sixth_socket_on_a_guild_is_refused(stack: DemoProcess, sim: Sim) -> None:
    """Five windows of one person on one guild are enough; when one closes there is room again."""
    guild_id = (await sim.guild(3))["id"]
    async with Person(stack.url) as person:
        await person.log_in("moderator")
        sockets = [await person.watch() for _ in range(6)]
        for watching in sockets[:5]:
            assert (await watching.subscribe(guild_id))["op"] == "subscribed"
        await sockets[5].say(op="subscribe", guild_id=guild_id)
        assert await sockets[5].close_code() == 4009
        await sockets[0].say(op="unsubscribe", guild_id=guild_id)
        assert (await sockets[0].hear())["op"] == "unsubscribed"
        assert (await sockets[0].subscribe(guild_id))["op"] == "subscribed"


async def test_a_client_that_comes_back_gets_what_it_missed(stack: DemoProcess, sim: Sim) -> None:
    """Resuming replays exactly the events behind the position; an unknown epoch is not recovered."""
    guild_id = (await sim.guild(4))["id"]
    async with Person(stack.url) as person:
        await person.log_in("viewer")
        first = await person.watch()
        position = await first.subscribe(guild_id)
        await first.socket.close()
        other = await person.watch()
        await other.subscribe(guild_id)
        message = await sim.post("messages", guild_id=guild_id, content="kys")
        live = await other.event("violation", message_id=message["id"])
        again = await person.watch()
        place = {"epoch": position["epoch"], "offset": position["offset"]}
        answer = await again.subscribe(guild_id, **place)
        assert answer["recovered"] is True
        assert await again.event("violation", message_id=message["id"]) == live
        strange = await again.subscribe(guild_id, epoch=position["epoch"] + 1, offset=0)
        assert strange["recovered"] is False


def test_the_demo_listens_on_loopback_only(stack: DemoProcess) -> None:
    """Nobody on the network reaches the front door or the local Discord."""
    ports = {stack.port, urlsplit(stack.sim_url).port}
    listening = {
        (address.laddr.port, address.laddr.ip)
        for process in stack.descendants()
        for address in process.net_connections("tcp")
        if address.status == psutil.CONN_LISTEN and address.laddr.port in ports
    }
    assert listening == {(port, "127.0.0.1") for port in ports}
