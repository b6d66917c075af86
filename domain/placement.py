"""Which host owns which guild.

Slots go by rendezvous hashing, so that a host that joins takes about 1/n of them; a guild that is too hot
for neighbours can have a host of its own.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Generator, Iterable, Mapping
from functools import lru_cache

import msgspec

from domain.ids import SLOTS, slot_of

NOBODY = ""
"""Owner of a slot that is on its way from one host to another: every host refuses it."""

SLOTS_A_STEP = 512

PLACEMENTS_KEPT = 100
"""So many of the latest are kept by the store, for whoever has to find out later where a guild was."""

_HOST_ID = re.compile("[a-z0-9][a-z0-9-]{0,30}")


class Placement(msgspec.Struct, frozen=True):
    """One version of the map from guilds to hosts."""

    version: int
    owners: tuple[str, ...]
    """The owning host's id, by slot; always ``SLOTS`` long."""
    dedicated: dict[int, str] = {}
    """Guilds with a host of their own, which owns no slot."""
    director: int = 0
    """The incarnation of the Director that made it: hosts and the store take it from no older one."""

    def owner_of(self, guild_id: int) -> str:
        """Return the id of the host that owns the guild, or ``NOBODY``."""
        return self.dedicated.get(guild_id) or self.owners[slot_of(guild_id)]

    def gives(self, host_id: str) -> tuple[frozenset[int], dict[int, str]]:
        """Return all that decides which guilds are a host's: its slots, and the guilds apart from slots."""
        return self.slots_of(host_id), self.dedicated

    def gives_the_same(self, host_id: str, other: Placement) -> bool:
        """Whether another placement gives a host just the same guilds, by the same way."""
        same = self.owners == other.owners and self.dedicated == other.dedicated  # by far the quickest
        return same or self.gives(host_id) == other.gives(host_id)

    def slots_of(self, host_id: str) -> frozenset[int]:
        """Return the slots that a host owns."""
        return frozenset(slot for slot, owner in enumerate(self.owners) if owner == host_id)


class PlacementChange(msgspec.Struct, frozen=True):
    """What is different in a placement from another: a host that joins 255 others moves 16 of 4,096 slots."""

    base: tuple[int, int]
    """(Director, version) of the placement that it changes."""
    director: int
    version: int
    owners: dict[int, str]
    dedicated: dict[int, str]
    """All of them; they are few."""

    def applied_to(self, old: Placement) -> Placement | None:
        """Return the new placement, or None when ``old`` is not the one that it changes."""
        if (old.director, old.version) != self.base:
            return None
        owners = list(old.owners)
        for slot, owner in self.owners.items():
            owners[slot] = owner
        return Placement(self.version, tuple(owners), self.dedicated, self.director)


def changed(old: Placement, new: Placement) -> PlacementChange:
    """Return what is to be told to somebody who knows ``old``."""
    owners = {slot: b for slot, (a, b) in enumerate(zip(old.owners, new.owners, strict=True)) if a != b}
    return PlacementChange((old.director, old.version), new.director, new.version, owners, new.dedicated)


def may_be_host(host_id: str) -> bool:
    """Whether a host can have this id; the marks of those who own nothing are none."""
    return _HOST_ID.fullmatch(host_id) is not None


def place(version: int, host_ids: Iterable[str], dedicated: Mapping[int, str] | None = None) -> Placement:
    """Return the placement for these hosts; the order in which they are named does not matter."""
    steps = placing(version, host_ids, dedicated)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            placement: Placement = done.value
            return placement


def placing(
    version: int, host_ids: Iterable[str], dedicated: Mapping[int, str] | None = None
) -> Generator[None, None, Placement]:
    """Do as ``place`` in steps of some milliseconds: whoever has a loop lets others have their turn."""
    own = dict(dedicated or {})
    shared = sorted(set(host_ids) - set(own.values()))
    if not shared:
        message = "a placement needs a host that is not dedicated"
        raise ValueError(message)
    of_hosts = []
    for host_id in shared:
        of_hosts.append(weigh(host_id))
        yield
    owners: list[str] = []
    for start in range(0, SLOTS, SLOTS_A_STEP):
        slots = [weights[start : start + SLOTS_A_STEP] for weights in of_hosts]
        owners += [shared[weights.index(max(weights))] for weights in zip(*slots, strict=True)]
        yield
    return Placement(version, tuple(owners), own)


def between(version: int, old: Placement, new: Placement) -> Placement:
    """Return the placement in which what moves from ``old`` to ``new`` belongs to nobody.

    Told to every host before the new one, it makes sure that an old owner has let go before the new
    owner begins.
    """
    owners = tuple(a if a == b else NOBODY for a, b in zip(old.owners, new.owners, strict=True))
    # A guild may move while its slot stays, and stay while its slot moves.
    apart = {guild_id: new.owner_of(guild_id) for guild_id in old.dedicated.keys() | new.dedicated.keys()}
    dedicated = {
        guild_id: owner if owner == old.owner_of(guild_id) else _HELD for guild_id, owner in apart.items()
    }
    return Placement(version, owners, dedicated)


_HELD = "-"
"""Like ``NOBODY``, for a single guild; no host has this id."""


@lru_cache(maxsize=1_024)
def weigh(host_id: str) -> array[int]:
    """Return what a host weighs in each slot: hashed once, or each placement would hash (hosts × slots)."""
    digests = (hashlib.blake2b(f"{slot}:{host_id}".encode(), digest_size=8) for slot in range(SLOTS))
    return array("Q", [int.from_bytes(digest.digest(), "big") for digest in digests])
