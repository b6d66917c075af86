"""How the following goes, for whoever looks at it."""

from __future__ import annotations

import msgspec

from domain.errors import GuildhallError
from guildhall.live.words import (
    EndReason,
    LetGo,
    LoadFailure,
    Resting,
    State,
    Streaming,
)


class Connecting(msgspec.Struct, frozen=True):
    """A socket is being opened, or the state read."""


class Live(msgspec.Struct, frozen=True):
    """What was given is what there is, and what comes continues it."""

    resumed: bool
    """True where it goes on from the last event; False after a :class:`Reset`."""


class Waiting(msgspec.Struct, frozen=True):
    """The connection is gone; what was given may be out of date."""

    retry_in_s: float
    code: int
    """The WebSocket close code; 1006 where there was none."""


class Behind(msgspec.Struct, frozen=True):
    """The consumer is too slow: once it has taken what waits, the stream is resumed."""


Status = Connecting | Live | Waiting | Behind

_SENTENCES: dict[EndReason, str] = {
    "session_over": "The session is over: log in again.",
    "not_allowed": "This person may not watch this server.",
    "too_many_sockets": "This person watches this server on too many sockets already.",
}


class FollowingEnded(GuildhallError):
    """The server does not let this person follow this guild, and coming back would change nothing."""

    def __init__(self, why: EndReason) -> None:
        """Take the reason, for a program."""
        super().__init__(_SENTENCES[why])
        self.why: EndReason = why


class LoadFailed(GuildhallError):
    """The state could not be read."""

    def __init__(self, failure: LoadFailure, message: str | None = None) -> None:
        """Take why, which decides how it goes on: only after "unavailable" it is tried again."""
        super().__init__(message)
        self.failure: LoadFailure = failure


def status_of(state: State) -> Status:
    """Return what a machine's state means to whoever looks at it."""
    match state.phase:
        case Streaming(resumed):
            return Live(resumed)
        case Resting(for_s, code):
            return Waiting(for_s, code)
        case LetGo():
            return Behind()
        case _:
            return Connecting()
