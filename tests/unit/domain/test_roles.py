"""What no change of roles may bring about, whatever is on record."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.audit import AuditEntry
from domain.errors import DiscordOwnerStays, GuildhallError, LastOwner, MayNotChangeRoles
from domain.permissions import ROLES, Role
from domain.roles import (
    Assign,
    Author,
    GuildRoles,
    MapRole,
    Member,
    Revoke,
    RoleChange,
    UnmapRole,
    decide,
)

GUILD = 40
people, discord_roles, roles = st.integers(1, 4), st.integers(70, 72), st.sampled_from(ROLES)
guilds = st.builds(
    GuildRoles,
    discord_owner_id=st.none() | people,
    assigned=st.dictionaries(people, roles),
    mapped=st.dictionaries(discord_roles, roles),
)
members = st.builds(
    Member,
    user_id=people,
    guild_id=st.just(GUILD),
    owns=st.booleans(),
    discord_permissions=st.sampled_from([0, 8]),
)
authors = st.builds(Author, member=members, discord_roles=st.frozensets(discord_roles))
changes: st.SearchStrategy[RoleChange] = st.one_of(
    st.builds(Assign, people, roles),
    st.builds(Revoke, people),
    st.builds(MapRole, discord_roles, roles),
    st.builds(UnmapRole, discord_roles),
)


def outcome(guild: GuildRoles, author: Author, change: RoleChange) -> AuditEntry | GuildhallError:
    """Return what is decided, also when that is a refusal."""
    try:
        return decide(guild, author, change)
    except GuildhallError as refusal:
        return refusal


@given(guilds, authors, changes)
def test_nobody_but_an_owner_changes_anything(guild: GuildRoles, author: Author, change: RoleChange) -> None:
    """So nobody raises themselves: whoever may, cannot become more than they are."""
    owner = guild.role_of(author.member, author.discord_roles) == "owner"
    assert isinstance(outcome(guild, author, change), MayNotChangeRoles) is not owner


@given(guilds, authors, changes)
def test_what_is_made_names_what_was_before(guild: GuildRoles, author: Author, change: RoleChange) -> None:
    """And leaves what is on record alone: it is for the store to write."""
    assigned, mapped = dict(guild.assigned), dict(guild.mapped)
    entry = outcome(guild, author, change)
    assert (guild.assigned, guild.mapped) == (assigned, mapped)
    if isinstance(entry, GuildhallError):
        return
    table: dict[int, Role] = guild.assigned if isinstance(change, Assign | Revoke) else guild.mapped
    assert entry.target is not None
    assert entry.details.get("was") == table.get(int(entry.target))
    assert entry.details.get("role") == getattr(change, "role", None)
    assert (entry.guild_id, entry.actor_id) == (GUILD, author.member.user_id)


@given(guilds, authors, people, roles)
def test_discords_owner_is_never_named_anything(
    guild: GuildRoles, author: Author, user_id: int, role: Role
) -> None:
    """Whether the gateway says who it is, or they themselves."""
    known = guild.discord_owner_id
    owner = known == user_id if known is not None else author.member.owns and author.member.user_id == user_id
    if not owner or guild.role_of(author.member, author.discord_roles) != "owner":
        return
    changes: list[RoleChange] = [Assign(user_id, role), Revoke(user_id)]
    for change in changes:
        with pytest.raises(DiscordOwnerStays):
            decide(guild, author, change)


def test_an_owner_may_become_less_when_there_is_another() -> None:
    """By their own hand; the last one may not."""
    author = Author(Member(1, GUILD, owns=False, discord_permissions=0))
    two = GuildRoles(assigned={1: "owner", 2: "owner"})
    assert decide(two, author, Assign(1, "viewer")).details == {"role": "viewer", "was": "owner"}
    one = GuildRoles(assigned={1: "owner", 2: "admin"})
    with pytest.raises(LastOwner):
        decide(one, author, Assign(1, "viewer"))
    somebody = GuildRoles(discord_owner_id=9, assigned={1: "owner"})
    assert decide(somebody, author, Revoke(1)).action == "role.revoked"
