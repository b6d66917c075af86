"""Which guilds a relay watches: what concerns the watched ones alone need not look at all that live."""

from __future__ import annotations


class WatchIndex:
    """Owns the ids of watched guilds by relay. A guild that was deactivated is named until its relay ends."""

    def __init__(self) -> None:
        self._by_relay: dict[str, set[int]] = {}

    def add(self, relay_id: str, guild_id: int) -> None:
        """Note that a relay watches a guild."""
        self._by_relay.setdefault(relay_id, set()).add(guild_id)

    def discard(self, relay_id: str, guild_id: int) -> None:
        """Note that it does no more."""
        guild_ids = self._by_relay.get(relay_id, set())
        guild_ids.discard(guild_id)
        if not guild_ids:
            self._by_relay.pop(relay_id, None)

    def pop(self, relay_id: str) -> set[int]:
        """Forget a relay; return what it watched."""
        return self._by_relay.pop(relay_id, set())

    def guild_ids(self) -> set[int]:
        """Return every guild that some relay watches."""
        return set().union(*self._by_relay.values())
