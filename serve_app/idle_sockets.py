"""Closes sockets that watch nothing: they cost as much as any other, and nobody is waiting for them."""

from __future__ import annotations

from collections.abc import Callable

from domain.protocol import CloseCode
from serve_app.hub import Hub
from serve_app.socket import Socket
from tasks import SupervisedTasks

LOOKS = 6
"""How often a socket is looked at before it is closed: it is told of late by a sixth of its time."""


class IdleSockets:
    """Looks again and again which sockets watch nothing, and since when."""

    def __init__(self, hub: Hub, idle_s: float, monotonic_s: Callable[[], float]) -> None:
        self._hub = hub
        self._idle_s = idle_s
        self._monotonic_s = monotonic_s
        self._since_s: dict[Socket, float] = {}
        self._tasks = SupervisedTasks("idle sockets")

    def start(self) -> None:
        """Begin to look."""
        self._tasks.every("look", self._idle_s / LOOKS, self._look)

    async def stop(self) -> None:
        """Look no more."""
        await self._tasks.stop()

    def look(self) -> None:
        """Close who has watched nothing for so long, at each look."""
        now_s = self._monotonic_s()
        self._since_s = {socket: self._since_s.get(socket, now_s) for socket in self._hub.idle()}
        for socket, since_s in self._since_s.items():
            if now_s - since_s >= self._idle_s:
                socket.close(CloseCode.NOTHING_WATCHED, "This connection watches no server.")

    async def _look(self) -> None:
        self.look()
