"""The endpoints for roles, for what Discord's roles stand for, and for the audit log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx2
import pytest

from adapters.memory.announcements import Announced
from adapters.memory.samples import NOON_MS, described
from domain.audit import AuditEntry
from domain.authority import GuildAuthority
from domain.errors import RolesUnavailable
from domain.people import Person, gone
from domain.roles import Assign, Member
from serve_app import roles
from tests.serve_app.test_servers import happen
from tests.serve_app.web import GUILD, USER_IDS, Web, membership
from tests.waiting import eventually

ROLES_PATH, MAPPINGS, LOG = (
    f"/api/servers/{GUILD}/{name}" for name in ("roles", "role-mappings", "audit-log")
)
TOLD = Announced(GUILD, "config_update", {"what": "roles"})
ADA = {"id": "9", "username": "ada", "display_name": "Ada", "avatar_url": None}
OLIVE = {"id": "2", "username": "olive", "display_name": "Olive", "avatar_url": None}


class Owner:
    """Whom the guild belongs to, at their browser."""

    def __init__(self, browser: httpx2.AsyncClient) -> None:
        self.browser = browser

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        headers = {"x-csrf-token": f"csrf-{USER_IDS['owner']}", "x-request-id": "the-request"}
        answer = await self.browser.request(method, path, headers=headers, **options)
        return answer.status_code, answer.json() if answer.content else None

    async def put(self, path: str, role: str) -> tuple[int, Any]:
        return await self.ask("PUT", path, json={"role": role})

    async def data(self, path: str) -> Any:
        status, body = await self.ask("GET", path)
        assert status == 200, body
        return body["data"]


@pytest.fixture
async def owner(web: Web) -> AsyncIterator[Owner]:
    web.people.known[9] = Person(9, "ada", "Ada", None, NOON_MS)
    web.people.known[2] = Person(2, "olive", "Olive", None, NOON_MS)
    async with await web.browser_of_role("owner") as browser:
        yield Owner(browser)


async def test_a_role_is_given_changed_and_taken_away(web: Web, owner: Owner) -> None:
    """Each is seen at once in the list, in the log and by those who watch."""
    path = f"{ROLES_PATH}/9"
    for number, role in enumerate(("viewer", "admin"), 1):
        web.clock.advance(10)
        given = {"user": ADA, "role": role, "assigned_by": OLIVE, "assigned_at": web.clock()}
        assert await owner.put(path, role) == (200, given | {"hint": None})
        assert await owner.data(ROLES_PATH) == [given]
        assert web.announcer.announced == [TOLD] * number
    assert await owner.ask("DELETE", path) == (204, None)
    assert await owner.data(ROLES_PATH) == []
    assert web.announcer.announced == [TOLD] * 3
    logged = await owner.data(LOG)
    assert [(row["action"], row["target"], row["details"]) for row in logged] == [
        ("role.revoked", "9", {"was": "admin"}),
        ("role.assigned", "9", {"role": "admin", "was": "viewer"}),
        ("role.assigned", "9", {"role": "viewer"}),
    ]
    assert {(row["actor"]["id"], row["request_id"]) for row in logged} == {("2", "the-request")}


async def test_a_discord_role_is_mapped_changed_and_unmapped(web: Web, owner: Owner) -> None:
    """Each is seen at once in the list, in the log and by those who watch."""
    path = f"{MAPPINGS}/77"
    for number, role in enumerate(("viewer", "admin"), 1):
        web.clock.advance(10)
        mapped = {"discord_role_id": "77", "role": role, "mapped_by": OLIVE, "mapped_at": web.clock()}
        assert await owner.put(path, role) == (200, mapped | {"hint": None})
        assert await owner.data(MAPPINGS) == [mapped]
        assert web.announcer.announced == [TOLD] * number
    assert await owner.ask("DELETE", path) == (204, None)
    assert await owner.data(MAPPINGS) == []
    actions = [row["action"] for row in await owner.data(LOG)]
    assert actions == ["role.unmapped", "role.mapped", "role.mapped"]


async def test_who_has_a_mapped_role_gets_in(web: Web, owner: Owner) -> None:
    """With what the role permits, from the next request on."""
    web.members.given[GUILD, 9] = frozenset({77})
    async with await web.browser_of(membership(), user_id=9) as ada:
        assert (await ada.get(f"/api/servers/{GUILD}/metrics")).status_code == 403
        await owner.put(f"{MAPPINGS}/77", "viewer")
        [server] = (await ada.get("/api/servers")).json()["data"]
        assert server["role"] == "viewer"
        assert (await ada.get(f"/api/servers/{GUILD}/metrics")).status_code == 200
        await owner.ask("DELETE", f"{MAPPINGS}/77")
        assert (await ada.get(f"/api/servers/{GUILD}/metrics")).status_code == 403


async def test_what_this_replica_changed_it_knows_at_once(web: Web, owner: Owner) -> None:
    """Not only when the second is over in which it remembers a role."""
    async with await web.browser_of(membership(), user_id=9) as ada:
        for role, status in (("viewer", 200), (None, 403), ("moderator", 200)):
            path = f"{ROLES_PATH}/9"
            await (owner.put(path, role) if role else owner.ask("DELETE", path))
            assert (await ada.get(f"/api/servers/{GUILD}/metrics")).status_code == status


class Refusal(NamedTuple):
    method: str
    path: str
    body: Any
    status: int
    code: str


REFUSALS = [
    Refusal("PUT", f"{ROLES_PATH}/2", {"role": "viewer"}, 409, "discord_owner"),
    Refusal("PUT", f"{ROLES_PATH}/2", {"role": "owner"}, 409, "discord_owner"),
    Refusal("DELETE", f"{ROLES_PATH}/2", None, 409, "discord_owner"),
    Refusal("DELETE", f"{ROLES_PATH}/9", None, 404, "no_such_role"),
    Refusal("DELETE", f"{MAPPINGS}/77", None, 404, "no_such_role"),
    Refusal("PUT", f"{ROLES_PATH}/9", {"role": "king"}, 422, "invalid_request"),
    Refusal("PUT", f"{ROLES_PATH}/9", {"role": None}, 422, "invalid_request"),
    Refusal("PUT", f"{ROLES_PATH}/9", {"role": "viewer", "more": 1}, 422, "invalid_request"),
    Refusal("PUT", f"{ROLES_PATH}/9", {}, 422, "invalid_request"),
    Refusal("PUT", f"{ROLES_PATH}/9", [], 422, "invalid_request"),
    Refusal("PUT", f"{MAPPINGS}/77", {"role": "ｖiewer"}, 422, "invalid_request"),
    Refusal("GET", f"{LOG}?action=role.assigned%00", None, 422, "invalid_text"),
    Refusal("GET", f"{LOG}?action={'a' * 80}.b", None, 422, "invalid_request"),
    Refusal("GET", f"{LOG}?actor_id=-1", None, 422, "invalid_actor_id"),
    Refusal("GET", f"{LOG}?actor_id={'9' * 30}", None, 422, "invalid_actor_id"),
    Refusal("GET", f"{ROLES_PATH}?per_page=101", None, 422, "invalid_request"),
    Refusal("GET", f"{MAPPINGS}?page=0", None, 422, "invalid_request"),
]


@pytest.mark.parametrize("expected", REFUSALS)
async def test_what_cannot_be_done_is_refused(web: Web, owner: Owner, expected: Refusal) -> None:
    """With a sentence and a code; nothing is changed, announced or logged."""
    status, refusal = await owner.ask(expected.method, expected.path, json=expected.body)
    assert (status, refusal["error_code"]) == (expected.status, expected.code)
    assert refusal["error"].endswith(".")
    assert (web.database.roles, web.database.role_mappings, web.database.audit) == ({}, {}, [])
    assert web.announcer.announced == []


async def test_the_last_owner_is_told_so(web: Web) -> None:
    """Where nobody knows whose guild it is, who was made owner stays owner until there is another."""
    web.database.roles[GUILD, USER_IDS["owner"]] = "owner"
    async with await web.browser_of(membership(), user_id=USER_IDS["owner"]) as browser:
        only = Owner(browser)
        path = f"{ROLES_PATH}/{USER_IDS['owner']}"
        for status, body in (await only.put(path, "admin"), await only.ask("DELETE", path)):
            assert (status, body["error_code"]) == (409, "last_owner")
        assert (await only.put(f"{ROLES_PATH}/9", "owner"))[0] == 200
        assert (await only.put(path, "admin"))[0] == 200
        status, body = await only.put(path, "owner")
        assert (status, body["details"]) == (403, {"permission": "manage_roles"})


async def test_who_lost_the_role_meanwhile_changes_nothing(web: Web) -> None:
    """Though this replica still remembers it for a moment; the denial is in the log."""
    web.database.roles[GUILD, USER_IDS["owner"]] = "owner"
    async with await web.browser_of(membership(), user_id=USER_IDS["owner"]) as browser:
        late = Owner(browser)
        assert (await late.ask("GET", ROLES_PATH))[0] == 200
        web.database.roles[GUILD, USER_IDS["owner"]] = "admin"
        status, body = await late.put(f"{ROLES_PATH}/9", "viewer")
        assert (status, body["error_code"]) == (403, "missing_permission")
    [denial] = await web.denied()
    assert denial.entry.details["route"] == "/api/servers/{guild_id}/roles/{user_id}"
    assert denial.entry.request_id == "the-request"
    assert (GUILD, 9) not in web.database.roles


@pytest.mark.parametrize("known", [True, False])
async def test_a_change_that_may_have_been_made_is_not_denied(
    web: Web, owner: Owner, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """503 says that nobody knows. It was made or not; what this replica remembers is forgotten."""
    change = web.rbac.change

    async def lost(*arguments: Any) -> int:
        if known:
            await change(*arguments)
        raise RolesUnavailable

    async with await web.browser_of(membership(), user_id=9) as ada:
        assert (await ada.get(f"/api/servers/{GUILD}/metrics")).status_code == 403
        monkeypatch.setattr(web.rbac, "change", lost)
        status, body = await owner.put(f"{ROLES_PATH}/9", "viewer")
        assert (status, body["error_code"]) == (503, "roles_unavailable")
        answer = await ada.get(f"/api/servers/{GUILD}/metrics")
        assert answer.status_code == (200 if known else 403)


async def test_without_the_database_nothing_is_said(web: Web, owner: Owner) -> None:
    """503 for lists and changes alike."""
    await owner.data(ROLES_PATH)
    web.database.available = False
    for method, path in (
        ("GET", ROLES_PATH),
        ("GET", MAPPINGS),
        ("GET", LOG),
        ("PUT", f"{ROLES_PATH}/9"),
        ("DELETE", f"{MAPPINGS}/77"),
    ):
        status, body = await owner.ask(method, path, json={"role": "viewer"} if method == "PUT" else None)
        assert (status, body["error_code"]) == (503, "database_unavailable")


async def test_lists_are_paged(owner: Owner) -> None:
    """In the order of roles; an empty one says what there could be."""
    for path in (ROLES_PATH, MAPPINGS):
        status, empty = await owner.ask("GET", path)
        assert (status, empty["is_empty"], empty["data"]) == (200, True, [])
        assert empty["message"].endswith(".")
    for number in range(5):
        await owner.put(f"{ROLES_PATH}/{number + 10}", "admin" if number == 3 else "viewer")
        await owner.put(f"{MAPPINGS}/{number + 10}", "admin" if number == 3 else "viewer")
    for path in (ROLES_PATH, MAPPINGS):
        ids = []
        for page in (1, 2, 3):
            _, body = await owner.ask("GET", f"{path}?per_page=2&page={page}")
            assert (body["total"], body["has_next"], body["has_prev"]) == (5, page < 3, page > 1)
            ids += [row.get("discord_role_id") or row["user"]["id"] for row in body["data"]]
        assert ids == ["13", "10", "11", "12", "14"]


async def test_who_gave_a_role_may_be_nobody(web: Web, owner: Owner) -> None:
    """Then there is no name, and who is not known has an id all the same."""
    web.database.roles[GUILD, 5] = "viewer"
    [row] = await owner.data(ROLES_PATH)
    assert row["assigned_by"] is None
    assert row["user"] == {"id": "5", "username": None, "display_name": None, "avatar_url": None}


async def test_the_log_can_be_searched(web: Web, owner: Owner) -> None:
    """By what was done and by whom; other guilds' entries are not in it, nor those of none."""
    entries = [
        AuditEntry(GUILD, 9, "rule.updated", "links", {"version": 2}, "r1"),
        AuditEntry(GUILD, None, "config.updated"),
        AuditEntry(GUILD + 1, 9, "rule.updated"),
        AuditEntry(None, 9, "auth.login"),
    ]
    await web.audit.record(entries)
    whole = await owner.data(LOG)
    assert [row["action"] for row in whole] == ["config.updated", "rule.updated"]
    assert whole[1] == {
        "id": "1",
        "at": web.clock(),
        "action": "rule.updated",
        "actor": ADA,
        "target": "links",
        "details": {"version": 2},
        "request_id": "r1",
    }
    assert whole[0]["actor"] is None
    assert await owner.data(f"{LOG}?action=rule.updated") == whole[1:]
    assert await owner.data(f"{LOG}?actor_id=9") == whole[1:]
    assert await owner.data(f"{LOG}?actor_id=9&action=config.updated") == []
    _, empty = await owner.ask("GET", f"{LOG}?actor_id=3")
    assert (empty["is_empty"], empty["total"], bool(empty["message"])) == (True, 0, True)


@pytest.mark.parametrize(
    ("who", "roles", "log"),
    [("admin", 403, 200), ("moderator", 403, 403), ("viewer", 403, 200), ("operator", 403, 403)],
)
async def test_who_sees_what(web: Web, who: str, roles: int, log: int) -> None:
    """Roles and what they come from are the owners'; the log is for those who may see the settings."""
    async with await web.browser_of_role(who) as browser:
        for path, status in ((ROLES_PATH, roles), (MAPPINGS, roles), (LOG, log)):
            assert (await browser.get(path)).status_code == status


async def test_two_owners_cannot_remove_each_other_at_once(web: Web) -> None:
    """One of them does, and the other is no owner any more when their turn comes."""
    web.database.roles |= {(GUILD, 2): "owner", (GUILD, 3): "owner"}
    async with (
        await web.browser_of(membership(), user_id=2) as two,
        await web.browser_of(membership(), user_id=3) as three,
    ):
        answers = await asyncio.gather(
            two.delete(f"{ROLES_PATH}/3", headers={"x-csrf-token": "csrf-2"}),
            three.delete(f"{ROLES_PATH}/2", headers={"x-csrf-token": "csrf-3"}),
        )
    assert sorted(answer.status_code for answer in answers) == [204, 403]
    assert len(web.database.roles) == 1


async def test_me_says_who_operates(web: Web) -> None:
    """By the settings, whatever role somebody has anywhere."""
    for who, operator in (("operator", True), ("owner", False), ("outsider", False)):
        async with await web.browser_of_role(who) as browser:
            assert (await browser.get("/api/auth/me")).json()["operator"] is operator


async def test_a_new_discord_owner_takes_over(web: Web, owner: Owner) -> None:
    """From when the gateway says so, whatever either of them logged in as."""
    assert (await owner.ask("GET", ROLES_PATH))[0] == 200
    await happen(web, described(GUILD, owner_id=9))
    await web.rbac.heard([GuildAuthority(GUILD, web.clock(), owner_id=9)])

    async def closed() -> bool:
        return (await owner.ask("GET", ROLES_PATH))[0] == 403

    await eventually(closed, within_s=5)
    assert await web.rbac.change(Assign(2, "viewer"), Member(9, GUILD, False, 0)) == web.clock()


# -- ids that exist nowhere -----------------------------------------------------------------------


async def test_a_role_for_nobody_is_kept_with_a_hint(web: Web, owner: Owner) -> None:
    """Discord knows nobody of that id. Of whom it could not be asked, nobody says that they are not there."""
    web.people.known[404] = gone(404, seen_ms=NOON_MS)
    hints = {}
    for user_id in (9, 404, 12345):
        status, body = await owner.put(f"{ROLES_PATH}/{user_id}", "viewer")
        assert (status, body["role"]) == (200, "viewer")
        hints[user_id] = body["hint"]
    assert hints.pop(404).startswith("Discord knows nobody of this id")
    assert set(hints.values()) == {None}
    assert all("hint" not in row for row in await owner.data(ROLES_PATH))


async def test_a_mapping_of_no_role_is_kept_with_a_hint(
    web: Web, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Discord lists the server's roles in time, and not this one; @everyone is always there."""
    assert (await owner.put(f"{MAPPINGS}/77", "viewer"))[1]["hint"] is None  # nobody can say
    web.members.existing[GUILD] = frozenset({77})
    assert (await owner.put(f"{MAPPINGS}/77", "viewer"))[1]["hint"] is None
    assert (await owner.put(f"{MAPPINGS}/{GUILD}", "viewer"))[1]["hint"] is None
    status, body = await owner.put(f"{MAPPINGS}/78", "viewer")
    assert (status, body["hint"][:26]) == (200, "The server has no role of ")

    async def hang(guild_id: int) -> frozenset[int]:
        del guild_id
        await asyncio.Event().wait()
        return frozenset()

    monkeypatch.setattr(web.members, "guild_roles", hang)
    monkeypatch.setattr(roles, "ASK_WITHIN_S", 0.01)
    assert (await owner.put(f"{MAPPINGS}/78", "admin"))[1]["hint"] is None
