"""A change whose browser left is made whole: what follows the commit happens, whoever waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import structlog

from adapters.memory.samples import NOON_MS, violation
from domain.guild_settings import GuildConfig
from domain.user_warnings import UserWarnings
from serve_app import whole_changes
from tasks import SupervisedTasks
from tests.serve_app.declared import declared
from tests.serve_app.test_auth import allow
from tests.serve_app.test_servers import happen
from tests.serve_app.web import GUILD, PLAIN, Web, running
from tests.waiting import eventually

HERE = f"/api/servers/{GUILD}"
WORDS = {"kind": "banned_word", "words": ["bad"]}
CONFIG: dict[str, Any] = {"config": {"timezone": "Europe/Berlin"}, "version": 0}
FIRST = violation(GUILD, 1).event_id

CHANGES: dict[tuple[str, str], tuple[str, Any]] = {
    ("PUT", "/config"): ("/config", CONFIG),
    ("PUT", "/rules/{rule}"): ("/rules/own", {"rule": WORDS, "version": 0}),
    ("DELETE", "/rules/{rule}"): ("/rules/old", None),
    ("POST", "/violations/{violation_id}/review"): (
        f"/violations/{FIRST}/review",
        {"verdict": "dismissed", "version": 0},
    ),
    ("DELETE", "/warnings/{user_id}"): ("/warnings/9", None),
    ("POST", "/warnings/bulk-clear"): ("/warnings/bulk-clear", {"user_ids": ["9"]}),
    ("PUT", "/roles/{user_id}"): ("/roles/9", {"role": "viewer"}),
    ("DELETE", "/roles/{user_id}"): ("/roles/5", None),
    ("PUT", "/role-mappings/{discord_role_id}"): ("/role-mappings/77", {"role": "viewer"}),
    ("DELETE", "/role-mappings/{discord_role_id}"): ("/role-mappings/78", None),
}
"""A change that can be made by every endpoint of a server that announces one."""


class HeldAnnouncer:
    """Tells others as slowly as a test wants."""

    def __init__(self) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.announced: list[str] = []

    async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        del guild_id, data
        self.reached.set()
        await self.go_on.wait()
        self.announced.append(kind)


@pytest.fixture
def held(web: Web, monkeypatch: pytest.MonkeyPatch) -> HeldAnnouncer:
    held = HeldAnnouncer()
    monkeypatch.setattr(web.announcer, "announce", held.announce)
    return held


async def prepare(web: Web) -> None:
    """Let there be something to change by each endpoint."""
    await happen(web, violation(GUILD, 1))
    web.warnings.rows[GUILD, 9] = UserWarnings(9, 1, NOON_MS)
    web.database.roles[GUILD, 5] = "viewer"
    owner = await web.browser_of_role("owner")
    for path, body in (
        ("/rules/old", {"rule": WORDS, "version": 0}),
        ("/role-mappings/78", {"role": "viewer"}),
    ):
        response = await owner.put(f"{HERE}{path}", json=body, headers=csrf(web))
        assert response.status_code == 200


def csrf(web: Web) -> dict[str, str]:
    return {"x-csrf-token": web.csrf_of("owner")}


async def begin(web: Web, method: str, path: str, body: Any) -> asyncio.Task[Any]:
    browser = await web.browser_of_role("owner")
    return asyncio.create_task(browser.request(method, path, json=body, headers=csrf(web)))


async def leave(request: asyncio.Task[Any]) -> None:
    """Do what Serve does when the browser leaves."""
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert request.cancelled()


def test_every_change_of_a_server_is_tried(web: Web) -> None:
    """An endpoint that is added later is held to the same."""
    prefix = "/api/servers/{guild_id}"
    changing = {
        (route.method, route.path.removeprefix(prefix))
        for route in declared(web.app)
        if route.changes and route.path.startswith(prefix)
    }
    assert changing == set(CHANGES)


@pytest.mark.parametrize("change", CHANGES, ids=" ".join)
async def test_a_browser_that_leaves_leaves_nobody_untold(
    web: Web, change: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the commit and its announcement."""
    await prepare(web)
    held = HeldAnnouncer()
    monkeypatch.setattr(web.announcer, "announce", held.announce)
    path, body = CHANGES[change]
    request = await begin(web, change[0], f"{HERE}{path}", body)
    await asyncio.wait_for(held.reached.wait(), 5)
    await leave(request)
    assert held.announced == []
    held.go_on.set()
    await eventually(lambda: _done(held.announced))
    assert len(held.announced) == 1


async def test_a_browser_that_leaves_within_the_commit_is_told_of_too(
    web: Web, held: HeldAnnouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may have made the change by then: nobody can say."""
    held.go_on.set()
    committing, answer = asyncio.Event(), asyncio.Event()
    write = web.guild_settings.write_config

    async def write_slowly(*args: Any, **options: Any) -> Any:
        written = await write(*args, **options)
        committing.set()
        await answer.wait()
        return written

    monkeypatch.setattr(web.guild_settings, "write_config", write_slowly)
    request = await begin(web, "PUT", f"{HERE}/config", CONFIG)
    await asyncio.wait_for(committing.wait(), 5)
    await leave(request)
    answer.set()
    await eventually(lambda: _done(held.announced))
    assert (await web.guild_settings.config(GUILD)).config == GuildConfig(timezone="Europe/Berlin")


@pytest.mark.parametrize("path", ["logout", "logout-everywhere"])
async def test_a_logout_that_nobody_waits_for_is_in_the_audit_log(
    web: Web, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is a login, whose callback is a GET."""
    reached, go_on = asyncio.Event(), asyncio.Event()
    record = web.audit.record

    async def record_slowly(entries: Any) -> None:
        reached.set()
        await go_on.wait()
        await record(entries)

    monkeypatch.setattr(web.audit, "record", record_slowly)
    state = await web.begin_login()
    allow(web, state)
    login = asyncio.create_task(web.browser.get(f"/api/auth/callback?code=good&state={state}"))
    await asyncio.wait_for(reached.wait(), 5)
    await leave(login)
    reached.clear()
    logout = await begin(web, "POST", f"/api/auth/{path}", None)
    await asyncio.wait_for(reached.wait(), 5)
    await leave(logout)
    go_on.set()

    async def noted() -> bool:
        return {row.entry.action for row in web.database.audit} == {"auth.login", "auth.logout"}

    await eventually(noted)


async def test_a_replica_ends_after_its_changes(static_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way when it is told to end is finished, before the ports close."""
    held = HeldAnnouncer()
    async with running(PLAIN, static_dir) as web:
        monkeypatch.setattr(web.announcer, "announce", held.announce)
        request = await begin(web, "PUT", f"{HERE}/config", CONFIG)
        await asyncio.wait_for(held.reached.wait(), 5)
        await leave(request)
        asyncio.get_running_loop().call_later(0.05, held.go_on.set)
    assert (held.announced, web.closed) == (["config_update"], 1)


async def test_a_change_that_hangs_does_not_keep_a_replica() -> None:
    """It is ended after a while, and the log says so."""
    tasks = SupervisedTasks("changes")
    waiting = asyncio.create_task(tasks.finish("change", asyncio.Event().wait(), 3600))
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as lines:
        await tasks.drain(0.01)
    assert [(line["event"], line["tasks"]) for line in lines] == [("work_cut_short", 1)]
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()


async def test_what_breaks_unseen_is_told_to_the_log() -> None:
    """Nobody waits for the answer any more that would say it."""
    tasks = SupervisedTasks("changes")
    go_on = asyncio.Event()

    async def break_later() -> None:
        await go_on.wait()
        raise RuntimeError("broken")

    waiting = asyncio.create_task(tasks.finish("change", break_later(), 3600))
    await asyncio.sleep(0)
    assert len(tasks) == 1
    await leave(waiting)
    with structlog.testing.capture_logs() as lines:
        go_on.set()
        await tasks.drain(5)
        await asyncio.sleep(0)
    assert [line["event"] for line in lines] == ["task_broke"]
    assert len(tasks) == 0


async def test_changes_at_a_time_are_bounded(
    web: Web, held: HeldAnnouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many is asked to come back; reading goes on."""
    monkeypatch.setattr(whole_changes, "MAX_CHANGES", 1)
    request = await begin(web, "PUT", f"{HERE}/config", CONFIG)
    await asyncio.wait_for(held.reached.wait(), 5)
    refused = await (await begin(web, "PUT", f"{HERE}/config", CONFIG))
    assert (refused.status_code, refused.json()["error_code"]) == (503, "too_many_changes")
    assert refused.headers["retry-after"] == "1"
    owner = await web.browser_of_role("owner")
    assert (await owner.get(f"{HERE}/config")).status_code == 200
    held.go_on.set()
    assert (await request).status_code == 200


async def _done(announced: list[str]) -> bool:
    return bool(announced)
