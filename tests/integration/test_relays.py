"""The relays behind the front door: what they lean on in Serve, and who is shown out."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from guildhall.testing import DemoProcess, Person, Sim, Watching
from tests.waiting import eventually


async def sockets_by_way(stack: DemoProcess) -> dict[str, float]:
    """Return how many sockets all relays hold, by the way in which their frames are written."""
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/metrics") as answer:
        families = {family.name: family for family in text_string_to_metric_families(await answer.text())}
    found: dict[str, float] = {}
    for sample in families["guildhall_relay_sockets"].samples:
        found[sample.labels["path"]] = found.get(sample.labels["path"], 0) + sample.value
    return found


def cookie_of(person: Person) -> str:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in person.http.cookie_jar)


async def test_serve_lets_us_reach_the_transport(stack: DemoProcess, sim: Sim) -> None:
    """Deflate is not agreed to though it is offered, and /metrics says how frames are written."""
    guild_id = (await sim.guild(0))["id"]
    async with Person(stack.url) as person:
        await person.log_in("moderator")
        address = f"{stack.url.replace('http', 'ws')}/ws"
        async with connect(address, additional_headers={"Cookie": cookie_of(person)}) as browser:
            assert browser.request is not None
            assert browser.response is not None
            assert "permessage-deflate" in browser.request.headers["Sec-WebSocket-Extensions"]
            assert "Sec-WebSocket-Extensions" not in browser.response.headers
            await browser.send(f'{{"op":"subscribe","guild_id":"{guild_id}"}}')
            assert '"subscribed"' in await browser.recv()

            async def counted() -> bool:
                ways = await sockets_by_way(stack)
                return ways.get("transport", 0) >= 1 and "asgi" not in ways

            assert await eventually(counted)


def test_serve_honours_the_header_by_which_a_socket_costs_it_no_task() -> None:
    """Without it, each socket would cost two tasks and a queue more. Asked apart: Serve's import is noisy."""
    asked = (
        "from ray.serve._private.http_util import parse_disconnect_disabled_header as honoured;"
        "from serve_app.transport import _NO_TASK_FOR_DISCONNECTS as header;"
        "assert honoured(dict([header])) is True and honoured({}) is False"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", asked], check=True)


async def test_a_logout_closes_all_sockets_of_the_session(stack: DemoProcess, sim: Sim) -> None:
    """On whichever relay they are, and only of this session: the person's other browser goes on watching."""
    guild_id = (await sim.guild(1))["id"]
    async with Person(stack.url) as leaving, Person(stack.url) as staying:
        for person in (leaving, staying):
            await person.log_in("moderator")
        sockets: list[Watching] = [await leaving.watch() for _ in range(4)]
        kept = await staying.watch()
        for watching in (*sockets[:2], kept):
            assert (await watching.subscribe(guild_id))["op"] == "subscribed"
        headers = {"X-CSRF-Token": leaving.csrf_token}
        assert (await leaving.ask("POST", "/api/auth/logout", headers=headers))[0] == 204
        assert [await watching.close_code() for watching in sockets] == [4001] * 4
        message = await sim.post("messages", guild_id=guild_id, content="kys")
        assert await kept.event("violation", message_id=message["id"])


async def test_what_is_changed_elsewhere_is_on_the_stream(stack: DemoProcess, sim: Sim) -> None:
    """A change of settings is an event for everybody who watches."""
    guild_id = (await sim.guild(2))["id"]
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        watching = await owner.watch()
        await watching.subscribe(guild_id)
        config = await owner.get(f"/api/servers/{guild_id}/config")
        headers = {"X-CSRF-Token": owner.csrf_token}
        wanted = {"config": config["config"], "version": config["version"]}
        path = f"/api/servers/{guild_id}/config"
        assert (await owner.ask("PUT", path, json=wanted, headers=headers))[0] == 200
        assert (await watching.event("config_update"))["data"]["what"] == "config"


async def test_no_socket_lives_on_the_fallback_proxy(stack: DemoProcess, sim: Sim) -> None:
    """Whom HAProxy sends there while no relay takes connections is told to come back at once, with 1012."""
    guild_id = (await sim.guild(3))["id"]
    variable = "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"
    [port] = {
        environment[variable]
        for process in stack.descendants()
        if variable in (environment := process.environ())
    }
    async with Person(stack.url) as person:
        await person.log_in("moderator")
        headers = {"Cookie": cookie_of(person)}
        async with connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers) as browser:
            await browser.wait_closed()
            assert (browser.close_code, browser.close_reason) == (1012, "The server restarts.")
        watching = await person.watch()
        assert (await watching.subscribe(guild_id))["op"] == "subscribed"


class Returning:
    """Somebody who watches and, whatever happens, comes back at once."""

    def __init__(self, person: Person, guild_id: str) -> None:
        self.codes: list[int | None] = []
        self.live = asyncio.Event()
        self._person, self._guild_id = person, guild_id

    async def follow(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                watching = await self._person.watch()
            except aiohttp.WSServerHandshakeError:  # HAProxy has nobody to turn to at this moment
                await asyncio.sleep(0.2)
                continue
            try:
                await watching.subscribe(self._guild_id)
                self.live.set()
                self.codes.append(await watching.close_code(within_s=300))
            except TypeError:  # closed while it waited for its answer
                self.codes.append(watching.socket.close_code)
            self.live.clear()
            await asyncio.sleep(0.2)


async def test_relays_are_restarted_under_those_who_watch(stack: DemoProcess, sim: Sim) -> None:
    """SIGHUP: every socket is told 1012, not all at once, and whoever comes back resumes without a hole.

    Also those that come back while relays come and go: none is cut without a word, none is one too many.
    """
    guild_id = (await sim.guild(3))["id"]
    old = relay_pids(stack)
    async with Person(stack.url) as one, Person(stack.url) as two:
        people = [await one.log_in("moderator"), await two.log_in("owner")]
        place = await (await one.watch()).subscribe(guild_id)
        returning = [Returning(person, guild_id) for person in people for _ in range(4)]
        followed = [asyncio.create_task(each.follow()) for each in returning]
        await asyncio.gather(*(each.live.wait() for each in returning))
        stack.hang_up()

        async def replaced() -> bool:
            return not old & relay_pids(stack) and all(each.live.is_set() for each in returning)

        assert await eventually(replaced, within_s=120)
        for task in followed:
            task.cancel()
        await asyncio.gather(*followed, return_exceptions=True)
        assert {code for each in returning for code in each.codes} == {1012}
        assert all(each.codes for each in returning)
        missed = await sim.post("messages", guild_id=guild_id, content="kys")
        again = await one.watch()
        answer = await again.subscribe(guild_id, epoch=place["epoch"], offset=place["offset"])
        assert (answer["op"], answer["recovered"]) == ("subscribed", True)
        assert await again.event("violation", message_id=missed["id"])


def relay_pids(stack: DemoProcess) -> set[int]:
    """Return the processes of all relays, also of those that are about to end."""
    found = set()
    for process in stack.descendants():
        with contextlib.suppress(psutil.Error):
            if "ServeReplica:relay" in " ".join(process.cmdline()):
                found.add(process.pid)
    return found
