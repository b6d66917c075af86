from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from domain.permissions import ADMINISTRATOR, PERMISSIONS, ROLES, Permission, Role, may, resolve_role

# Owner, admin, moderator, viewer.
TABLE = {
    "view_dashboard": "✓✓✓✓",
    "view_violations": "✓✓✓✓",
    "view_warnings": "✓✓✓✓",
    "manage_violations": "✓✓✓–",
    "manage_warnings": "✓✓✓–",
    "export_data": "✓✓✓–",
    "view_config": "✓✓–✓",
    "view_rules": "✓✓–✓",
    "update_config": "✓✓––",
    "update_rules": "✓✓––",
    "delete_rules": "✓–––",
    "manage_roles": "✓–––",
}
PAGE = Path(__file__).parents[3] / "docs" / "topics" / "roles.md"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("permission", get_args(Permission))
def test_the_table(role: Role, permission: Permission) -> None:
    """Each role holds what the table says, and nothing else."""
    assert may(role, permission) is (TABLE[permission][ROLES.index(role)] == "✓")


def test_the_table_is_whole() -> None:
    """Every role and every permission stands in it."""
    assert set(TABLE) == set(get_args(Permission))
    assert set(ROLES) == set(get_args(Role)) == set(PERMISSIONS)


def test_the_documentation_prints_the_table() -> None:
    """Row by row, in the same order."""
    rows = re.findall(r"^\| `(\w+)` \| (.) \| (.) \| (.) \| (.) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert {name: "".join(marks) for name, *marks in rows} == TABLE
    assert [name for name, *_ in rows] == list(get_args(Permission))


@pytest.mark.parametrize("permission", get_args(Permission))
def test_without_a_role_nothing_is_allowed(permission: Permission) -> None:
    """Not even looking."""
    assert not may(None, permission)


@pytest.mark.parametrize(
    ("owns", "bits", "assigned", "mapped", "role"),
    [
        (True, 0, None, None, "owner"),
        (True, 0, "viewer", "viewer", "owner"),  # Discord's owner cannot be made less
        (False, ADMINISTRATOR, None, None, "admin"),
        (False, ADMINISTRATOR | 1, None, None, "admin"),
        (False, ADMINISTRATOR, "viewer", None, "viewer"),  # an assignment outweighs ADMINISTRATOR
        (False, ADMINISTRATOR, None, "viewer", "viewer"),  # and so does a mapping
        (False, 0, "admin", None, "admin"),  # in both directions
        (False, 0, None, "owner", "owner"),
        (False, 0, "viewer", "owner", "viewer"),  # a person's own assignment outweighs their Discord roles
        (False, ADMINISTRATOR, "moderator", "viewer", "moderator"),
        (False, ~ADMINISTRATOR & 0xFFFF, None, None, None),  # every bit but that one
        (False, 0, None, None, None),
    ],
)
def test_how_a_role_comes_about(
    *, owns: bool, bits: int, assigned: Role | None, mapped: Role | None, role: Role | None
) -> None:
    """Owner on Discord, then assignment, then mapping, then ADMINISTRATOR, then nothing."""
    found = resolve_role(owns_guild=owns, discord_permissions=bits, assigned=assigned, mapped=mapped)
    assert found == role
