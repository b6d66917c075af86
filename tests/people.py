"""A person with a browser's manners, but no browser: cookies, redirects, CSRF tokens, WebSockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Self

import aiohttp


class Person:
    """Logs in by the local Discord's shortcut and then speaks HTTP and WebSocket."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.csrf_token = ""
        self.user_id = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.http.close()

    async def log_in(self, name: str) -> Person:
        async with self.http.get(f"{self.url}/api/auth/login", allow_redirects=False) as answer:
            consent = answer.headers["location"]
        async with self.http.get(f"{consent}&user={name}") as answer:
            assert answer.status == 200, await answer.text()
        me = await self.get("/api/auth/me")
        self.csrf_token, self.user_id = me["csrf_token"], me["user"]["id"]
        return self

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the JSON (or nothing) of one request."""
        async with self.http.request(method, f"{self.url}{path}", **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def get(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body

    async def watch(self) -> Watching:
        return Watching(await self.http.ws_connect(f"{self.url}/ws"))


class Watching:
    """One socket to the relay."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self._looked_at = 0

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        """Return the next frame; remember its events."""
        async with asyncio.timeout(20):
            frame = json.loads(await self.socket.receive_str())
        if frame["op"] == "events":
            self.events += frame["events"]
        return frame

    async def subscribe(self, guild_id: str, **position: int) -> dict[str, Any]:
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

    async def close_code(self) -> int:
        """Wait for the server to close; return its code."""
        async with asyncio.timeout(20):
            while not self.socket.closed:
                await self.socket.receive()
        assert self.socket.close_code is not None
        return self.socket.close_code
