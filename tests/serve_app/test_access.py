"""Who gets through which route: every route of the API's description, against the table of permissions."""

from __future__ import annotations

import contextlib
from typing import get_args

import httpx2
import pytest
from fastapi import Request

from adapters.memory.samples import described, person
from domain.authority import MemberAuthority
from domain.errors import DiscordUnavailable, RolesUnavailable
from domain.permissions import ADMINISTRATOR, PERMISSIONS, ROLES, Permission, Role
from domain.roles import Mapping, Member, Revoke
from domain.sessions import Session, SessionGuild
from serve_app.access import Needs
from serve_app.errors import ApiError
from tests.serve_app.declared import OF_ANYBODY, OPEN, Declared, declared
from tests.serve_app.test_servers import happen
from tests.serve_app.web import GUILD, USER_IDS, Web, membership
from tests.waiting import eventually

WHO = ("nobody", "stranger", "outsider", "operator", *reversed(ROLES))


async def ask(web: Web, route: Declared, who: str, **changes: str) -> httpx2.Response:
    """Ask as somebody new of this kind, with their CSRF token; with an empty body where one can be."""
    async with await web.browser_of_role(who) as browser:
        headers = {"x-csrf-token": web.csrf_of(who)} | changes
        body = {} if route.method in {"PUT", "POST", "PATCH"} else None
        return await browser.request(route.method, route.url, headers=headers, json=body)


def expected(route: Declared, who: str) -> tuple[int, str] | None:
    """Return the refusal that the declaration and the table of permissions lead to; None for none."""
    if who == "nobody":
        return (401, "no_session") if route.session else None
    if route.operator:
        return None if who == "operator" else (403, "not_operator")
    if route.permission is None or (who in ROLES and route.permission in PERMISSIONS[who]):
        return None
    return 403, "missing_permission"


async def test_the_description_hides_no_route(web: Web) -> None:
    """What the API's description names, and what there is, are the same."""
    document = (await web.browser.get("/api/openapi.json")).json()
    named = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert named == {route.name for route in declared(web.app)}
    assert named >= OPEN | OF_ANYBODY


async def test_every_route_says_whom_it_lets_through(web: Web) -> None:
    """A permission, or that it is for operators; beyond that there are only the few that are listed."""
    for route in declared(web.app):
        one = (route.name in OPEN, route.name in OF_ANYBODY, route.permission is not None, route.operator)
        assert sum(one) == 1, route
        assert route.session is (route.name not in OPEN), route
        assert (route.permission is not None) >= ("{guild_id}" in route.path), route


async def test_every_change_asks_for_the_token(web: Web) -> None:
    """Whatever is no GET comes from our own page only."""
    for route in declared(web.app):
        assert route.changes is (route.method != "GET"), route


@pytest.mark.parametrize("who", WHO)
async def test_one_gets_what_the_role_permits(web: Web, who: str) -> None:
    """401 without a session; 403 that names what is missing; never more, and never less."""
    for route in declared(web.app):
        answer = await ask(web, route, who)
        refused = expected(route, who)
        if refused is None:
            assert answer.status_code < 500, route
            assert answer.status_code not in {401, 403}, (route, answer.text)
            continue
        body = answer.json()
        assert (answer.status_code, body["error_code"]) == refused, route
        wanted = {"permission": route.permission} if refused[1] == "missing_permission" else None
        assert body["details"] == wanted, route


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"x-csrf-token": ""}, "csrf"),
        ({"x-csrf-token": "another"}, "csrf"),
        ({"origin": "https://evil.example"}, "wrong_origin"),
        ({"origin": "null"}, "wrong_origin"),
    ],
)
async def test_a_change_from_elsewhere_is_refused(web: Web, changes: dict[str, str], code: str) -> None:
    """Also the owner's: without the token, with another's, or from another site; and it is noted."""
    for route in declared(web.app):
        if route.changes and not route.operator:
            answer = await ask(web, route, "owner", **changes)
            assert (answer.status_code, answer.json()["error_code"]) == (403, code), route
    assert {row.entry.details["reason"] for row in await web.denied()} == {code}


@pytest.mark.parametrize("permission", sorted(get_args(Permission)))
async def test_a_permission_lets_through_who_holds_it(web: Web, permission: Permission) -> None:
    """Also those that no route asks for yet: each role gets past exactly what the table gives it."""
    request = Request({"type": "http", "app": web.app, "method": "GET", "state": {}})
    passed = set()
    for number, role in enumerate(ROLES):
        web.database.roles[GUILD, number] = role
        guilds, now_ms = (membership(),), web.clock()
        session = Session(person(number), guilds, "csrf", now_ms, guilds_as_of_ms=now_ms)
        with contextlib.suppress(ApiError):
            granted = await Needs(permission)(request, session, str(GUILD))
            passed.add(granted.role)
    assert passed == {role for role in ROLES if permission in PERMISSIONS[role]}


async def test_a_role_holds_in_its_own_guild_only(web: Web) -> None:
    """Neither being owner elsewhere nor a role that was assigned there opens another guild."""
    web.database.roles[GUILD, 9] = "owner"
    browser = await web.browser_of(membership(41, owns=True), user_id=9)
    for route in declared(web.app):
        if route.permission is not None and route.method == "GET":
            assert (await browser.get(route.url)).status_code == 403, route
            elsewhere = await browser.get(route.url.replace(str(GUILD), "41"))
            assert elsewhere.status_code in {200, 404, 422}, route


# -- how a role comes about ---------------------------------------------------------------------------

OUTCOMES: list[tuple[SessionGuild, Role | None, Role | None]] = [
    (membership(owns=True), "viewer", "owner"),
    (membership(permissions=ADMINISTRATOR), None, "admin"),
    (membership(permissions=ADMINISTRATOR), "viewer", "viewer"),
    (membership(permissions=ADMINISTRATOR), "owner", "owner"),
    (membership(permissions=ADMINISTRATOR | 1), "moderator", "moderator"),
    (membership(), "admin", "admin"),
    (membership(permissions=~ADMINISTRATOR & 0xFFFF), None, None),
]


async def listed(web: Web, member: SessionGuild, user_id: int = 1) -> list[dict[str, object]]:
    async with await web.browser_of(member, user_id=user_id) as browser:
        found: list[dict[str, object]] = (await browser.get("/api/servers")).json()["data"]
        return found


@pytest.mark.parametrize(("member", "assigned", "role"), OUTCOMES)
async def test_an_assignment_outweighs_administrator(
    web: Web, member: SessionGuild, assigned: Role | None, role: Role | None
) -> None:
    """Whoever was assigned a role has it, less or more than Discord's; the owner stays owner."""
    if assigned is not None:
        web.database.roles[GUILD, 1] = assigned
    servers = await listed(web, member)
    assert [server["role"] for server in servers] == ([role] if role else [])
    if role:
        assert servers[0]["permissions"] == sorted(PERMISSIONS[role])


async def test_whose_guild_it_is_says_the_gateway(web: Web) -> None:
    """It is newer than a login. Where the bot is not, the login is all there is."""
    await happen(web, described(GUILD, owner_id=2))
    assert await listed(web, membership(owns=True), user_id=1) == []
    [server] = await listed(web, membership(), user_id=2)
    assert server["role"] == "owner"
    web.database.guilds.clear()
    assert [server["role"] for server in await listed(web, membership(41, owns=True))] == ["owner"]


async def test_a_role_that_was_taken_away_is_gone_as_soon_as_that_is_heard(web: Web) -> None:
    """Here, or on Discord; and after a minute what is remembered is asked for again anyway."""
    path = f"/api/servers/{GUILD}/metrics"

    async def opened() -> bool:
        return (await browser.get(path)).status_code == 200

    async def closed() -> bool:
        return (await browser.get(path)).status_code == 403

    async with await web.browser_of_role("viewer") as browser:
        viewer = USER_IDS["viewer"]
        assert (await browser.get(path)).status_code == 200
        await web.rbac.change(Revoke(viewer), Member(2, GUILD, owns=True, discord_permissions=0))
        await eventually(closed, within_s=5)
    async with await web.browser_of_role("viewer") as browser:
        await web.rbac.heard([MemberAuthority(GUILD, viewer, web.clock(), frozenset({GUILD}))])
        await eventually(opened, within_s=5)
        await web.rbac.heard([MemberAuthority(GUILD, viewer, web.clock(), None)])
        await eventually(closed, within_s=5)
    async with await web.browser_of_role("moderator") as browser:
        assert (await browser.get(path)).status_code == 200
        web.database.roles.clear()
        assert (await browser.get(path)).status_code == 200
        web.clock.advance(60_000)
        assert await closed()


async def test_without_a_list_of_servers_nobody_knows(web: Web) -> None:
    """A day after Discord last gave one; it is no denial."""
    browser = await web.browser_of_role("owner")
    web.login.problem = DiscordUnavailable()
    web.sessions._guilds.clear()
    for path in (f"/api/servers/{GUILD}/metrics", "/api/servers"):
        answer = await browser.get(path)
        assert (answer.status_code, answer.json()["error_code"]) == (503, "roles_unavailable")
    assert await web.denied() == []


async def test_what_discord_does_not_say_is_no_denial(web: Web) -> None:
    """Whoever has a role by a mapping is told to come back; nothing is noted.

    In the list of servers the others are there, with how many are missing.
    """

    async def away(*_: object) -> None:
        raise DiscordUnavailable

    web.database.role_mappings[GUILD, GUILD] = Mapping(GUILD, "viewer", 1, 0)
    web.members.given[GUILD, 4] = frozenset()
    web.members.before = away
    async with await web.browser_of_role("outsider") as outsider, await web.browser_of_role("owner") as owner:
        for path in (f"/api/servers/{GUILD}/metrics", "/api/servers"):
            answer = await outsider.get(path)
            assert (answer.status_code, answer.json()["error_code"]) == (503, "roles_unavailable")
            assert answer.headers["Retry-After"] == "2"
            assert (await owner.get(path)).status_code == 200
        elsewhere = membership(GUILD + 1, owns=True)
        async with await web.browser_of(membership(), elsewhere, user_id=4) as both:
            found = (await both.get("/api/servers")).json()
            assert ([server["id"] for server in found["data"]], found["unchecked"]) == ([str(GUILD + 1)], 1)
            assert found["total"] == 1
        assert await web.denied() == []
        web.members.before = None
        web.clock.advance(5_000)
        assert (await outsider.get(f"/api/servers/{GUILD}/metrics")).status_code == 200


async def test_when_roles_cannot_be_read_nobody_gets_in(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with a sentence, for everybody and on every route that asks for a role; it is no denial."""

    async def away(*_: object) -> None:
        raise RolesUnavailable

    monkeypatch.setattr(web.rbac, "roles_of", away)
    for route in declared(web.app):
        if route.permission is not None:
            answer = await ask(web, route, "owner")
            assert (answer.status_code, answer.json()["error_code"]) == (503, "roles_unavailable"), route
    assert await web.denied() == []


# -- ids that are none --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nonsense",
    [
        "abc",
        "0",
        "-1",
        "+1",
        "1.0",
        "1e5",
        "0x28",
        "%00",
        "%20",
        "40%20",
        "%2e%2e",
        str(2**63),
        "٤",
        "9" * 30,
    ],
)
async def test_an_id_that_is_none_is_refused(web: Web, nonsense: str) -> None:
    """Only Discord's plain digits name a guild, a person or a role."""
    async with await web.browser_of_role("owner") as owner:
        headers = {"x-csrf-token": web.csrf_of("owner")}
        for path, code in (
            (f"/api/servers/{nonsense}/metrics", "invalid_guild_id"),
            (f"/api/servers/{GUILD}/roles/{nonsense}", "invalid_user_id"),
            (f"/api/servers/{GUILD}/role-mappings/{nonsense}", "invalid_role_id"),
        ):
            method = "GET" if path.endswith("metrics") else "DELETE"
            answer = await owner.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["error_code"]) == (422, code)


async def test_the_last_id_there_can_be_is_one(web: Web) -> None:
    """2^63 - 1 is refused for want of a role and not for its size."""
    owner = await web.browser_of_role("owner")
    assert (await owner.get(f"/api/servers/{2**63 - 1}/metrics")).status_code == 403
