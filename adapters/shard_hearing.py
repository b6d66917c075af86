"""What a bot's shards have heard, and which times they missed for good. No I/O, no clock."""

from __future__ import annotations

import math

from domain.events import Gap


class ShardHearing:
    """Notes when each shard last heard something, and what was in between when it hears again.

    A session that is resumed missed nothing, because Discord replays it. A new one missed everything since
    the old one last heard, until Discord has described its guilds.
    """

    def __init__(self) -> None:
        self._heard_ms: dict[int, int] = {}
        self._cut_off_since_ms: dict[int, int] = {}
        """By shard that is cut off: when it last heard. A resume may still bring what was since."""
        self._missed_since_ms: dict[int, int] = {}
        """By shard with a new session: when it last heard in the old one. Nothing brings what was since."""
        self._pulses: dict[int, tuple[float, int]] = {}
        """By shard: its latency at the last look, and when that was."""

    def heard(self, shard_id: int, at_ms: int) -> None:
        """Note that something came in, then or later."""
        self._heard_ms[shard_id] = max(at_ms, self._heard_ms.get(shard_id, at_ms))

    def was_heard(self, shard_id: int, until_ms: int) -> None:
        """Note until when an earlier life heard a shard; nothing is heard of it now."""
        self._heard_ms[shard_id] = self._cut_off_since_ms[shard_id] = until_ms

    def pulse(self, shard_id: int, latency_s: float, at_ms: int) -> None:
        """Note how long the last answer to a heartbeat took: infinitely, on a connection without one.

        Where nothing happens these answers are all that comes in, and no event tells of them. One that took
        another time than the one before came after the last look.
        """
        before_s, looked_ms = self._pulses.get(shard_id, (latency_s, at_ms))
        self._pulses[shard_id] = latency_s, at_ms
        if latency_s != before_s and latency_s < math.inf:
            self.heard(shard_id, looked_ms)

    def cut_off(self, shard_id: int) -> None:
        """Note that the connection is gone, or could not be made."""
        if shard_id in self._heard_ms:
            self._cut_off_since_ms.setdefault(shard_id, self._heard_ms[shard_id])

    def resumed(self, shard_id: int, at_ms: int) -> None:
        """Note that everything was replayed."""
        self._cut_off_since_ms.pop(shard_id, None)
        self.heard(shard_id, at_ms)

    def began_anew(self, shard_id: int, at_ms: int) -> None:
        """Note that a new session began; its guilds are not described yet."""
        if shard_id in self._cut_off_since_ms:
            self._missed_since_ms.setdefault(shard_id, self._cut_off_since_ms.pop(shard_id))
        self.heard(shard_id, at_ms)

    def described(self, shard_id: int, at_ms: int) -> Gap | None:
        """Note that the guilds are described; return the time that the shard missed, if there is one."""
        since_ms = self._missed_since_ms.pop(shard_id, None)
        return None if since_ms is None else Gap(since_ms, max(since_ms, at_ms), 0, "blind")

    def is_missing(self, shard_id: int) -> bool:
        """Return whether a shard missed a time for good that was not told yet."""
        return shard_id in self._missed_since_ms

    def until_ms(self, shard_id: int) -> int | None:
        """Return until when a shard has heard everything; None if it never heard anything."""
        times = [
            known[shard_id]
            for known in (self._heard_ms, self._cut_off_since_ms, self._missed_since_ms)
            if shard_id in known
        ]
        return min(times, default=None)
