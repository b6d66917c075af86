"""The violations over HTTP, and the published example, against a server on a free port of loopback."""

from __future__ import annotations

import asyncio
import importlib.util
import io
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec
import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from domain.protocol import event_json, events_frame, subscribed
from guildhall.live import FollowingEnded, LoadFailed, ReadViolations

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "follow_a_guild.py"


def violation(number: int) -> dict[str, Any]:
    return {
        "id": f"v{number}",
        "guild_id": "1",
        "channel_id": "2",
        "channel_name": None,
        "message_id": str(number),
        "user": {"id": "3", "username": "ann", "display_name": None, "avatar_url": None},
        "detection": "banned_word",
        "rule": "words",
        "severity": "high",
        "action": "delete",
        "action_status": "done",
        "excerpt": f"excerpt {number}",
        "ts": number,
        "committed_at": number,
        "review": None,
    }


class Dashboard:
    """A server with a list of violations and a relay that says one thing more, and then ends the session."""

    def __init__(self) -> None:
        self.rows = [violation(number) for number in range(250, 0, -1)]
        self.status = 200
        self.body: bytes | None = None
        self.asked: list[Request] = []
        self.url = ""
        self.enough = asyncio.Event()

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is HTTP; what is not becomes a socket."""
        parts = urlsplit(request.path)
        if parts.path == "/ws":
            return None
        self.asked.append(request)
        assert parts.path == "/api/servers/1/violations"
        query = parse_qs(parts.query)
        size, number = int(query["per_page"][0]), int(query["page"][0])
        end = number * size
        page = {"data": self.rows[end - size : end], "has_next": end < len(self.rows), "total": 9}
        body = self.body or msgspec.json.encode(page)
        return connection.respond(self.status, body.decode())  # type: ignore[arg-type]

    async def relay(self, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(subscribed(1, 7, 120, recovered=True).decode())
        event = event_json(121, "violation", 0, violation(251))
        await connection.send(events_frame(1, 7, [event]).decode())
        await self.enough.wait()
        await connection.close(4001)


@pytest.fixture
async def dashboard() -> AsyncIterator[Dashboard]:
    dashboard = Dashboard()
    async with serve(dashboard.relay, "127.0.0.1", 0, process_request=dashboard.answer) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        dashboard.url = f"http://127.0.0.1:{port}"
        yield dashboard


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


async def test_all_pages_are_read(dashboard: Dashboard, http: aiohttp.ClientSession) -> None:
    """With the cookie, the newest first."""
    read = await ReadViolations(http, f"{dashboard.url}/", 1, cookie="guildhall=secret")()
    assert [row.id for row in read.rows] == [row["id"] for row in dashboard.rows]
    assert read.complete
    assert len(dashboard.asked) == 3
    assert {request.headers["Cookie"] for request in dashboard.asked} == {"guildhall=secret"}


@pytest.mark.parametrize(("most", "pages"), [(150, 2), (200, 2), (100, 1)])
async def test_no_more_is_read_than_was_asked_for(
    dashboard: Dashboard, http: aiohttp.ClientSession, most: int, pages: int
) -> None:
    """And the answer says that there are older ones."""
    read = await ReadViolations(http, dashboard.url, 1, most=most)()
    assert len(read.rows) == most
    assert not read.complete
    assert len(dashboard.asked) == pages


async def test_a_row_that_moved_to_the_next_page_comes_once(
    dashboard: Dashboard, http: aiohttp.ClientSession
) -> None:
    """Something happened between two pages."""
    dashboard.rows.insert(100, dashboard.rows[99])
    read = await ReadViolations(http, dashboard.url, 1)()
    assert len(read.rows) == len({row.id for row in read.rows}) == 250


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "forbidden"),
        (429, "unavailable"),
        (503, "unavailable"),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    dashboard: Dashboard, http: aiohttp.ClientSession, status: int, failure: str
) -> None:
    """By its status."""
    dashboard.status = status
    with pytest.raises(LoadFailed, match=str(status)) as failed:
        await ReadViolations(http, dashboard.url, 1)()
    assert failed.value.failure == failure


async def test_an_answer_that_cannot_be_read_is_none(
    dashboard: Dashboard, http: aiohttp.ClientSession
) -> None:
    """It may be a proxy's."""
    dashboard.body = b"<html>"
    with pytest.raises(LoadFailed, match="cannot be read") as failed:
        await ReadViolations(http, dashboard.url, 1)()
    assert failed.value.failure == "unavailable"


async def test_a_server_that_is_away_is_tried_again(http: aiohttp.ClientSession) -> None:
    """There is nobody at that port."""
    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
    with pytest.raises(LoadFailed, match="did not answer") as failed:
        await ReadViolations(http, f"http://127.0.0.1:{port}", 1)()
    assert failed.value.failure == "unavailable"


async def test_the_example_prints_what_there_is_and_what_comes(dashboard: Dashboard) -> None:
    """Each violation once, the oldest first, until the session ends."""
    dashboard.rows = [violation(2), violation(1)]
    out = Printed(until="251", enough=dashboard.enough)
    with pytest.raises(FollowingEnded):
        await example().print_violations(dashboard.url, "1", "guildhall=secret", out)
    printed = out.getvalue().splitlines()
    assert [line.split()[-1] for line in printed if line.startswith("high")] == ["1", "2", "251"]


class Printed(io.StringIO):
    """Says when something was printed."""

    def __init__(self, *, until: str, enough: asyncio.Event) -> None:
        super().__init__()
        self._until = until
        self._enough = enough

    def write(self, text: str) -> int:
        if self._until in text:
            self._enough.set()
        return super().write(text)


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("follow_a_guild", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
