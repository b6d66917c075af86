"""Silence of guilds in which nothing happens, and silence of a connection that died without a word."""

from __future__ import annotations

import pytest

from adapters.gateway_silence import LATE_S, TICK_S, GatewaySilence, Patience

PATIENCE = Patience(ask_after_s=4.0, answer_within_s=5.0)


@pytest.fixture
def silence() -> GatewaySilence:
    """Give a connection that was just made."""
    return GatewaySilence(PATIENCE)


def let_pass(silence: GatewaySilence, time_s: float) -> str:
    """Let time pass, tick by tick; return what is to be done at the end."""
    return [silence.tick(TICK_S) for _ in range(int(time_s / TICK_S))][-1]


def test_a_silent_gateway_is_asked_once_and_then_given_up(silence: GatewaySilence) -> None:
    """Nine seconds after it fell silent."""
    assert let_pass(silence, 3.5) == "listen"
    assert let_pass(silence, 0.5) == "ask"
    silence.asked()
    assert let_pass(silence, 4.5) == "listen"
    assert let_pass(silence, 0.5) == "blind"


def test_quiet_guilds_are_asked_again_and_again(silence: GatewaySilence) -> None:
    """Every answer counts, and no more than 15 questions a minute are asked."""
    asked = 0
    for _ in range(int(600 / TICK_S)):
        verdict = silence.tick(TICK_S)
        assert verdict != "blind"
        if verdict == "ask":
            asked += 1
            silence.asked()
            silence.heard()
    assert asked == 150


@pytest.mark.parametrize("silent_s", [4.5, 8.5])
def test_an_event_is_an_answer_too(silence: GatewaySilence, silent_s: float) -> None:
    let_pass(silence, 4.0)
    silence.asked()
    let_pass(silence, silent_s - 4.0)
    silence.heard()
    assert let_pass(silence, 3.5) == "listen"
    assert let_pass(silence, 0.5) == "ask"


def test_nobody_is_blind_who_could_not_ask(silence: GatewaySilence) -> None:
    """The question comes first, however late it is: Discord's limit on payloads may hold it back."""
    assert let_pass(silence, 60.0) == "ask"
    silence.asked()
    assert let_pass(silence, 4.5) == "listen"


@pytest.mark.parametrize("asked", [False, True])
def test_a_stall_of_this_process_is_no_silence(silence: GatewaySilence, *, asked: bool) -> None:
    """What Discord said meanwhile is not read yet."""
    if asked:
        let_pass(silence, 4.0)
        silence.asked()
        let_pass(silence, 4.5)
    assert silence.tick(60.0) == "listen"
    silence.heard()
    assert let_pass(silence, 3.5) == "listen"


def test_a_stall_only_delays_what_is_found_out(silence: GatewaySilence) -> None:
    """A connection that is dead is found to be, by the ticks that come in time."""
    assert let_pass(silence, 4.0) == "ask"
    silence.asked()
    assert silence.tick(60.0) == "listen"
    assert let_pass(silence, 4.5) == "blind"


def test_a_busy_process_still_measures(silence: GatewaySilence) -> None:
    """A tick that is only somewhat late counts as long as it was."""
    assert silence.tick(LATE_S) == "listen"
    assert silence.tick(LATE_S) == "listen"
    assert silence.tick(LATE_S) == "ask"


def test_slow_answers_are_waited_for_longer_from_one_connection_to_the_next() -> None:
    """Up to a bound; one that comes in time makes the patience what it was, here and on the next one."""
    silences, waits = 0, []
    for _ in range(5):
        slow = GatewaySilence(PATIENCE, silences)
        assert let_pass(slow, 4.0) == "ask"
        slow.asked()
        waits.append(next(n * TICK_S for n in range(1, 200) if slow.tick(TICK_S) == "blind"))
        silences = slow.silences
    assert waits == [5.0, 10.0, 20.0, 40.0, 40.0]
    mended = GatewaySilence(PATIENCE, silences)
    for answered_after_s, verdict in ((20.0, "listen"), (1.0, "blind")):
        assert let_pass(mended, 4.0) == "ask"
        mended.asked()
        let_pass(mended, answered_after_s)
        mended.heard()
        assert let_pass(mended, 4.0) == "ask"
        mended.asked()
        assert let_pass(mended, 5.0) == verdict
        mended.heard()
    assert mended.silences == 0
