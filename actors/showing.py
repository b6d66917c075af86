"""From what guilds publish to the frames that relays carry on: one frame a guild and tick.

An event that comes alone goes at once. After that, what a guild says within a tick waits for its end and
shares a frame: each socket then costs one write for all of it, and each relay one list.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

from actors.fan_out import FanOut, Item
from actors.guild import GuildActor


class Showing:
    """Owns what was published and is not on its way to the relays yet."""

    def __init__(self, fan_out: FanOut[Item], tick_s: float) -> None:
        self._fan_out = fan_out
        self._tick_s = tick_s
        """With 0 nothing waits, and no two events share a frame."""
        self._due: dict[GuildActor, list[bytes]] = {}
        self._quiet_until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def show(self, events: Iterable[tuple[GuildActor, bytes]]) -> None:
        """Send events that their guilds have just published, now or when this tick is over."""
        for guild, event in events:
            if guild.watched:
                self._due.setdefault(guild, []).append(event)
        if not self._due or self._timer is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._quiet_until_s:
            self.flush()
        else:
            self._timer = loop.call_at(self._quiet_until_s, self.flush)

    def flush(self) -> None:
        """Send all that waits: once a relay, never once a socket."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due, self._due = self._due, {}
        if due:
            self._quiet_until_s = asyncio.get_running_loop().time() + self._tick_s
            self._send(due)

    def flush_guild(self, guild: GuildActor) -> None:
        """Send what waits of one guild: who begins to watch it now begins behind that."""
        events = self._due.pop(guild, None)
        if events:
            self._send({guild: events})

    def _send(self, due: dict[GuildActor, list[bytes]]) -> None:
        by_relay: defaultdict[str, list[Item]] = defaultdict(list)
        for guild, events in due.items():
            items = self._items(guild, events)
            for relay_id in guild.relays:
                by_relay[relay_id].extend(items)
        for relay_id, theirs in by_relay.items():
            self._fan_out.send(relay_id, theirs, sum(len(item.frame) for item in theirs))

    def _items(self, guild: GuildActor, events: list[bytes]) -> list[Item]:
        guild_id, epoch, last = guild.state.guild_id, guild.epoch, guild.offset
        if self._tick_s:
            return [Item(guild_id, epoch, last, guild.frame(events))]
        first = last - len(events) + 1
        return [Item(guild_id, epoch, first + n, guild.frame([event])) for n, event in enumerate(events)]
