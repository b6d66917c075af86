"""A demo as a user starts it, and people as they use it: for tests and benchmarks, also yours."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from domain.errors import ServiceFailed
from guildhall.settings import free_port

CROWD_AT_ONE_ADDRESS = {
    "GUILDHALL_LIMIT_REQUESTS": "100000 per second",
    "GUILDHALL_LIMIT_BURST": "100000 per second",
    "GUILDHALL_LIMIT_REQUESTS_AT_ONCE": "100000",
    "GUILDHALL_LIMIT_REFUSALS": "100000 per second",
    "GUILDHALL_LIMIT_PROBES": "100000 per second",
}
"""A front door that counts an address as if it were thousands."""
START_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
HEAR_WITHIN_S = 20.0


class DemoProcess:
    """A ``guildhall demo`` or ``guildhall up`` in a process of its own, on a free port."""

    def __init__(self, data_dir: Path, *options: str, command: str = "demo", **environment: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.ready: dict[str, Any] = {}
        program = Path(sys.executable).with_name("guildhall")
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [program, command, "--json", "--port", str(self.port), "--data-dir", str(data_dir), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
            start_new_session=True,
        )

    @property
    def url(self) -> str:
        """The dashboard's address."""
        return str(self.ready["url"])

    @property
    def sim_url(self) -> str:
        """The local Discord's address."""
        return str(self.ready["sim_url"])

    @property
    def database_url(self) -> str:
        """The database's address."""
        addresses = json.loads((self.data_dir / "addresses.json").read_text(encoding="utf-8"))
        return str(addresses["database_url"])

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when its line of JSON came; raise ``ServiceFailed`` with what it said instead."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            _, said = self._process.communicate()
            raise ServiceFailed(f"The demo did not start: {said}")
        self.ready = json.loads(line)

    def descendants(self) -> list[psutil.Process]:
        """Return every process that descends from it."""
        return psutil.Process(self.pid).children(recursive=True)

    def hang_up(self) -> None:
        """Have its relays replaced."""
        self._process.send_signal(signal.SIGHUP)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal; return the exit code and what was said on standard error."""
        self._process.send_signal(number)
        _, said = self._process.communicate(timeout=STOP_WITHIN_S)
        return self._process.returncode, said

    def result(self) -> tuple[int, str]:
        """Wait for an end that comes by itself; return the exit code and what was said."""
        _, said = self._process.communicate(timeout=START_WITHIN_S)
        return self._process.returncode, said

    def make_sure_it_ended(self) -> None:
        """Kill whatever is left of it. For the way out of a failed test; ``end`` is the orderly one."""
        if self._process.poll() is None:
            for process in [*self.descendants(), psutil.Process(self.pid)]:
                if process.is_running():
                    process.kill()
        self._process.communicate()


class Sim:
    """The control API of the local Discord."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **query: Any) -> Any:
        """Ask, for example ``get("stats")``."""
        return await self._ask("GET", path, params=query)

    async def post(self, path: str, **body: Any) -> Any:
        """Do, for example ``post("messages", guild_id="1", content="hello")``."""
        return await self._ask("POST", path, json=body)

    async def put(self, path: str, **body: Any) -> Any:
        """Set, for example ``put("traffic", rate=500)``."""
        return await self._ask("PUT", path, json=body)

    async def delete(self, path: str, **body: Any) -> Any:
        """Take away, for example ``delete("members", guild_id="1", user_id="2")``."""
        return await self._ask("DELETE", path, json=body)

    async def guild(self, index: int) -> dict[str, Any]:
        """Return one of the first guilds, which the demo's people are in."""
        guild: dict[str, Any] = (await self.get("world"))["guilds"][index]
        return guild

    async def posted_since(self, start: int) -> list[dict[str, Any]]:
        """Return what was posted after a place in the ledger, each with the label of its offence."""
        entries: list[dict[str, Any]] = []
        while page := await self.get("ledger", since=start + len(entries), limit=10_000):
            if page["lost"]:
                raise ServiceFailed("The local Discord's ledger is too short for this.")
            if not page["entries"]:
                break
            entries += page["entries"]
        return entries

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        async with self._http.request(method, f"{self.url}/_sim/{path}", **options) as answer:
            if answer.status >= 400:  # noqa: PLR2004
                raise ServiceFailed(f"{method} {path}: {await answer.text()}")
            return await answer.json()


class Person:
    """Somebody with a browser's manners but no browser: cookies, redirects, CSRF tokens, WebSockets."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.csrf_token = ""
        self.user_id = ""
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        for socket in self._sockets:  # closing the session leaves them open
            await socket.close()
        await self.http.close()

    async def log_in(self, name: str) -> Self:
        """Log in by the local Discord's shortcut."""
        async with self.http.get(f"{self.url}/api/auth/login", allow_redirects=False) as answer:
            consent = answer.headers["location"]
        async with self.http.get(f"{consent}&user={name}") as answer:
            answer.raise_for_status()
        me = await self.get("/api/auth/me")
        self.csrf_token, self.user_id = me["csrf_token"], me["user"]["id"]
        return self

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the JSON (or nothing) of one request."""
        async with self.http.request(method, f"{self.url}{path}", **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def get(self, path: str) -> Any:
        """Return the JSON of a request that must succeed."""
        async with self.http.get(f"{self.url}{path}") as answer:
            answer.raise_for_status()
            return await answer.json()

    async def watch(self) -> Watching:
        """Open a socket."""
        socket = await self.http.ws_connect(f"{self.url}/ws")
        self._sockets.append(socket)
        return Watching(socket)


class Watching:
    """One socket to the relay."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self._looked_at = 0

    async def say(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send_str(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame; its events are remembered."""
        async with asyncio.timeout(HEAR_WITHIN_S):
            frame: dict[str, Any] = json.loads(await self.socket.receive_str())
        if frame["op"] == "events":
            self.events += frame["events"]
        return frame

    async def subscribe(self, guild_id: str, **position: int) -> dict[str, Any]:
        """Follow a guild, from a position on if one is given; return the answer."""
        await self.say(op="subscribe", guild_id=guild_id, **position)
        while (frame := await self.hear())["op"] not in ("subscribed", "error"):
            pass
        return frame

    async def event(self, kind: str, **data: Any) -> dict[str, Any]:
        """Return the next event of a kind whose data has these values; those before it are passed over."""
        while True:
            while self._looked_at < len(self.events):
                event = self.events[self._looked_at]
                self._looked_at += 1
                if event["type"] == kind and data.items() <= event["data"].items():
                    return event
            await self.hear()

    async def close_code(self, within_s: float = HEAR_WITHIN_S) -> int | None:
        """Wait for the server to close; return its code."""
        async with asyncio.timeout(within_s):
            while not self.socket.closed:
                await self.socket.receive()
        return self.socket.close_code
