"""A moderator's browser: follows guilds as ``web/src`` does, and complains where the protocol is broken."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from adapters.memory import MemoryDatabase
from domain.roles import Member
from serve_app.frame import Frame
from serve_app.hub import Hub
from serve_app.socket import Socket
from tests.simulation.network import Network
from tests.simulation.virtual_loop import Process


class Following:
    """What a browser knows of one guild."""

    def __init__(self, guild_id: int) -> None:
        self.guild_id = guild_id
        self.position: tuple[int, int] | None = None
        self.violations: dict[str, str] = {}
        """Ids and how their actions ended."""
        self.since_subscribed: list[tuple[str, str]] | None = None
        """Events that came while a reload is under way; None when there is none."""
        self.loads = 0
        self.promised: int | None = None
        """The offset to which the very next frame must lead, after an answer that it is all recovered."""


class _Wire:
    """Carries one life of a browser's socket; the network takes whatever comes."""

    way = "simulated"

    def __init__(self, browser: Browser, life: int) -> None:
        self.ready = True
        self.on_ready: Callable[[], None] | None = None
        self._browser, self._life = browser, life

    def write(self, frame: Frame) -> None:
        self._browser.carry(self._life, frame)

    def close(self, code: int, reason: str) -> None:
        del code, reason
        self.ready = False
        self._browser.carry(self._life, None)


class Browser:
    """One tab, over all its sockets."""

    def __init__(
        self,
        *,
        number: int,
        guilds: list[int],
        network: Network,
        database: MemoryDatabase,
        chance: random.Random,
        wrong: list[str],
    ) -> None:
        self.following = {guild_id: Following(guild_id) for guild_id in guilds}
        self.relay: tuple[Process, Hub] | None = None
        self._member = Member(100 + number, 0, owns=True, discord_permissions=0)
        self._network = network
        self._database = database
        self._chance = chance
        self._wrong = wrong
        self._socket: Socket | None = None
        self._last = 0.0
        self._life = 0

    def connect(self, process: Process, hub: Hub) -> None:
        """Open a socket and resume every guild."""
        self.relay = process, hub
        for following in self.following.values():
            following.promised = None
        self._life += 1
        life = self._life

        def opened() -> None:
            self._socket = Socket(self._member.user_id, "", _Wire(self, life))
            hub.enter(self._socket)

        process.run(opened)
        process.on_death.append(lambda: self._network.later(0.3, self._closed, life))
        for guild_id in self.following:
            self._subscribe(guild_id)

    def disconnect(self) -> None:
        """Lose the socket, as a laptop that sleeps does."""
        if self.relay is None or self._socket is None:
            return
        process, hub = self.relay
        if not process.dead:
            process.run(hub.leave, self._socket)
        self._closed(self._life)

    def agrees(self) -> str | None:
        """Return what it shows otherwise than the store, if anything."""
        for guild_id, following in self.following.items():
            stored = self._stored(guild_id)
            if following.violations != stored:
                missing = stored.keys() - following.violations.keys()
                more = following.violations.keys() - stored.keys()
                return f"guild {guild_id}: {len(missing)} missing, {len(more)} too many of {len(stored)}"
        return None

    def stands_at(self, positions: dict[int, tuple[int, int]]) -> str | None:
        """Return a guild of which it has not heard all, by the positions of the guilds that live, if any."""
        for guild_id, following in self.following.items():
            if following.position != positions.get(guild_id):
                return f"guild {guild_id} at {following.position}, not {positions.get(guild_id)}"
        return None

    def _closed(self, life: int) -> None:
        if life == self._life:
            self._life += 1
            self._socket = None
            self.relay = None

    def carry(self, life: int, message: Frame | None) -> None:
        """Let a frame be on its way; None is the close."""
        loop = self._network.loop
        self._last = max(loop.time() + self._network.delay(), self._last + 1e-5)
        self._network.later(self._last - loop.time(), self._receive, life, message)

    def _subscribe(self, guild_id: int) -> None:
        if self.relay is None or self._socket is None:
            return
        process, hub = self.relay
        if not process.dead and self._socket.closed_with is None:
            member = self._member._replace(guild_id=guild_id)
            process.run(hub.subscribe, self._socket, member, self.following[guild_id].position)

    def _receive(self, life: int, message: Frame | None) -> None:
        if life != self._life:
            return
        if message is None:
            process, hub = self.relay or (None, None)
            if process is not None and hub is not None and self._socket is not None and not process.dead:
                process.run(hub.leave, self._socket)
            self._closed(life)
            return
        for text in message.texts:
            self._take(life, json.loads(text))

    def _take(self, life: int, frame: dict[str, Any]) -> None:
        following = self.following[int(frame["guild_id"])]
        if frame["op"] == "subscribed":
            self._subscribed(following, frame)
        elif frame["op"] == "events":
            self._events(following, frame)
        else:
            self._network.later(0.5, self._again, life, following.guild_id)

    def _again(self, life: int, guild_id: int) -> None:
        if life == self._life:
            self._subscribe(guild_id)

    def _subscribed(self, following: Following, frame: dict[str, Any]) -> None:
        known = following.position
        if following.promised is not None:
            self._wrong.append(f"promised {following.promised}, sent {frame}")
        if frame["recovered"] and known is not None:
            if known[0] != frame["epoch"] or known[1] > frame["offset"]:
                self._wrong.append(f"recovered {known} as {frame}")
            elif known[1] < frame["offset"]:
                following.promised = frame["offset"]
            if following.since_subscribed is None:
                return  # the replay follows
        else:
            following.position = (frame["epoch"], frame["offset"])
        following.since_subscribed = []
        following.loads += 1
        self._reload(following, following.loads)

    def _reload(self, following: Following, load: int) -> None:
        def loaded() -> None:
            if following.loads != load:
                return
            if not self._database.available:
                self._network.later(0.3, loaded)
                return
            found = self._stored(following.guild_id)
            self._network.later(self._network.delay(), arrived, found)

        def arrived(found: dict[str, str]) -> None:
            if following.loads != load:
                return
            following.violations = found
            following.violations.update(following.since_subscribed or [])
            following.since_subscribed = None

        self._network.later(self._network.delay(), loaded)

    def _events(self, following: Following, frame: dict[str, Any]) -> None:
        for event in frame["events"]:
            position = following.position
            if position is None or frame["epoch"] != position[0] or event["offset"] != position[1] + 1:
                self._wrong.append(
                    f"guild {following.guild_id} at {position} got {frame['epoch']}/{event['offset']}"
                )
                return
            following.position = (frame["epoch"], event["offset"])
            if event["type"] == "violation":
                seen = (event["data"]["id"], event["data"]["action_status"])
                if following.since_subscribed is not None:
                    following.since_subscribed.append(seen)
                following.violations[seen[0]] = seen[1]
        if following.promised not in {None, frame["events"][-1]["offset"]}:
            self._wrong.append(f"promised {following.promised}, sent {frame}")
        following.promised = None

    def _stored(self, guild_id: int) -> dict[str, str]:
        rows = self._database.violations.values()
        return {
            str(row.violation.event_id): row.action_status
            for row in rows
            if row.violation.guild_id == guild_id
        }
