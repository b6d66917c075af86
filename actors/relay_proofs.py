"""Which relays are still there: asked when it matters, because the end of a process may be noticed late.

A relay that was killed stays in a host's books until Ray tells of its end, which takes ten seconds and more.
So a person who comes back meets their own last sockets, and may find no room.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

PROVE_WITHIN_S = 2.0
"""A relay that has not answered by then is gone, or as good as gone."""
PROOF_HOLDS_S = 2.0
"""So a person who keeps asking for one socket too many costs a question every two seconds."""


class RelayProofs:
    """Owns the questions that are under way, and the last answers."""

    def __init__(self, ask: Callable[[str], None], monotonic_s: Callable[[], float] = time.monotonic) -> None:
        """Take what sends the question to a relay; the relay answers by ``answered``."""
        self._ask = ask
        self._monotonic_s = monotonic_s
        self._answered_s: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Event] = {}

    async def silent(self, relay_ids: Collection[str]) -> set[str]:
        """Return those relays that do not say in time that they are there."""
        since_s = self._monotonic_s() - PROOF_HOLDS_S
        self._answered_s = {who: at for who, at in self._answered_s.items() if at > since_s}
        asked = {relay_id for relay_id in relay_ids if relay_id not in self._answered_s}
        if not asked:
            return set()
        events = []
        for relay_id in asked:
            event = self._waiting.get(relay_id)
            if event is None:
                event = self._waiting[relay_id] = asyncio.Event()
                self._ask(relay_id)
            events.append(event)
        try:
            async with asyncio.timeout(PROVE_WITHIN_S):
                await asyncio.gather(*(event.wait() for event in events))
        except TimeoutError:
            pass
        finally:
            for relay_id in asked:
                self._waiting.pop(relay_id, None)
        return {relay_id for relay_id in asked if relay_id not in self._answered_s}

    def answered(self, relay_id: str) -> None:
        """Know that a relay is there."""
        self._answered_s[relay_id] = self._monotonic_s()
        if (event := self._waiting.get(relay_id)) is not None:
            event.set()
