"""The machine that follows a guild, told everything that can happen to it."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from guildhall.live.backoff import backoff_s, restart_delay_s
from guildhall.live.limits import Limits
from guildhall.live.machine import CROWDED_OUT_LIMIT, step
from guildhall.live.messages import Event, Events, Other, Refusal, Subscribe, Subscribed
from guildhall.live.status import Behind, Connecting, Live, Waiting, status_of
from guildhall.live.words import (
    Applied,
    CaughtUp,
    Closed,
    Command,
    Connect,
    Disconnect,
    Ended,
    Env,
    FellBehind,
    FrameCame,
    Idle,
    Input,
    LetGo,
    Load,
    Loaded,
    LoadFailure,
    NotLoaded,
    Opened,
    Opening,
    Position,
    Reset,
    Resting,
    Send,
    SetTimer,
    Start,
    State,
    Stop,
    Streaming,
    Syncing,
    TimerFired,
)

C = TypeVar("C")

BUFFERED = 10
LIMITS = Limits(buffered_events=BUFFERED)


class Recording:
    """Tells the machine one thing after the other, and remembers what it commanded since last asked."""

    def __init__(self, *inputs: Input) -> None:
        self.state = State("1")
        self._commands: list[Command] = []
        self.tell(*inputs)

    def tell(self, *inputs: Input) -> Recording:
        for happened in inputs:
            self.state, commands = step(self.state, happened, Env(random=0.0, limits=LIMITS))
            self._commands += commands
        return self

    def take(self, kind: type[C]) -> list[C]:
        taken, self._commands = self._commands, []
        return [command for command in taken if isinstance(command, kind)]

    def offsets(self) -> list[int]:
        """Return what was applied since last asked."""
        return [event.offset for applied in self.take(Applied) for event in applied.events]

    def timer(self, name: str) -> list[float]:
        return [command.after_s for command in self.take(SetTimer) if command.timer == name]


def subscribed(epoch: int, offset: int, *, recovered: bool = False) -> FrameCame:
    return FrameCame(Subscribed("1", epoch, offset, recovered))


def events(epoch: int, *offsets: int) -> FrameCame:
    return FrameCame(Events("1", epoch, tuple(Event(n, 0, "other", Other(None)) for n in offsets)))


def live() -> Recording:
    machine = Recording(Start(), Opened(), subscribed(7, 120), Loaded(1, "first"))
    machine.take(Reset)
    return machine


BACK = (TimerFired("reconnect"), Opened())


def test_it_asks_for_state_only_once_it_has_its_place_in_the_stream() -> None:
    """What happens between the two is in the stream, or in both."""
    machine = Recording(Start(), Opened())
    assert machine.take(Load) == []
    machine.tell(subscribed(7, 120))
    assert machine.take(Load) == [Load(1)]
    assert status_of(machine.state) == Connecting()


def test_what_comes_while_the_state_is_read_is_applied_after_it() -> None:
    """First the state, then the events."""
    machine = Recording(Start(), Opened(), subscribed(7, 120), events(7, 121, 122))
    assert machine.offsets() == []
    machine.tell(Loaded(1, "state"))
    reset, applied = machine.take(Reset | Applied)  # type: ignore[arg-type]
    assert reset == Reset("state")
    assert [event.offset for event in applied.events] == [121, 122]
    assert status_of(machine.state) == Live(resumed=False)


def test_events_that_were_seen_are_passed_over() -> None:
    """The same frame twice, and one that overlaps."""
    machine = live().tell(events(7, 121), events(7, 121), events(7, 120, 121, 122), events(7, 100))
    assert machine.offsets() == [121, 122]


@pytest.mark.parametrize(
    "frame",
    [events(7, 123), events(7, 121, 123), events(7, 122, 121), events(8, 1), events(6, 121)],
    ids=["a hole before it", "a hole in it", "out of order", "a new epoch", "an old epoch"],
)
def test_a_gap_makes_it_read_the_state_again(frame: FrameCame) -> None:
    """And the answer of a load from before does not count."""
    machine = live().tell(frame)
    assert machine.take(Load) == [Load(2)]
    assert isinstance(machine.state.phase, Syncing)
    machine.tell(Loaded(1, "old"))
    assert isinstance(machine.state.phase, Syncing)
    machine.tell(Loaded(2, "new"))
    assert status_of(machine.state) == Live(resumed=False)


def test_a_stream_that_keeps_breaking_is_no_flood_of_requests() -> None:
    """The second reload in a row waits."""
    machine = live().tell(events(7, 130), Loaded(2, ""))
    machine.take(Load)
    machine.tell(events(7, 140))
    assert machine.take(Load) == []
    machine.tell(TimerFired("reload"))
    assert machine.take(Load) == [Load(3)]
    machine.tell(Loaded(3, ""), TimerFired("stable"), events(7, 150))
    assert machine.take(Load) == [Load(4)]


def test_a_hole_while_the_state_is_read_makes_that_state_worthless() -> None:
    """It may be from before the hole."""
    machine = live().tell(events(7, 130), events(7, 140))
    machine.take(Load)
    machine.tell(Loaded(2, "may be from before 140"))
    assert machine.take(Reset) == []
    machine.tell(TimerFired("reload"), Loaded(3, "after"))
    assert machine.take(Reset) == [Reset("after")]


def test_it_resumes_where_it_was() -> None:
    """Where the server remembers, no state is read."""
    machine = live().tell(events(7, 121), Closed(1006))
    assert machine.offsets() == [121]
    machine.tell(*BACK)
    assert machine.take(Send) == [Send(Subscribe("1", 7, 121))]
    machine.tell(subscribed(7, 123, recovered=True))
    assert status_of(machine.state) == Live(resumed=True)
    assert machine.take(Load) == []
    machine.tell(events(7, 122, 123))
    assert machine.offsets() == [122, 123]


def test_an_answer_that_names_the_place_it_had_is_as_good() -> None:
    """Instead of the head of the stream."""
    machine = live().tell(Closed(1006), *BACK, subscribed(7, 120, recovered=True), events(7, 121))
    assert machine.offsets() == [121]


def test_a_promised_replay_that_does_not_come_is_not_waited_for_for_ever() -> None:
    """The promise was 125."""
    machine = live().tell(Closed(1006), *BACK, subscribed(7, 125, recovered=True))
    assert machine.timer("replay") == [LIMITS.replay_s]
    machine.tell(TimerFired("replay"))
    assert machine.take(Load) == [Load(2)]
    machine.tell(events(7, 121, 122), Loaded(2, ""), events(7, 126))
    assert machine.offsets() == [126]


def test_a_replay_that_is_too_much_for_the_server_is_not_asked_for_again() -> None:
    """It would be cut off as too slow again, for as long as nothing happens in the guild."""
    machine = live().tell(Closed(1006), *BACK, subscribed(7, 125, recovered=True), Closed(4008))
    assert machine.state.position is None
    whole = live().tell(Closed(1006), *BACK, subscribed(7, 121, recovered=True), events(7, 121), Closed(4008))
    assert whole.state.position == Position(7, 121)


def test_a_replay_that_came_is_not_missed() -> None:
    """The timer is not cancelled by every event: it looks for itself."""
    machine = live().tell(Closed(1006), *BACK, subscribed(7, 121, recovered=True), events(7, 121))
    machine.tell(TimerFired("replay"))
    assert machine.take(Load) == []


@pytest.mark.parametrize(
    "answer",
    [subscribed(7, 500), subscribed(8, 3, recovered=True), subscribed(7, 60, recovered=True)],
    ids=["forgotten", "another epoch", "a place before ours"],
)
def test_it_reads_the_state_where_it_cannot_resume(answer: FrameCame) -> None:
    """Whatever the answer says of recovery."""
    machine = live().tell(Closed(1006), *BACK, answer)
    assert machine.take(Load) == [Load(2)]


def test_a_connection_that_ends_before_the_state_was_read_leaves_nothing_to_resume() -> None:
    """Its buffer is gone."""
    machine = Recording(Start(), Opened(), subscribed(7, 120), events(7, 121), Closed(1006))
    machine.take(Send)
    machine.tell(*BACK)
    assert machine.take(Send) == [Send(Subscribe("1"))]


def test_without_a_stream_it_still_gives_what_there_is() -> None:
    """And does not call it live."""
    machine = Recording(Start(), Closed(1006))
    assert machine.take(Load) == [Load(1)]
    machine.tell(Loaded(1, "state"))
    assert machine.take(Reset) == [Reset("state")]
    assert status_of(machine.state) == Waiting(0.5, 1006)


@pytest.mark.parametrize(("code", "why"), [(4001, "session_over"), (4003, "not_allowed")])
def test_some_codes_end_it_for_good(code: int, why: Any) -> None:
    """Nothing revives it."""
    machine = live().tell(Closed(code))
    assert machine.state.phase == Ended(why)
    machine.take(Connect)
    machine.tell(Start(), TimerFired("reconnect"), Opened(), CaughtUp(), Stop())
    assert machine.take(Connect) == []
    assert machine.state.phase == Ended(why)


def test_one_client_too_many_ends_and_one_that_was_live_waits_for_its_place() -> None:
    """For a bounded number of tries; once it had its place again, it may wait again."""
    assert Recording(Start(), Opened(), Closed(4009)).state.phase == Ended("too_many_sockets")
    machine = live().tell(Closed(4009))
    assert machine.state.position == Position(7, 120)
    for _ in range(1, CROWDED_OUT_LIMIT):
        assert isinstance(machine.tell(*BACK, Closed(4009)).state.phase, Resting)
    again = live().tell(*[Closed(4009), *BACK] * CROWDED_OUT_LIMIT, subscribed(7, 120), Closed(4009))
    assert isinstance(again.state.phase, Resting)
    assert machine.tell(*BACK, Closed(4009)).state.phase == Ended("too_many_sockets")


def test_the_other_codes_come_back() -> None:
    """Each after its time, with the position, except after a message that the server did not take."""
    for code in (1000, 1001, 1006, 1011, 4008, 4011):
        machine = live().tell(Closed(code))
        assert machine.state.position == Position(7, 120)
        assert machine.timer("reconnect") == [0.5]
    assert live().tell(Closed(1012)).timer("reconnect") == [LIMITS.restart_least_s]
    for code in (1013, 4029):  # what is counted comes back within a minute
        counted = live().tell(Closed(code))
        assert counted.state.position == Position(7, 120)
        assert counted.timer("reconnect") == [8.0]
    unheard = live().tell(Closed(4010))
    assert unheard.state.position is None
    assert unheard.timer("reconnect") == [16.0]


def test_the_servers_verdict_on_the_subscription_ends_it() -> None:
    """A role was missing, or was taken away."""
    for machine in (Recording(Start(), Opened()), live()):
        machine.tell(FrameCame(Refusal("not_allowed")))
        assert machine.state.phase == Ended("not_allowed")
        assert machine.take(Disconnect)


def test_a_refusal_that_is_no_verdict_comes_back() -> None:
    """Nothing more will come of that question."""
    machine = Recording(Start(), Opened(), FrameCame(Refusal("unavailable")))
    assert isinstance(machine.state.phase, Resting)
    assert machine.timer("reconnect") == [0.5]
    assert isinstance(live().tell(FrameCame(Refusal("unavailable"))).state.phase, Streaming)
    too_often = Recording(Start(), Opened(), FrameCame(Refusal("too_many_requests")))
    assert too_often.timer("reconnect") == [8.0]


def test_a_load_that_fails_is_tried_again_while_the_events_wait() -> None:
    """After a backoff that grows."""
    machine = Recording(Start(), Opened(), subscribed(7, 120), events(7, 121))
    machine.take(SetTimer)
    machine.tell(NotLoaded(1, "unavailable"))
    assert machine.timer("reload") == [0.5]
    machine.tell(TimerFired("reload"), NotLoaded(2, "unavailable"))
    assert machine.timer("reload") == [1.0]
    machine.tell(TimerFired("reload"), events(7, 122), Loaded(3, ""))
    assert machine.offsets() == [121, 122]


@pytest.mark.parametrize(("failure", "why"), [("unauthorized", "session_over"), ("forbidden", "not_allowed")])
def test_a_load_that_is_refused_ends_it(failure: LoadFailure, why: Any) -> None:
    """HTTP knows as well as the stream does."""
    machine = Recording(Start(), Opened(), subscribed(7, 120), NotLoaded(1, failure))
    assert machine.state.phase == Ended(why)


def test_a_failed_load_of_one_who_is_away_waits_for_the_connection() -> None:
    """Which asks again anyway."""
    machine = Recording(Start(), Closed(1006), NotLoaded(1, "unavailable"))
    assert machine.timer("reload") == []
    machine.tell(*BACK, subscribed(7, 1))
    assert machine.take(Load) == [Load(2)]


def test_the_buffer_is_bounded() -> None:
    """Beyond it the state is read further on."""
    machine = Recording(Start(), Opened(), subscribed(7, 0))
    machine.take(Load)
    machine.tell(events(7, *range(1, BUFFERED + 2)))
    assert machine.take(Load) == [Load(2)]
    machine.tell(Loaded(2, ""), events(7, BUFFERED + 2))
    assert machine.offsets() == [BUFFERED + 2]


def test_a_socket_that_opens_and_then_says_nothing_is_given_up() -> None:
    """So is one that does not open."""
    for inputs in ((Start(),), (Start(), Opened())):
        machine = Recording(*inputs, TimerFired("handshake"))
        assert isinstance(machine.state.phase, Resting)
        assert machine.take(Disconnect)


def test_a_timer_of_the_past_changes_nothing() -> None:
    """It may be on its way while it is cancelled."""
    for name in ("reconnect", "handshake", "reload", "replay"):
        machine = live()
        before = machine.state
        assert machine.tell(TimerFired(name)).state == before  # type: ignore[arg-type]


def test_one_who_falls_behind_lets_go_and_resumes_once_it_has_caught_up() -> None:
    """From the last event that was given."""
    machine = live().tell(events(7, 121), FellBehind())
    assert machine.take(Disconnect)
    assert status_of(machine.state) == Behind()
    machine.tell(Closed(1006), TimerFired("reconnect"), FellBehind())
    assert machine.state.phase == LetGo()
    machine.tell(CaughtUp(), Opened())
    assert machine.take(Send) == [Send(Subscribe("1", 7, 121))]
    machine.tell(CaughtUp())
    assert machine.take(Connect) == []


def test_stopped_it_forgets_what_is_under_way() -> None:
    """And can begin again."""
    machine = live().tell(events(7, 130), Stop(), Loaded(2, "late"))
    assert machine.take(Reset) == []
    assert machine.state.phase == Idle()
    assert machine.tell(Start()).state.phase == Opening()


def test_what_a_socket_says_out_of_turn_changes_nothing() -> None:
    """Frames of another guild, events before the answer, an answer while it is away."""
    machine = live().tell(FrameCame(Events("2", 7, ())), FrameCame(Subscribed("2", 9, 9)))
    assert machine.state == live().state
    waiting = live().tell(Closed(1006))
    before = waiting.state
    assert waiting.tell(subscribed(7, 121), events(7, 121), Opened(), Closed(4001)).state == before
    asking = Recording(Start(), Opened())
    before = asking.state
    assert asking.tell(events(7, 1)).state == before


def test_the_backoff_doubles_to_a_minute_and_starts_anew_after_a_stable_connection() -> None:
    """The upper half is drawn."""
    assert [backoff_s(n, 1, Limits()) for n in (0, 1, 2, 3, 6, 50, 10_000)] == [1, 2, 4, 8, 60, 60, 60]
    assert backoff_s(0, 0, Limits()) == 0.5
    assert [restart_delay_s(chance, Limits()) for chance in (0, 1)] == [0.5, 5.0]
    machine = Recording(Start(), Closed(1006), *BACK, Closed(1006))
    assert machine.state.attempt == 2
    machine.tell(*BACK, subscribed(7, 1), Loaded(machine.state.load, ""))
    machine.tell(Loaded(machine.state.load, ""), TimerFired("stable"))
    assert machine.state.attempt == 0
