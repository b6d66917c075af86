"""The twin of Redis as far as it counts sockets over all relays."""

from __future__ import annotations

from collections import defaultdict


class SharedSockets:
    """What all relays told. ``forget(relay)`` is what happens to one that says nothing for ten seconds."""

    def __init__(self) -> None:
        self.by_user: defaultdict[int, dict[str, int]] = defaultdict(dict)
        self.living: set[str] = set()
        self.available = True

    def forget(self, relay: str) -> None:
        """Let a relay's sockets count no longer."""
        self.living.discard(relay)


class MemoryOpenSockets:
    """Implements :class:`domain.socket_limits.OpenSockets` for one relay."""

    def __init__(self, shared: SharedSockets, relay: str) -> None:
        self._shared = shared
        self._relay = relay

    async def enter(self, user_id: int, here: int, most: int) -> bool:
        """See the port."""
        if not self._shared.available:
            return True
        sockets = self._shared.by_user[user_id]
        for relay in [relay for relay in sockets if relay not in self._shared.living | {self._relay}]:
            del sockets[relay]
        if sum(count for relay, count in sockets.items() if relay != self._relay) + here > most:
            return False
        sockets[self._relay] = here
        return True

    async def tell(self, user_id: int, here: int) -> None:
        """See the port."""
        if not self._shared.available:
            return
        if here:
            self._shared.by_user[user_id][self._relay] = here
        else:
            self._shared.by_user[user_id].pop(self._relay, None)

    async def live(self) -> bool:
        """See the port."""
        if not self._shared.available:
            return False
        known = self._relay in self._shared.living
        self._shared.living.add(self._relay)
        return known

    async def close(self) -> None:
        """See the port."""
        self._shared.living.discard(self._relay)
