"""Which of the gateway's events are in batches, so that a later life neither misses one nor counts one twice.

A session is resumed behind its *position*: everything up to there is in a batch on disk or was acknowledged.
The position cannot pass an event that still waits in memory, while others behind it are in batches already.
Those are known by guild: a guild's events are batched in order, its counts too, each for themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from domain.ports import GatewaySession, PendingDeletion, Position, ShardState


class Mark(NamedTuple):
    """What waits because of one event of the gateway: an event of ours, or a count."""

    at: Position
    counted: bool


class Saved(msgspec.Struct, frozen=True, array_like=True):
    """What a life leaves for the next one."""

    shards: tuple[ShardState, ...] = ()
    batched: dict[int, Position] = {}
    """By guild: the last event that is in a batch, where that is behind its shard's position."""
    counted: dict[int, Position] = {}
    deletions: tuple[PendingDeletion, ...] = ()
    superseded_until: int = 0
    """Up to this position of the spool, what is only counted was counted by another life, or told as lost."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Saved).decode


class Coverage:
    """Notes what waits and what is batched. Holds little: what came in since the last write."""

    def __init__(self) -> None:
        self._waiting: dict[int, dict[Position, list[int]]] = {}
        """By shard, in the gateway's order: how many things wait because of an event, and its time."""
        self._sessions: dict[int, str] = {}
        """By shard: the session of its last event."""
        self._done: tuple[dict[int, Position], dict[int, Position]] = ({}, {})

    def load(self, saved: bytes | None) -> Saved:
        """Begin with what an earlier life saved; return that."""
        if saved is None:
            return Saved()
        try:
            known = _decode(saved)
        except msgspec.MsgspecError:  # written by another release: as if nothing had been saved
            return Saved()
        self._done = (dict(known.batched), dict(known.counted))
        return known

    def is_new(self, guild_id: int, mark: Mark) -> bool:
        """Return whether an event is in no batch yet; what is replayed may be."""
        done = self._done[mark.counted].get(guild_id)
        return done is None or done.session_id != mark.at.session_id or mark.at.sequence > done.sequence

    def waits(self, mark: Mark, ts_ms: int) -> None:
        """Note that something waits to be put into a batch."""
        self._sessions[mark.at.shard_id] = mark.at.session_id
        waiting = self._waiting.setdefault(mark.at.shard_id, {})
        if mark.at in waiting:
            waiting[mark.at][0] += 1
        else:
            waiting[mark.at] = [1, ts_ms]

    def is_batched(self, guild_id: int, mark: Mark) -> None:
        """Note that it is in a batch, which is written together with what ``save`` returns from now on."""
        done = self._done[mark.counted]
        before = done.get(guild_id)
        if before is None or before.session_id != mark.at.session_id or before.sequence < mark.at.sequence:
            done[guild_id] = mark.at
        waiting = self._waiting.get(mark.at.shard_id, {})
        if mark.at in waiting:
            waiting[mark.at][0] -= 1
            if not waiting[mark.at][0]:
                del waiting[mark.at]

    def save(
        self,
        shards: tuple[ShardState, ...],
        deletions: tuple[PendingDeletion, ...] = (),
        superseded_until: int = 0,
    ) -> tuple[bytes, int | None]:
        """Return what the next life needs, and until when this one covers everything."""
        safe = tuple(self._safe(shard) for shard in shards)
        positions = {
            shard.session.session_id: shard.session.sequence for shard in safe if shard.session is not None
        }
        for done in self._done:
            for guild_id in [guild for guild, at in done.items() if self._is_behind(at, positions)]:
                del done[guild_id]
        return _encode(Saved(safe, *self._done, deletions, superseded_until)), _heard_by_all(safe)

    def heard_ms(self, shards: tuple[ShardState, ...]) -> int | None:
        """Return until when everything that was heard is in a batch."""
        return _heard_by_all(tuple(self._safe(shard) for shard in shards))

    def _safe(self, shard: ShardState) -> ShardState:
        """Return a shard's state as of the oldest of its events that waits in memory."""
        first = next(iter(self._waiting.get(shard.shard_id, {}).items()), None)
        if first is None:
            return shard
        at, (_, ts_ms) = first
        heard_ms = None if shard.heard_ms is None else min(shard.heard_ms, ts_ms)
        session = shard.session
        if session is None or session.session_id != at.session_id:
            # It is of the session before: only a gap can tell that it is lost.
            return ShardState(shard.shard_id, heard_ms)
        safe = GatewaySession(session.session_id, session.resume_url, min(session.sequence, at.sequence - 1))
        return ShardState(shard.shard_id, heard_ms, safe)

    def _is_behind(self, at: Position, positions: dict[str, int]) -> bool:
        """Return whether an event will never be told again: its session is resumed behind it, or over."""
        if at.session_id in positions:
            return at.sequence <= positions[at.session_id]
        return self._sessions.get(at.shard_id) != at.session_id


def _heard_by_all(shards: tuple[ShardState, ...]) -> int | None:
    return min((shard.heard_ms for shard in shards if shard.heard_ms is not None), default=None)
