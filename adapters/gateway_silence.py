"""When a gateway that says nothing is asked, and when its shard is blind. No I/O, no clock."""

from __future__ import annotations

from typing import Literal

import msgspec

TICK_S = 0.5
LATE_S = 3 * TICK_S
"""A tick that comes so late tells of this process, not of Discord: what came in meanwhile is not read yet."""


class Patience(msgspec.Struct, frozen=True):
    """How much silence a shard bears.

    A connection that died without a word looks like guilds in which nothing happens. Discord answers a
    heartbeat at any time, so a question tells the two apart; a quiet shard asks 15 times a minute, of the 120
    payloads that Discord allows.
    """

    ask_after_s: float = 4.0
    answer_within_s: float = 5.0
    most_s: float = 40.0
    """What that grows to where answers are slow: Discord's own heartbeats are as far apart."""


class GatewaySilence:
    """Measures the silence on one connection, in the time during which this process could have heard.

    A shard whose answers take long would reconnect again and again. So after a connection that was given up,
    and on which no answer had come in time, the next one waits twice as long, until one comes in time.
    """

    def __init__(self, patience: Patience, silences: int = 0) -> None:
        self._patience = patience
        self._silences, self._is_prompt = silences, False
        self._answer_within_s = min(patience.most_s, patience.answer_within_s * 2**silences)
        self._silent_s = 0.0
        self._asked_at_s: float | None = None
        """How long it was silent when it was asked."""

    @property
    def silences(self) -> int:
        """How many connections in a row had no answer in time, if this one is given up now."""
        return 0 if self._is_prompt else self._silences + 1

    def heard(self) -> None:
        """Note that something came in, whatever it was."""
        asked_at_s = self._asked_at_s
        if asked_at_s is not None and self._silent_s - asked_at_s < self._patience.answer_within_s:
            self._is_prompt, self._answer_within_s = True, self._patience.answer_within_s
        self._silent_s, self._asked_at_s = 0.0, None

    def asked(self) -> None:
        """Note that a heartbeat is being sent, which is to be answered."""
        self._asked_at_s = self._silent_s

    def tick(self, passed_s: float) -> Literal["listen", "ask", "blind"]:
        """Note that time passed, which should be about ``TICK_S``; return what is to be done now."""
        is_late = passed_s > LATE_S
        self._silent_s += TICK_S if is_late else passed_s
        if is_late:
            return "listen"
        if self._asked_at_s is None:
            return "ask" if self._silent_s >= self._patience.ask_after_s else "listen"
        unanswered_s = self._silent_s - self._asked_at_s
        return "blind" if unanswered_s >= self._answer_within_s else "listen"
