"""The book of what was posted and what was deleted, with the label each message was made with."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One message of the ledger; `label` names its offence, None means it is clean."""

    seq: int
    message_id: int
    guild_id: int
    channel_id: int
    author_id: int
    label: str | None
    ts: int

    def payload(self) -> dict[str, Any]:
        """Return the entry as JSON, ids as strings."""
        return {
            "seq": self.seq,
            "message_id": str(self.message_id),
            "guild_id": str(self.guild_id),
            "channel_id": str(self.channel_id),
            "author_id": str(self.author_id),
            "label": self.label,
            "ts": self.ts,
        }


class Page(NamedTuple):
    """What a reader gets: entries, where to go on, and how many were already overwritten."""

    entries: list[Entry]
    next: int
    lost: int


class Ledger:
    """A bounded ring of entries numbered from 1."""

    def __init__(self, capacity: int = 200_000) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)
        self.seq = 0

    def add(
        self, *, message_id: int, guild_id: int, channel_id: int, author_id: int, label: str | None, ts: int
    ) -> None:
        """Append an entry; the oldest falls out when the ring is full."""
        self.seq += 1
        self._entries.append(Entry(self.seq, message_id, guild_id, channel_id, author_id, label, ts))

    def since(self, seq: int, limit: int) -> Page:
        """Return up to `limit` entries numbered above `seq`, oldest first."""
        first = self._entries[0].seq if self._entries else self.seq + 1
        start = max(0, seq + 1 - first)
        entries = list(islice(self._entries, start, start + limit))
        lost = max(0, first - seq - 1)
        return Page(entries, entries[-1].seq if entries else max(seq, first - 1), lost)
