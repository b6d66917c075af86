"""How long what Discord said of a guild's members holds: while every change of it would have been heard.

Discord tells a bot of every member that changes. So an answer of its REST API stays good without being asked
for again while the shard of that guild hears the gateway. After a time in which something may have been
missed, nothing that was asked for before it is known to hold.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
from cachetools import LRUCache

LEASE_S = 150.0
"""A shard that was silent for longer hears nothing. Where nothing happens, all that it hears are answers to
its heartbeats, one in 41 seconds, and two looks are needed to tell them apart."""

MAX_GUILDS = 20_000


class ShardHeard(msgspec.Struct, frozen=True):
    """A shard that has told everything that it heard."""

    shard_id: int
    shard_count: int
    life: str
    """The session at Discord and who listens to it. Between two lives something may have been missed."""
    silent_s: float
    """For how long it has heard nothing."""


class _Shard(NamedTuple):
    life: str
    since_s: float
    until_s: float


class GatewayHearing:
    """From when until when each shard has heard everything, by the clock of who is told."""

    def __init__(self) -> None:
        self._count = 0
        self._shards: dict[int, _Shard] = {}
        self._missed_s: LRUCache[int, float] = LRUCache(MAX_GUILDS)

    def heard(self, shards: Collection[ShardHeard], now_s: float) -> None:
        """Take what runners say of their shards. All notices that these had heard were told before it."""
        for shard in shards:
            if shard.shard_count != self._count:  # guilds are other shards' from here on
                self._count, self._shards = shard.shard_count, {}
            before = self._shards.get(shard.shard_id)
            goes_on = before is not None and before.life == shard.life
            since_s = before.since_s if before is not None and goes_on else now_s
            until_s = max(now_s - max(shard.silent_s, 0.0), since_s)
            self._shards[shard.shard_id] = _Shard(shard.life, since_s, until_s)

    def missed(self, guild_id: int, now_s: float) -> None:
        """Note that changes in a guild may not have been heard until now."""
        self._missed_s[guild_id] = now_s

    def good_s(self, guild_id: int, asked_s: float, now_s: float) -> float:
        """Return until when an answer held for sure that Discord was asked for at ``asked_s``."""
        shard = self._shards.get((guild_id >> 22) % self._count) if self._count else None
        if shard is None or asked_s < max(shard.since_s, self._missed_s.get(guild_id, shard.since_s)):
            return asked_s
        return now_s if now_s - shard.until_s <= LEASE_S else max(asked_s, shard.until_s)
