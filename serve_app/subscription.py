"""One socket on one guild: how far its browser has come, and what waits until that is known. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from actors.fan_out import Item
from actors.guild import Admission
from actors.routing import HostCalls
from domain.protocol import CloseCode, subscribed
from serve_app.socket import MAX_QUEUED_BYTES, Socket


class Registration(NamedTuple):
    """What a host may know of a subscription. It ends with the stream of that id."""

    host: HostCalls
    relay_id: str


class Subscription:
    """Passes on each event once and in order, by whichever way and whenever it comes."""

    def __init__(self, socket: Socket, guild_id: int) -> None:
        self.socket = socket
        self.guild_id = guild_id
        self.wanted = False
        self.asked = 0
        """How often the browser subscribed: an answer to an earlier time is none."""
        self.answered = False
        self.position: tuple[int, int] | None = None
        self.registration: Registration | None = None
        self._held_back: list[Item] | None = []
        self._held_bytes = 0

    @property
    def flows(self) -> bool:
        """Whether frames go straight to the socket."""
        return self._held_back is None

    def want(self, position: tuple[int, int] | None) -> None:
        """Begin anew from the position that the browser has."""
        self.wanted, self.answered, self.position = True, False, position
        self.asked += 1
        self.hold_back()

    def awaits(self, asked: int, registration: Registration) -> bool:
        """Whether an answer to this question, given on this stream, still is one."""
        return self.wanted and self.asked == asked and self.registration is registration

    def hold_back(self) -> None:
        """Deliver nothing until the socket's place is known (again)."""
        self._held_back, self._held_bytes = [], 0

    def answer(self, admission: Admission) -> None:
        """Tell the browser where it stands, and go on from there with what was held back."""
        epoch, offset, recovered, replay = admission
        self.socket.push(subscribed(self.guild_id, epoch, offset, recovered=recovered))
        if replay:
            self.socket.push(replay)
        held_back, self._held_back = self._held_back or [], None
        self.answered, self.position = True, (epoch, offset)
        for item in held_back:
            self.deliver(item)

    def deliver(self, item: Item) -> None:
        """Take a frame of the stream."""
        if not self.wanted:
            return
        if self._held_back is not None:
            self._hold(self._held_back, item)
            return
        if self.position is None:
            return
        epoch, offset = self.position
        # What another activation of the guild said was on its way when the host answered.
        if item.epoch == epoch and item.offset > offset:
            self.position = (epoch, item.offset)
            self.socket.push(item.frame)

    def _hold(self, held_back: list[Item], item: Item) -> None:
        held_back.append(item)
        self._held_bytes += len(item.frame)
        if self._held_bytes > MAX_QUEUED_BYTES:
            # More than the socket itself would queue. The browser comes back and resumes.
            self.hold_back()
            self.socket.close(CloseCode.TOO_SLOW, "Too much happened while this connection waited.")
