"""What the machine in ``machine.py`` can stand at, what can happen to it, and what it can command."""

from __future__ import annotations

from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec

from guildhall.live.limits import Limits
from guildhall.live.messages import Event, ServerFrame, Subscribe

S = TypeVar("S")

EndReason = Literal["session_over", "not_allowed", "too_many_sockets"]
LoadFailure = Literal["unauthorized", "forbidden", "unavailable"]
"""Nobody is logged in; this person may not; or nobody can say now, which is worth another try."""
Timer = Literal["reconnect", "handshake", "stable", "reload", "replay"]

TIMERS: tuple[Timer, ...] = ("reconnect", "handshake", "stable", "reload", "replay")


class Position(NamedTuple):
    """A place in a guild's stream: the last event that was taken."""

    epoch: int
    offset: int


# -- where it stands --------------------------------------------------------------------------------


class Idle(msgspec.Struct, frozen=True):
    """Not begun, or stopped."""


class Opening(msgspec.Struct, frozen=True):
    """A socket is being opened."""


class Subscribing(msgspec.Struct, frozen=True):
    """The socket is open; the server has not answered yet."""


class Syncing(msgspec.Struct, frozen=True):
    """In the stream, waiting for the state that it continues."""

    buffer: tuple[Event, ...]


class Streaming(msgspec.Struct, frozen=True):
    """State and stream are one."""

    resumed: bool


class Resting(msgspec.Struct, frozen=True):
    """Away; the next try is set."""

    for_s: float
    code: int


class LetGo(msgspec.Struct, frozen=True):
    """The consumer fell behind; the socket would only fill up."""


class Ended(msgspec.Struct, frozen=True):
    """Coming back would change nothing."""

    why: EndReason


Phase = Idle | Opening | Subscribing | Syncing | Streaming | Resting | LetGo | Ended


class State(msgspec.Struct, frozen=True):
    """All that is known between two inputs."""

    guild_id: str
    phase: Phase = Idle()
    position: Position | None = None
    """The last event taken in order. None when what is shown cannot be continued from the stream."""
    promised: int = 0
    """Where the server said the stream was; not there soon after a resume, the replay got lost."""
    attempt: int = 0
    load: int = 0
    """Number of the newest load; answers of older ones are ignored."""
    loading: bool = False
    load_attempt: int = 0
    has_data: bool = False
    was_live: bool = False
    crowded_out: int = 0
    """How often in a row there was no room for this socket."""


# -- what happens -----------------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True):
    """Begin."""


class Stop(msgspec.Struct, frozen=True):
    """Give up everything."""


class Opened(msgspec.Struct, frozen=True):
    """The socket stands."""


class FrameCame(msgspec.Struct, frozen=True):
    """The server said something."""

    frame: ServerFrame


class Closed(msgspec.Struct, frozen=True):
    """The socket ended, or could not be opened."""

    code: int


class Loaded(msgspec.Struct, frozen=True):
    """The state was read."""

    load: int
    snapshot: Any


class NotLoaded(msgspec.Struct, frozen=True):
    """The state could not be read."""

    load: int
    failure: LoadFailure


class TimerFired(msgspec.Struct, frozen=True):
    """A time that was set is over."""

    timer: Timer


class FellBehind(msgspec.Struct, frozen=True):
    """More waits for the consumer than may."""


class CaughtUp(msgspec.Struct, frozen=True):
    """Nothing waits for the consumer any more."""


Input = Start | Stop | Opened | FrameCame | Closed | Loaded | NotLoaded | TimerFired | FellBehind | CaughtUp


# -- what is to be done -----------------------------------------------------------------------------


class Connect(msgspec.Struct, frozen=True):
    """Open a socket."""


class Disconnect(msgspec.Struct, frozen=True):
    """Close the socket, if there is one; nothing that it says later may come in."""


class Send(msgspec.Struct, frozen=True):
    """Send a frame."""

    frame: Subscribe


class Load(msgspec.Struct, frozen=True):
    """Read the state over HTTP; an earlier reading is not needed any more."""

    load: int


class SetTimer(msgspec.Struct, frozen=True):
    """Say when this time is over; it replaces the timer of the same name."""

    timer: Timer
    after_s: float


class CancelTimer(msgspec.Struct, frozen=True):
    """Forget a timer."""

    timer: Timer


class Reset(msgspec.Struct, Generic[S], frozen=True):
    """Everything shown is replaced by this state, which was just read."""

    snapshot: S


class Applied(msgspec.Struct, frozen=True):
    """The next events, in order; the first follows what was given before it."""

    events: tuple[Event, ...]


Command = Connect | Disconnect | Send | Load | SetTimer | CancelTimer | Reset[Any] | Applied


class Env(NamedTuple):
    """What is outside: a number that chance drew (0…1), and the limits."""

    random: float = 0.0
    limits: Limits = Limits()
