"""One socket on one guild: how far its browser has come, and what waits until that is known. No I/O."""

from __future__ import annotations

from typing import NamedTuple

from actors.guild import Admission
from domain.protocol import CloseCode, subscribed
from domain.roles import Member
from serve_app.frame import Events, Frame
from serve_app.socket import MAX_QUEUED_BYTES, Socket
from serve_app.watch_calls import WatchCalls


class Registration(NamedTuple):
    """Where a host may know of a subscription: on the stream of that id, and as long as that stands."""

    relay_id: str
    calls: WatchCalls


class Subscription:
    """Passes on each event once and in order, by whichever way and whenever it comes."""

    __slots__ = (
        "_held_back",
        "_held_bytes",
        "answered",
        "asked",
        "guild_id",
        "member",
        "position",
        "registration",
        "socket",
        "unanswered",
        "wanted",
    )

    def __init__(self, socket: Socket, guild_id: int) -> None:
        self.socket = socket
        self.guild_id = guild_id
        self.member: Member
        """The person in this guild, as their session said when they asked."""
        self.wanted = False
        self.asked = 0
        """How often the browser subscribed: an answer to an earlier time is none."""
        self.answered = False
        self.unanswered = 0
        """Subscribes that wait for their answer."""
        self.position: tuple[int, int] | None = None
        self.registration: Registration | None = None
        self._held_back: list[Events] | None = []
        self._held_bytes = 0

    @property
    def flows(self) -> bool:
        """Whether frames go straight to the socket."""
        return self._held_back is None

    def want(self, member: Member, position: tuple[int, int] | None) -> None:
        """Begin anew from the position that the browser has."""
        self.member = member
        self.wanted, self.answered, self.position = True, False, position
        self.asked += 1
        self.unanswered += 1
        self.hold_back()

    def awaits(self, asked: int, registration: Registration) -> bool:
        """Whether an answer to this question, given on this stream, still is one."""
        return self.wanted and self.asked == asked and self.registration is registration

    def hold_back(self) -> None:
        """Deliver nothing until the socket's place is known (again)."""
        self._held_back, self._held_bytes = [], 0

    def answer(self, admission: Admission) -> None:
        """Tell the browser where it stands, and go on from there with what was held back.

        Each subscribe has its answer. What an earlier one missed does not follow: the newest says from
        where on it does.
        """
        epoch, offset, recovered, replay = admission
        for _ in range(self.take_unanswered() - 1):
            self.socket.push(Frame(subscribed(self.guild_id, epoch, offset, recovered=False)))
        self.socket.push(Frame(subscribed(self.guild_id, epoch, offset, recovered=recovered)))
        if replay:
            self.socket.push(Frame(replay))
        held_back, self._held_back = self._held_back or [], None
        self.answered, self.position = True, (epoch, offset)
        for held in held_back:
            self.deliver(held)

    def take_unanswered(self) -> int:
        """Return how many subscribes are to be answered now."""
        unanswered, self.unanswered = self.unanswered, 0
        return unanswered

    def deliver(self, events: Events) -> Frame | None:
        """Take events that lead to a position; return what the socket gets."""
        if not self.wanted:
            return None
        if self._held_back is not None:
            self._hold(self._held_back, events)
            return None
        if self.position is None:
            return None
        epoch, offset = self.position
        # What another activation of the guild said was on its way when the host answered.
        if events.reached[0] != epoch or events.reached[1] <= offset:
            return None
        if events.first <= offset:
            events = events.after(offset)
        self.position = events.reached
        self.socket.push(events.frame)
        return events.frame

    def _hold(self, held_back: list[Events], events: Events) -> None:
        held_back.append(events)
        self._held_bytes += len(events.frame)
        if self._held_bytes > MAX_QUEUED_BYTES:
            # More than the socket itself would queue. The browser comes back and resumes.
            self.hold_back()
            self.socket.close(CloseCode.TOO_SLOW, "Too much happened while this connection waited.")
