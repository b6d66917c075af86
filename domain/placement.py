"""Which host owns which slot: rendezvous hashing, so a host that joins takes about 1/n of the slots."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from domain.ids import SLOTS, slot_of


class Placement(msgspec.Struct, frozen=True):
    """One version of the map from slots to hosts."""

    version: int
    owners: tuple[str, ...]
    """The owning host's id, by slot; always ``SLOTS`` long."""

    def owner_of(self, guild_id: int) -> str:
        """Return the id of the host that owns the guild."""
        return self.owners[slot_of(guild_id)]

    def slots_of(self, host_id: str) -> frozenset[int]:
        """Return the slots that a host owns."""
        return frozenset(slot for slot, owner in enumerate(self.owners) if owner == host_id)


def place(version: int, host_ids: Iterable[str]) -> Placement:
    """Return the placement for these hosts; the order in which they are named does not matter."""
    hosts = sorted(set(host_ids))
    if not hosts:
        message = "a placement needs at least one host"
        raise ValueError(message)
    return Placement(
        version, tuple(max(hosts, key=lambda host: _weight(slot, host)) for slot in range(SLOTS))
    )


def _weight(slot: int, host_id: str) -> bytes:
    return hashlib.blake2b(f"{slot}:{host_id}".encode(), digest_size=8).digest()
