"""Property 11: role assignments persist whole.

Against the real PostgreSQL: any changes, by anybody, told to any life of the Rbac actor, some of which die
in the middle of it. A model of a few lines says what must be there after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.rbac import Rbac
from adapters import role_store
from adapters.audit import PostgresAuditLog
from adapters.clock import now_ms
from adapters.memory import MemoryAuthorityStore, MemoryMembers
from adapters.role_store import PostgresRoleStore
from domain.errors import DiscordOwnerStays, GuildhallError, LastOwner, MayNotChangeRoles, NoSuchRole
from domain.permissions import ROLES, Role
from domain.roles import Assign, MapRole, Member, Revoke, RoleChange, UnmapRole

SHARED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

PEOPLE = range(1, 6)
DISCORDS_OWNER, WITH_DISCORD_ROLE = 1, 4
DISCORD_ROLE = 71

_guilds = count(5_000_000)

person = st.sampled_from(PEOPLE)
role = st.sampled_from(ROLES)
discord_role = st.sampled_from([DISCORD_ROLE, 72])
change: st.SearchStrategy[RoleChange] = st.one_of(
    st.builds(Assign, user_id=person, role=role),
    st.builds(Revoke, user_id=person),
    st.builds(MapRole, discord_role_id=discord_role, role=role),
    st.builds(UnmapRole, discord_role_id=discord_role),
)
# Who may change roles does so most of the time: what is refused leaves nothing to look at.
author = st.sampled_from([DISCORDS_OWNER, DISCORDS_OWNER, *PEOPLE])
step = st.tuples(author, change, st.booleans(), st.booleans())
attempt = st.tuples(person, person, st.booleans())


class Crash(Exception):
    """The process dies."""


class Model:
    """What must be on record, and who may change it."""

    def __init__(self) -> None:
        self.assigned: dict[int, tuple[Role, int]] = {}
        self.mapped: dict[int, tuple[Role, int]] = {}
        self.made = 0

    def role(self, user_id: int) -> Role | None:
        if user_id == DISCORDS_OWNER:
            return "owner"
        if user_id in self.assigned:
            return self.assigned[user_id][0]
        if user_id == WITH_DISCORD_ROLE and DISCORD_ROLE in self.mapped:
            return self.mapped[DISCORD_ROLE][0]
        return None

    def make(self, change: RoleChange, by: int) -> type[GuildhallError] | None:
        """Make a change, or return why it must not be made."""
        if self.role(by) != "owner":
            return MayNotChangeRoles
        assigning = isinstance(change, Assign | Revoke)
        # The bot is not in this guild: whose it is, only they themselves bring along when they log in.
        if assigning and change.user_id == by == DISCORDS_OWNER:
            return DiscordOwnerStays
        table = self.assigned if assigning else self.mapped
        key = change.user_id if isinstance(change, Assign | Revoke) else change.discord_role_id
        before = dict(table)
        if isinstance(change, Assign | MapRole):
            table[key] = (change.role, by)
        elif table.pop(key, None) is None:
            return NoSuchRole
        owners = [one for one, _ in self.assigned.values() if one == "owner"]
        if not owners and self.role(by) != "owner":
            table.clear()
            table.update(before)
            return LastOwner
        self.made += 1
        return None


class Rig:
    """The store, the log, and lives of the actor."""

    def __init__(self, dsn: str, store: PostgresRoleStore, audit: PostgresAuditLog) -> None:
        self.dsn, self.store, self.audit = dsn, store, audit
        self.guild_id = 0
        self.members = MemoryMembers()

    def new_guild(self) -> None:
        self.guild_id = next(_guilds)
        self.members.given = {(self.guild_id, WITH_DISCORD_ROLE): frozenset({DISCORD_ROLE})}

    def life(self) -> Rbac:
        async def opened() -> PostgresRoleStore:
            return self.store

        members = lambda: MemberRoles(MemberRolesSettings(), self.members)  # noqa: E731
        return Rbac(opened, members, MemoryAuthorityStore, now_ms)

    def member(self, user_id: int) -> Member:
        return Member(user_id, self.guild_id, user_id == DISCORDS_OWNER, 0)

    async def check(self, model: Model) -> None:
        """Compare everything on record with the model."""
        assigned, total = await self.store.assignments(self.guild_id, limit=100, offset=0)
        assert total == len(assigned)
        assert {row.user_id: (row.role, row.assigned_by) for row in assigned} == model.assigned
        mapped, _ = await self.store.mappings(self.guild_id, limit=100, offset=0)
        assert {row.discord_role_id: (row.role, row.mapped_by) for row in mapped} == model.mapped
        log, entries = await self.audit.page(self.guild_id, limit=100, offset=0)
        assert entries == len(log) == model.made
        times = [row.at_ms for row in log]
        assert times == sorted(times, reverse=True)
        roles = await self.life().roles_of([self.member(user_id) for user_id in PEOPLE])
        assert {member.user_id: role for member, role in roles.items()} == {
            user_id: model.role(user_id) for user_id in PEOPLE
        }


@pytest.fixture
async def rig(postgres_dsn: str) -> AsyncIterator[Rig]:
    store = await PostgresRoleStore.open(postgres_dsn)
    yield Rig(postgres_dsn, store, PostgresAuditLog(store._pool))
    await store.close()


async def _die(*_: Any) -> None:
    raise Crash


@SHARED
@given(steps=st.lists(step, min_size=1, max_size=8))
async def test_role_assignments_persist_whole(
    rig: Rig, steps: list[tuple[int, RoleChange, bool, bool]]
) -> None:
    """A change is there with its entry in the log, for every life from then on, or nothing of it is."""
    rig.new_guild()
    model, life = Model(), rig.life()
    for by, change, new_life, dies in steps:
        life = rig.life() if new_life else life
        if dies:
            # Between what is written and what is noted of it; or it is refused before it comes to that.
            with patch.object(role_store, "write_audit", _die), pytest.raises((Crash, GuildhallError)):
                await life.change(change, rig.member(by))
            life = rig.life()
        else:
            outcome = await asyncio.gather(life.change(change, rig.member(by)), return_exceptions=True)
            assert type(outcome[0]) is (model.make(change, by) or int), (by, change)
        await rig.check(model)


@SHARED
@given(owners=st.integers(2, 4), steps=st.lists(attempt, min_size=2, max_size=8))
async def test_there_is_always_an_owner(rig: Rig, owners: int, steps: list[tuple[int, int, bool]]) -> None:
    """However many remove and demote each other and themselves at once, by several lives of the actor."""
    rig.new_guild()
    people = range(11, 11 + owners)
    for user_id in people:
        await rig.store.give(rig.guild_id, user_id, "owner")
    lives = [rig.life() for _ in range(3)]
    done = await asyncio.gather(
        *(
            lives[number % 3].change(
                Assign(people[target % owners], "admin") if demote else Revoke(people[target % owners]),
                rig.member(people[by % owners]),
            )
            for number, (by, target, demote) in enumerate(steps)
        ),
        return_exceptions=True,
    )
    assert all(isinstance(one, int | LastOwner | MayNotChangeRoles | NoSuchRole) for one in done)
    assigned, _ = await rig.store.assignments(rig.guild_id, limit=100, offset=0)
    assert any(row.role == "owner" for row in assigned)
    log, _ = await rig.audit.page(rig.guild_id, limit=100, offset=0)
    assert len(log) == sum(isinstance(one, int) for one in done)
