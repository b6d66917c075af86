"""Who may do what: the one table of permissions, and how a person gets a role in a guild."""

from __future__ import annotations

from typing import Literal

Role = Literal["owner", "admin", "moderator", "viewer"]
Permission = Literal[
    "view_dashboard",
    "view_violations",
    "view_warnings",
    "manage_violations",
    "manage_warnings",
    "export_data",
    "view_config",
    "view_rules",
    "update_config",
    "update_rules",
    "delete_rules",
    "manage_roles",
]

ROLES: tuple[Role, ...] = ("owner", "admin", "moderator", "viewer")
"""In their order: where somebody could have several, the first one counts."""

ADMINISTRATOR = 1 << 3
"""Discord's permission bit for administrators."""

_LOOK: frozenset[Permission] = frozenset({"view_dashboard", "view_violations", "view_warnings"})
_MODERATE: frozenset[Permission] = frozenset({"manage_violations", "manage_warnings", "export_data"})
_READ_SETTINGS: frozenset[Permission] = frozenset({"view_config", "view_rules"})
_CHANGE_SETTINGS: frozenset[Permission] = frozenset({"update_config", "update_rules"})
_OWN: frozenset[Permission] = frozenset({"delete_rules", "manage_roles"})

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    "owner": _LOOK | _MODERATE | _READ_SETTINGS | _CHANGE_SETTINGS | _OWN,
    "admin": _LOOK | _MODERATE | _READ_SETTINGS | _CHANGE_SETTINGS,
    "moderator": _LOOK | _MODERATE,
    "viewer": _LOOK | _READ_SETTINGS,
}


def resolve_role(
    *, owns_guild: bool, discord_permissions: int, assigned: Role | None, mapped: Role | None
) -> Role | None:
    """Return a member's role, or None when they may not look.

    Discord's owner is always owner. Then an assignment counts, then what the member's Discord roles stand
    for, then ADMINISTRATOR; each outweighs what comes after it, in both directions.
    """
    if owns_guild:
        return "owner"
    if assigned is not None or mapped is not None:
        return assigned or mapped
    return "admin" if discord_permissions & ADMINISTRATOR else None


def may(role: Role | None, permission: Permission) -> bool:
    """Return whether the role holds the permission; nobody without a role holds any."""
    return role is not None and permission in PERMISSIONS[role]
