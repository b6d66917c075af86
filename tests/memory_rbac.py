"""The real Rbac actor as a plain object, on the twins of the database and of Discord."""

from __future__ import annotations

import time
from collections.abc import Callable

from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.rbac import Rbac
from adapters.memory import MemoryAuthorityStore, MemoryDatabase, MemoryMembers, MemoryRoleStore


def memory_rbac(
    database: MemoryDatabase,
    members: MemoryMembers | None = None,
    monotonic_s: Callable[[], float] = time.monotonic,
    authority: MemoryAuthorityStore | None = None,
) -> Rbac:
    """Return an Rbac actor that has not started; it starts when it is asked something."""
    source = members or MemoryMembers()

    async def open_store() -> MemoryRoleStore:
        return MemoryRoleStore(database)

    kept = authority or MemoryAuthorityStore()
    members_of = lambda: MemberRoles(MemberRolesSettings(), source, monotonic_s)  # noqa: E731
    return Rbac(open_store, members_of, lambda: kept, database.now_ms)
