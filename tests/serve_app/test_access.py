"""The table of permissions against every route that names a guild."""

from __future__ import annotations

import contextlib
from typing import get_args

import pytest

from adapters.memory.samples import person
from domain.permissions import ADMINISTRATOR, PERMISSIONS, Permission, Role
from domain.sessions import Session, SessionGuild
from serve_app.access import Needs
from serve_app.errors import ApiError
from tests.serve_app.web import GUILD, ROLES, Web, membership

NEEDED: dict[tuple[str, str], Permission] = {
    ("GET", "/api/servers/{guild_id}/metrics"): "view_dashboard",
    ("GET", "/api/servers/{guild_id}/violations"): "view_violations",
}
OPEN = {("GET", "/health"), ("GET", "/api/auth/login"), ("GET", "/api/auth/callback")}
"""Routes that need no session."""


async def routes(web: Web) -> set[tuple[str, str]]:
    document = (await web.browser.get("/api/openapi.json")).json()
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


async def test_every_route_of_a_guild_has_its_permission_here(web: Web) -> None:
    """A new route fails this test until the table names what it needs."""
    assert {route for route in await routes(web) if "{" in route[1]} == set(NEEDED)


@pytest.mark.parametrize("who", ["nobody", "outsider", *ROLES])
@pytest.mark.parametrize("route", NEEDED, ids=lambda route: route[1])
async def test_one_gets_what_the_role_permits(web: Web, route: tuple[str, str], who: str) -> None:
    """200 with the permission; 401 without a session; 403 that names what is missing; never more."""
    method, path = route
    answer = await (await web.browser_of_role(who)).request(method, path.format(guild_id=GUILD))
    if who == "nobody":
        assert (answer.status_code, answer.json()["error_code"]) == (401, "no_session")
    elif who in ROLES and NEEDED[route] in PERMISSIONS[who]:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 403
        assert answer.json()["details"] == {"permission": NEEDED[route]}


async def test_all_other_routes_need_a_session(web: Web) -> None:
    """Nothing answers somebody unknown but health and the login itself."""
    for method, path in await routes(web) - OPEN:
        answer = await web.new_browser().request(method, path.format(guild_id=GUILD))
        assert answer.status_code == 401, path


@pytest.mark.parametrize("permission", sorted(get_args(Permission)))
async def test_a_permission_lets_through_who_holds_it(web: Web, permission: Permission) -> None:
    """Also those that no route asks for yet: each role gets past exactly what the table gives it."""
    ports = await web._open()
    passed = set()
    for role in ROLES:
        web.database.roles[GUILD, 1] = role
        session = Session(person(), (membership(),), "csrf", web.clock())
        with contextlib.suppress(ApiError):
            granted = await Needs(permission)(session, GUILD, ports)
            passed.add(granted.role)
    assert passed == {role for role in ROLES if permission in PERMISSIONS[role]}


@pytest.mark.parametrize("route", NEEDED, ids=lambda route: route[1])
async def test_a_role_holds_in_its_own_guild_only(web: Web, route: tuple[str, str]) -> None:
    """Neither being owner elsewhere nor a role that was assigned there opens another guild."""
    web.database.roles[GUILD, 9] = "owner"
    browser = await web.browser_of(membership(41, owns=True), user_id=9)
    method, path = route
    assert (await browser.request(method, path.format(guild_id=GUILD))).status_code == 403
    assert (await browser.request(method, path.format(guild_id=41))).status_code == 200


OUTCOMES: list[tuple[SessionGuild, Role | None, Role | None]] = [
    (membership(owns=True), "viewer", "owner"),
    (membership(permissions=ADMINISTRATOR), None, "admin"),
    (membership(permissions=ADMINISTRATOR), "viewer", "viewer"),
    (membership(permissions=ADMINISTRATOR), "owner", "owner"),
    (membership(permissions=ADMINISTRATOR | 1), "moderator", "moderator"),
    (membership(), "admin", "admin"),
    (membership(permissions=~ADMINISTRATOR & 0xFFFF), None, None),
]


@pytest.mark.parametrize(("member", "assigned", "role"), OUTCOMES)
async def test_an_assignment_outweighs_administrator(
    web: Web, member: SessionGuild, assigned: Role | None, role: Role | None
) -> None:
    """Whoever was assigned a role has it, less or more than Discord's; the owner stays owner."""
    if assigned is not None:
        web.database.roles[GUILD, 1] = assigned
    listed = (await (await web.browser_of(member)).get("/api/servers")).json()
    assert [server["role"] for server in listed["data"]] == ([role] if role else [])


async def test_a_role_that_was_taken_away_is_gone_at_once(web: Web) -> None:
    """Roles are read anew for every request."""
    browser = await web.browser_of_role("viewer")
    path = f"/api/servers/{GUILD}/metrics"
    assert (await browser.get(path)).status_code == 200
    web.database.roles.clear()
    assert (await browser.get(path)).status_code == 403


@pytest.mark.parametrize(
    "nonsense",
    ["abc", "0", "-1", "+1", "1.0", "1e5", "0x28", "%00", "%20", "40%20", "%2e%2e", str(2**63), "٤"],
)
async def test_an_id_that_is_none_is_refused(web: Web, nonsense: str) -> None:
    """Only Discord's plain digits name a guild."""
    owner = await web.browser_of_role("owner")
    answer = await owner.get(f"/api/servers/{nonsense}/metrics")
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_guild_id")


async def test_the_last_id_there_can_be_is_one(web: Web) -> None:
    """2^63 - 1 is refused for want of a role and not for its size."""
    owner = await web.browser_of_role("owner")
    assert (await owner.get(f"/api/servers/{2**63 - 1}/metrics")).status_code == 403
