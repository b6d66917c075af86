"""The twin of announcements to those who watch a guild."""

from __future__ import annotations

from typing import Any, NamedTuple


class Announced(NamedTuple):
    """What was announced of a guild."""

    guild_id: int
    kind: str
    data: dict[str, Any]


class MemoryAnnouncer:
    """Implements :class:`domain.ports.Announcer`: it remembers what it was told."""

    def __init__(self) -> None:
        self.announced: list[Announced] = []

    async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        """See the port."""
        self.announced.append(Announced(guild_id, kind, data))
