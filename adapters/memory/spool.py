"""The twin of the spool on disk."""

from __future__ import annotations

import secrets

from domain.detection import SeenText
from domain.errors import StoreUnavailable
from domain.ports import SEEN_KEPT_MS, SpoolChanges, SpoolContents, SpooledBatch


class MemorySpool:
    """Implements :class:`domain.ports.Spool`; opened again, it is what a new process finds on disk.

    ``available = False`` makes every call but ``close`` raise. ``batches`` holds what is written.
    """

    def __init__(self) -> None:
        self.available = True
        self.batches: dict[int, tuple[SpooledBatch, bytes]] = {}
        self.alive_ms: int | None = None
        self.saved: bytes | None = None
        self.guilds: dict[int, bytes] = {}
        self.seen: dict[int, SeenText] = {}
        self.writes = 0
        self.spool_id = secrets.token_hex(8)

    async def open(self) -> SpoolContents:
        """See the port."""
        self._require()
        ordered = [self.batches[position][0] for position in sorted(self.batches)]
        return SpoolContents(
            tuple(ordered),
            self.alive_ms,
            self.saved,
            dict(self.guilds),
            tuple(self.seen.values()),
            self.spool_id,
        )

    async def write(self, changes: SpoolChanges) -> None:
        """See the port."""
        self._require()
        self.writes += 1
        for position in changes.removed:
            self.batches.pop(position, None)
        for batch, payload in changes.put:
            self.batches[batch.position] = (batch, payload)
        if changes.alive_ms is not None:
            self.alive_ms = changes.alive_ms
        if changes.saved is not None:
            self.saved = changes.saved
        for guild_id, known in changes.guilds.items():
            if known is None:
                self.guilds.pop(guild_id, None)
            else:
                self.guilds[guild_id] = known
        self.seen |= {each.message_id: each for each in changes.seen}
        newest_ms = max((each.ts_ms for each in changes.seen), default=0)
        self.seen = {
            message_id: each
            for message_id, each in self.seen.items()
            if each.ts_ms >= newest_ms - SEEN_KEPT_MS
        }

    async def read(self, position: int) -> bytes | None:
        """See the port."""
        self._require()
        found = self.batches.get(position)
        return found[1] if found else None

    async def close(self) -> None:
        """See the port."""

    def _require(self) -> None:
        if not self.available:
            raise StoreUnavailable("The spool cannot be used.")
