"""What the dashboard shows of a person's servers."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from adapters.memory import MemoryGuildStore
from adapters.memory.samples import described
from domain.events import Event
from domain.guild import GuildState, apply_all
from domain.permissions import PERMISSIONS
from domain.ports import Commit
from tests.serve_app.web import GUILD, INVITE_URL, Web, membership


async def happen(web: Web, *events: Event) -> None:
    """Let a host make these events durable."""
    store = MemoryGuildStore(web.database)
    incarnation = await store.register_host("h0")
    for event in events:
        _, effects = apply_all(GuildState(event.guild_id), (event,))
        users = (event.user,) if hasattr(event, "user") else ()
        await store.commit(incarnation, Commit(effects=effects, users=users, marks=()))


async def get(browser: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    answer = await browser.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_servers_are_listed_by_name(web: Web) -> None:
    """Capitals do not count, and what one may not look at is not there."""
    names = {1: "beta", 2: "Alpha", 3: "GAMMA", 4: "Alpha"}
    guilds = [membership(number, owns=number != 3) for number in names]
    renamed = [type(guild)(guild.guild_id, names[guild.guild_id], None, guild.owns, 0) for guild in guilds]
    listed = await get(await web.browser_of(*renamed), "/api/servers")
    assert [server["id"] for server in listed["data"]] == ["2", "4", "1"]
    assert listed["total"] == 3


async def test_a_server_without_the_bot_can_be_invited_to(web: Web) -> None:
    """An invite address names the guild, and goes once the bot is there."""
    owner = await web.browser_of(membership(owns=True))
    [server] = (await get(owner, "/api/servers"))["data"]
    assert server == {
        "id": str(GUILD),
        "name": f"Guild {GUILD}",
        "icon_url": None,
        "member_count": None,
        "role": "owner",
        "permissions": sorted(PERMISSIONS["owner"]),
        "bot_present": False,
        "bot_online": False,
        "invite_url": f"{INVITE_URL}&guild_id={GUILD}",
    }
    await happen(web, described(GUILD))
    [server] = (await get(owner, "/api/servers"))["data"]
    assert (server["bot_present"], server["invite_url"], server["member_count"]) == (True, None, 10)


async def test_nobody_without_servers_is_left_wondering(web: Web) -> None:
    """An empty list is well-formed and says what to do."""
    listed = await get(await web.browser_of(membership()), "/api/servers")
    assert "role" in listed.pop("message")
    assert listed == {
        "data": [],
        "total": 0,
        "page": 1,
        "per_page": 50,
        "has_next": False,
        "has_prev": False,
        "is_empty": True,
        "unchecked": 0,
    }


@pytest.mark.parametrize(
    ("page", "ids", "has_next", "has_prev"),
    [(1, [1, 2], True, False), (2, [3, 4], True, True), (3, [5], False, True), (4, [], False, True)],
)
async def test_pages_hold_each_server_once(
    web: Web, page: int, ids: list[int], has_next: bool, has_prev: bool
) -> None:
    """Pages follow each other without a gap; one beyond the end is empty and knows the total."""
    owner = await web.browser_of(*(membership(number, owns=True) for number in range(1, 6)))
    listed = await get(owner, "/api/servers", page=page, per_page=2)
    assert [int(server["id"]) for server in listed["data"]] == ids
    assert (listed["has_next"], listed["has_prev"]) == (has_next, has_prev)
    message = None if ids else "There is no page 4: the last one is 3."
    assert (listed["total"], listed["is_empty"], listed["message"]) == (5, not ids, message)


@pytest.mark.parametrize("path", ["/api/servers", f"/api/servers/{GUILD}/violations"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_page", 0),
        ("per_page", 101),
        ("per_page", -1),
        ("per_page", "many"),
        ("page", 0),
        ("page", 100_001),
        ("page", "1.5"),
        ("page", ""),
    ],
)
async def test_pages_have_bounds(web: Web, path: str, name: str, value: object) -> None:
    """A page outside of them is refused with the name of what is wrong."""
    answer = await (await web.browser_of(membership(owns=True))).get(path, params={name: value})
    assert answer.status_code == 422
    assert [problem["where"] for problem in answer.json()["details"]] == [f"query.{name}"]


@pytest.mark.parametrize(("page", "per_page"), [(1, 1), (1, 100), (100_000, 100)])
async def test_the_bounds_themselves_are_pages(web: Web, page: int, per_page: int) -> None:
    """The first and the last that are allowed answer."""
    owner = await web.browser_of(membership(owns=True))
    listed = await get(owner, "/api/servers", page=page, per_page=per_page)
    assert (listed["page"], listed["per_page"], listed["total"]) == (page, per_page, 1)
