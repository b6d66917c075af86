"""What the gateway says against what an older list says, and what follows for a role."""

from __future__ import annotations

import pytest

from domain.authority import (
    LIST_MARGIN_MS,
    GuildAuthority,
    Judgement,
    MemberAuthority,
    asks_discord,
    judge,
    outweighs,
)
from domain.permissions import ADMINISTRATOR, Role
from domain.roles import GuildRoles, Member

GUILD, STAFF, ADMINS = 40, 71, 72
PLAIN = Member(7, GUILD, owns=False, discord_permissions=0, as_of_ms=1_000)
ADMIN = PLAIN._replace(discord_permissions=ADMINISTRATOR)
OWNER = PLAIN._replace(owns=True)
LEFT = MemberAuthority(GUILD, 7, 2_000, None)
STAYS = MemberAuthority(GUILD, 7, 2_000, frozenset({GUILD, STAFF}))
PROMOTED = MemberAuthority(GUILD, 7, 2_000, frozenset({GUILD, ADMINS}), administrator=True)
NO_RECORD = GuildRoles()
ASSIGNED = GuildRoles(assigned={7: "moderator"})
MAPPED = GuildRoles(mapped={STAFF: "viewer"})


@pytest.mark.parametrize("member", [PLAIN, ADMIN, OWNER])
@pytest.mark.parametrize("record", [NO_RECORD, ASSIGNED, MAPPED])
def test_who_left_has_no_role(member: Member, record: GuildRoles) -> None:
    """Whatever the list, an assignment or a mapping would give; nobody is asked about it."""
    assert judge(member, record, LEFT, None, None) == Judgement(known=True)
    assert not asks_discord(member, record, LEFT, None)


@pytest.mark.parametrize(
    ("member", "fact", "role"),
    [
        (ADMIN, None, "admin"),
        (ADMIN, STAYS, None),
        (PLAIN, PROMOTED, "admin"),
        (PLAIN, None, None),
        (OWNER, STAYS, "owner"),
    ],
)
def test_a_members_roles_outweigh_the_lists_permissions(
    member: Member, fact: MemberAuthority | None, role: Role | None
) -> None:
    """In both directions; the owner needs no role."""
    assert not asks_discord(member, NO_RECORD, fact, None)
    assert judge(member, NO_RECORD, fact, None, frozenset()).role == role


def test_a_role_that_loses_administrator_takes_it_from_who_has_it() -> None:
    """Who that is, Discord is asked, unless it was heard since, or no role has it any more."""
    guild = GuildAuthority(GUILD, 2_000, 1, frozenset({ADMINS}))
    assert asks_discord(ADMIN, NO_RECORD, None, guild)
    assert not judge(ADMIN, NO_RECORD, None, guild, None).known
    assert judge(ADMIN, NO_RECORD, None, guild, frozenset({GUILD, STAFF})).role is None
    assert judge(ADMIN, NO_RECORD, None, guild, frozenset({GUILD, ADMINS})).role == "admin"
    for settled in (PLAIN, OWNER):
        assert not asks_discord(settled, NO_RECORD, None, guild)
    assert not asks_discord(ADMIN, ASSIGNED, None, guild)
    earlier = MemberAuthority(GUILD, 7, 1_500, frozenset({GUILD, STAFF}), administrator=True)
    assert judge(ADMIN, NO_RECORD, earlier, guild, frozenset()).role is None
    later = MemberAuthority(GUILD, 7, 2_500, frozenset({GUILD, STAFF}), administrator=True)
    assert judge(ADMIN, NO_RECORD, later, guild, frozenset()).role == "admin"
    nobody = GuildAuthority(GUILD, 2_000, 1)
    assert not asks_discord(ADMIN, NO_RECORD, None, nobody)
    assert judge(ADMIN, NO_RECORD, None, nobody, frozenset()).role is None


def test_where_the_bot_is_no_longer_the_list_decides() -> None:
    """It hears nothing of the guild any more."""
    assert judge(ADMIN, NO_RECORD, None, GuildAuthority(GUILD, 2_000, None), frozenset()).role == "admin"


def test_unknown_roles_are_neither_a_role_nor_none() -> None:
    """Unless something else settles it."""
    assert asks_discord(PLAIN, MAPPED, None, None)
    assert not judge(PLAIN, MAPPED, None, None, None).known
    assert judge(PLAIN, MAPPED, None, None, frozenset({GUILD, STAFF})).role == "viewer"
    both = GuildRoles(assigned={7: "admin"}, mapped={STAFF: "viewer"})
    assert judge(PLAIN, both, None, None, None).role == "admin"


def test_a_list_that_is_clearly_newer_outweighs_what_was_heard() -> None:
    """Clocks differ a little, so a list of about the same time does not, nor one from the future."""
    now_ms = 60_000
    for as_of_ms, heard in (
        (1_000, True),
        (2_000 + LIST_MARGIN_MS - 1, True),
        (2_000 + LIST_MARGIN_MS, False),
        (now_ms + LIST_MARGIN_MS, False),
        (now_ms + LIST_MARGIN_MS + 1, True),
    ):
        assert outweighs(LEFT, PLAIN._replace(as_of_ms=as_of_ms), now_ms) == heard
