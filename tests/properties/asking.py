"""People who come by their roles in every possible way, and ask every route."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from domain.permissions import ADMINISTRATOR, ROLES, Role
from domain.roles import Mapping
from domain.sessions import SessionGuild
from tests.serve_app.declared import Declared, declared
from tests.serve_app.web import PLAIN, Web, running

Way = Literal["owns", "assigned", "mapped", "administrator", "member", "stranger"]

WAYS: dict[Role | None, tuple[Way, ...]] = {
    "owner": ("owns", "assigned", "mapped"),
    "admin": ("administrator", "assigned", "mapped"),
    "moderator": ("assigned", "mapped"),
    "viewer": ("assigned", "mapped"),
    None: ("member", "stranger"),
}
"""How somebody comes by a role, or by none."""

WITHOUT_BITS = {"owns", "assigned", "mapped"}
"""Ways that outweigh what Discord permits."""

BODIES = {
    "/api/servers/{guild_id}/roles/{user_id}": {"role": "viewer"},
    "/api/servers/{guild_id}/role-mappings/{discord_role_id}": {"role": "viewer"},
}
"""What a change needs to be made; where nothing stands here, an empty object is sent."""

DISCORD_ROLE = 71

_numbers = count(1_000)


class Someone(NamedTuple):
    """A person who is new, in a guild that is new."""

    role: Role | None
    way: Way
    also_administrator: bool
    elsewhere_owner: bool


def people(*roles: Role | None) -> st.SearchStrategy[Someone]:
    """Return people who have one of these roles, by any way that leads to it."""
    return st.sampled_from([(role, way) for role in roles for way in WAYS[role]]).flatmap(
        lambda found: st.builds(
            Someone,
            role=st.just(found[0]),
            way=st.just(found[1]),
            # It adds nothing where there is an assignment or a mapping, and makes an admin of a member.
            also_administrator=st.booleans()
            if found[1] in {"owns", "assigned", "mapped"}
            else st.just(False),
            elsewhere_owner=st.booleans(),
        )
    )


anybody = people(*ROLES, None)


class Asking:
    """The application on the twins."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.guarded = [route for route in declared(web.app) if route.permission is not None]
        """Routes of a guild, each with the permission that it declares."""

    @staticmethod
    def fresh() -> int:
        """Return the id of a guild or a person that nobody has heard of."""
        return next(_numbers)

    def changes(self) -> int:
        """Count what was changed and told so far."""
        entries = (row.entry.action for row in self.web.database.audit)
        return len(self.web.announcer.announced) + sum(action != "access.denied" for action in entries)

    async def lets_through(self, someone: Someone, route: Declared) -> bool:
        """Ask; check that a refusal is the one there has to be, and that it changed nothing."""
        before = self.changes()
        answer = await self.ask(someone, route)
        assert answer.status_code < 500, (someone, route, answer.text)
        if answer.status_code not in {401, 403}:
            return True
        body = answer.json()
        assert (answer.status_code, body["error_code"]) == (403, "missing_permission"), (someone, route)
        assert body["details"] == {"permission": route.permission}
        assert self.changes() == before
        return False

    async def ask(
        self, someone: Someone, route: Declared, *, guild_id: int | None = None, user_id: int | None = None
    ) -> httpx2.Response:
        """Ask as somebody, from their browser and with their token."""
        guild_id, user_id = guild_id or self.fresh(), user_id or self.fresh()
        guilds = self._place(someone, guild_id, user_id)
        async with await self.web.browser_of(*guilds, user_id=user_id) as browser:
            changes = route.method in {"PUT", "POST", "PATCH"}
            return await browser.request(
                route.method,
                route.url_in(guild_id),
                headers={"x-csrf-token": f"csrf-{user_id}"},
                json=BODIES.get(route.path, {}) if changes else None,
            )

    def _place(self, someone: Someone, guild_id: int, user_id: int) -> list[SessionGuild]:
        """Bring it about that somebody has their role; return the guilds that they are in."""
        database = self.web.database
        bits = 0
        match someone.way:
            case "assigned" if someone.role is not None:
                database.roles[guild_id, user_id] = someone.role
            case "mapped" if someone.role is not None:
                database.role_mappings[guild_id, DISCORD_ROLE] = Mapping(DISCORD_ROLE, someone.role, None, 0)
                self.web.members.given[guild_id, user_id] = frozenset({DISCORD_ROLE})
            case "administrator":
                bits = ADMINISTRATOR
            case _:
                pass
        bits |= ADMINISTRATOR if someone.also_administrator else 0
        guilds = [] if someone.way == "stranger" else [_guild(guild_id, someone.way == "owns", bits)]
        return [*guilds, _guild(1, True, 0)] if someone.elsewhere_owner else guilds


def _guild(guild_id: int, owns: bool, bits: int) -> SessionGuild:
    return SessionGuild(guild_id, f"Guild {guild_id}", None, owns, bits)


@pytest.fixture
async def asking(page_dir: Path) -> AsyncIterator[Asking]:
    """Run one application for all examples of a test: they share nothing but that."""
    async with running(PLAIN, page_dir) as web:
        yield Asking(web)


MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
