from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.ids import SLOTS, slot_of
from domain.placement import NOBODY, Placement, between, changed, may_be_host, place

hosts = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


def test_a_placement_never_changes() -> None:
    """Known owners, the same in every process and release."""
    owners = place(1, ["h0", "h1", "h2"]).owners
    assert [owners[slot] for slot in (0, 1, 2, 100, 4095)] == ["h1", "h2", "h1", "h0", "h2"]


@settings(max_examples=20, deadline=None)
@given(hosts, hosts)
def test_what_is_different_makes_one_placement_of_the_other(old: list[str], new: list[str]) -> None:
    """And of no third one anything."""
    before, after = place(1, old), place(3, new)
    assert changed(before, after).applied_to(before) == after
    assert changed(before, after).applied_to(place(2, old)) is None


def test_what_owns_nothing_can_be_no_host() -> None:
    """Neither the owner of slots on their way nor that of a single guild that is."""
    held = between(2, place(1, ["a", "b"], {1: "a"}), place(3, ["a", "b"], {1: "b"})).dedicated[1]
    assert not any(may_be_host(mark) for mark in (NOBODY, held))
    assert all(may_be_host(host_id) for host_id in ("h0", "0", "a-host-", "h" * 31))


@settings(max_examples=20, deadline=None)
@given(hosts, st.randoms())
def test_the_order_of_hosts_does_not_matter(names: list[str], chance: random.Random) -> None:
    """Nor does naming one twice."""
    shuffled = [*names, names[0]]
    chance.shuffle(shuffled)
    assert place(1, shuffled) == place(1, names)


@settings(max_examples=20, deadline=None)
@given(hosts)
def test_every_slot_has_one_owner(names: list[str]) -> None:
    """The hosts' slots are all slots, none of them twice."""
    placement = place(1, names)
    assert len(placement.owners) == SLOTS
    assert sorted(slot for name in set(names) for slot in placement.slots_of(name)) == list(range(SLOTS))
    assert slot_of(77) in placement.slots_of(placement.owner_of(77))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 15])
def test_a_new_host_takes_its_share_and_nothing_else_moves(count: int) -> None:
    """About one slot in n moves, and every one that moves, moves to the new host; it leaves as it came."""
    before, after = (place(1, [f"h{n}" for n in range(size)]).owners for size in (count, count + 1))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {f"h{count}"}
    assert 0.8 < len(moved) / (SLOTS / (count + 1)) < 1.2


def test_shares_are_even() -> None:
    """Within a fifth of each other's."""
    counts = Counter(place(1, [f"h{n}" for n in range(8)]).owners)
    assert min(counts.values()) > 0.8 * SLOTS / 8
    assert max(counts.values()) < 1.2 * SLOTS / 8


def test_nobody_is_no_placement() -> None:
    """Without hosts there is nothing to place on."""
    with pytest.raises(ValueError, match="not dedicated"):
        place(1, [])
    with pytest.raises(ValueError, match="not dedicated"):
        place(1, ["h0"], {1: "h0"})


def test_a_dedicated_host_has_its_guilds_and_nothing_else() -> None:
    """The guild goes to it, its slot does not."""
    placement = place(1, ["h0", "h1", "own"], {77: "own"})
    assert placement.owner_of(77) == "own"
    assert placement.owners == place(1, ["h0", "h1"]).owners
    assert placement.slots_of("own") == frozenset()


NAMES = [f"h{n}" for n in range(4)]
GUILDS = st.integers(1, 40)


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Draw a placement of a few hosts, of which some are dedicated."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    own = draw(st.lists(st.sampled_from(names), max_size=len(names) - 1, unique=True))
    dedicated = draw(st.dictionaries(GUILDS, st.sampled_from(own), max_size=6)) if own else {}
    return place(1, names, dedicated)


@settings(max_examples=60, deadline=None)
@given(placements(), placements())
def test_in_between_what_moves_is_nobodys_and_what_stays_stays(old: Placement, new: Placement) -> None:
    """Slot by slot and guild by guild, dedicated or not."""
    middle = between(7, old, new)
    assert middle.version == 7
    for a, b, owner in zip(old.owners, new.owners, middle.owners, strict=True):
        assert owner == (a if a == b else NOBODY)
    for guild_id in range(1, 41):
        before, after, owner = (each.owner_of(guild_id) for each in (old, new, middle))
        if before == after:
            assert owner == before
        else:
            assert owner not in NAMES


@settings(max_examples=20, deadline=None)
@given(placements())
def test_between_the_same_nothing_moves(placement: Placement) -> None:
    """But the version."""
    assert between(1, placement, placement) == placement
