"""Whatever happens to the connection, in the end the client has what the server has."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from guildhall.live.limits import Limits
from guildhall.live.machine import step
from guildhall.live.messages import Event, Events, Other, ServerFrame, Subscribe, Subscribed, User, Violation
from guildhall.live.over_http import RecentViolations
from guildhall.live.violation_list import ViolationList
from guildhall.live.words import (
    Applied,
    CancelTimer,
    CaughtUp,
    Closed,
    Command,
    Connect,
    Disconnect,
    Env,
    FellBehind,
    FrameCame,
    Input,
    Load,
    Loaded,
    NotLoaded,
    Opened,
    Opening,
    Reset,
    Send,
    SetTimer,
    Start,
    State,
    Stop,
    Streaming,
    Timer,
    TimerFired,
)

REMEMBERED = 12
"""Events that the server can replay."""

LIMITS = Limits(buffered_events=20)
CODES = (1006, 1012, 4008, 4010)


class Reading(NamedTuple):
    """A load under way; its rows are what the server had when it looked."""

    number: int
    rows: tuple[Violation, ...] | None = None


def violation(number: int) -> Violation:
    return Violation(
        id=f"v{number}",
        guild_id="1",
        channel_id="2",
        channel_name=None,
        message_id=str(number),
        user=User("3"),
        detection="banned_word",
        rule="words",
        severity="low",
        action="delete",
        action_status="pending",
        excerpt="",
        ts_ms=number // 3,
        committed_at_ms=0,
    )


class World:
    """A server with its truth and its stream, a line that cuts, stutters and loses, and the client."""

    def __init__(self) -> None:
        self.state = State("1")
        self.shown = ViolationList(most=10_000)
        self.applied: list[tuple[int, int]] = []
        """Epochs and offsets, in the order in which the client was given them."""
        self._truth: dict[str, Violation] = {}
        self._epoch, self._offset = 1, 0
        self._log: list[Event] = []
        self._line: list[ServerFrame] = []
        self._last: ServerFrame | None = None
        self._open = self._subscribed = False
        self._reading: list[Reading] = []
        self._timers: set[Timer] = set()
        self.tell(Start())

    # -- the client ---------------------------------------------------------------------------------

    def tell(self, happened: Input) -> None:
        # A step gives events of one epoch: those of the frame, or those that waited, up to the position.
        before = self.state.position
        self.state, commands = step(self.state, happened, Env(random=0.5, limits=LIMITS))
        for command in commands:
            self._do(command, before.epoch if before else 0)

    def _do(self, command: Command, epoch: int) -> None:
        match command:
            case Connect():
                self._open, self._subscribed = True, False
                self._line = []
            case Disconnect():
                self._open = False
            case Send(frame):
                self._answer(frame)
            case Load(number):
                self._reading.append(Reading(number))  # an earlier one may still be answered
            case SetTimer(timer):
                self._timers.add(timer)
            case CancelTimer(timer):
                self._timers.discard(timer)
            case Reset(read):
                self.shown.reset(read)
            case Applied(events):
                offsets = [event.offset for event in events]
                assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
                self.applied += [(epoch, offset) for offset in offsets]
                self.shown.apply(events)

    # -- the server ---------------------------------------------------------------------------------

    def _answer(self, asked: Subscribe) -> None:
        oldest = self._log[0].offset if self._log else self._offset + 1
        recovered = asked.epoch == self._epoch and asked.offset is not None and asked.offset + 1 >= oldest
        self._subscribed = True
        self._line.append(Subscribed("1", self._epoch, self._offset, recovered))
        if recovered:
            self._say([event for event in self._log if event.offset > (asked.offset or 0)])

    def _say(self, events: list[Event]) -> None:
        if events:
            self._line.append(Events("1", self._epoch, tuple(events)))

    def publish(self, number: int) -> None:
        """Something happens: a new violation, or the end of an action, and with it some other event."""
        known = list(self._truth.values())
        if number % 3 == 0 and known:
            row = replace(known[number % len(known)], action_status="done")
        else:
            row = violation(len(known))
        self._truth[row.id] = row
        events = [
            Event(self._offset + 1, 0, "violation", row),
            Event(self._offset + 2, 0, "other", Other(None)),
        ]
        self._offset += 2
        self._log = [*self._log, *events][-REMEMBERED:]
        if self._open and self._subscribed:
            self._say(events)

    def new_epoch(self, _: int) -> None:
        """Move the guild to another host, which remembers nothing; the socket stays."""
        self._epoch += 1
        self._offset = 0
        self._log = []

    def read(self, _: int) -> None:
        """Look at the truth, for the load under way."""
        for index, reading in enumerate(self._reading):
            if reading.rows is None:
                self._reading[index] = Reading(reading.number, tuple(self._truth.values()))

    def answer_load(self, number: int) -> None:
        """Let something that was read arrive, or not."""
        done = [reading for reading in self._reading if reading.rows is not None]
        if not done:
            return
        reading = done[number % len(done)]
        self._reading.remove(reading)
        if number % 7 == 0:
            self.tell(NotLoaded(reading.number, "unavailable"))
        else:
            self.tell(Loaded(reading.number, RecentViolations(reading.rows or (), complete=True)))

    # -- the line -----------------------------------------------------------------------------------

    def deliver(self, number: int) -> None:
        """Let some frames arrive, each perhaps twice, or again later."""
        for _ in range(1 + number % 3):
            if self._line and self._open:
                self._last = self._line.pop(0)
                self.tell(FrameCame(self._last))
        if number % 5 == 0:
            self.resend(number)

    def resend(self, _: int) -> None:
        """Say the last events again: the same offsets."""
        if self._open and self._subscribed and isinstance(self._last, Events):
            self.tell(FrameCame(self._last))

    def lose_frame(self, number: int) -> None:
        """Lose events: a replay, or what follows it."""
        events = [frame for frame in self._line if isinstance(frame, Events)]
        if events:
            self._line.remove(events[number % len(events)])

    def lose_event(self, number: int) -> None:
        """Lose one event out of a frame."""
        for index, frame in enumerate(self._line):
            if isinstance(frame, Events):
                kept = tuple(e for place, e in enumerate(frame.events) if place != number % len(frame.events))
                self._line[index] = replace(frame, events=kept)
                return

    def hole(self, number: int) -> None:
        """Lose what happens, and let what happens next show it."""
        self.deliver(3)
        self.publish(number)
        self.lose_frame(0)
        self.publish(number + 1)
        self.deliver(3)

    def opened(self, _: int) -> None:
        if self._open and isinstance(self.state.phase, Opening):
            self.tell(Opened())

    def cut(self, number: int) -> None:
        if self._open:
            self._open = False
            self.tell(Closed(CODES[number % len(CODES)]))

    def fire(self, timer: Timer) -> Callable[[int], None]:
        def fire(_: int) -> None:
            if timer in self._timers:
                self._timers.remove(timer)
                self.tell(TimerFired(timer))

        return fire

    def fall_behind(self, _: int) -> None:
        self.tell(FellBehind())

    def catch_up(self, _: int) -> None:
        self.tell(CaughtUp())

    def stop_and_start(self, _: int) -> None:
        self.tell(Stop())
        self._reading = []
        self.tell(Start())

    def calm(self) -> None:
        """Let everything that is under way arrive."""
        self.catch_up(0)
        self.fire("reconnect")(0)
        self.opened(0)
        while self._line and self._open:
            self.deliver(1)
        for timer in ("reload", "replay", "handshake"):
            self.fire(timer)(0)  # type: ignore[arg-type]
        self.read(0)
        while self._reading:
            self.answer_load(1)
            self.read(0)

    def settle(self, *, lose_the_replay: bool) -> None:
        """Let the weather clear after a last cut, which shows what had been lost at the end."""
        self.publish(1)
        for _ in range(20):
            self.calm()
        self.cut(0)
        self.publish(1)
        self.fire("reconnect")(0)
        self.opened(0)
        if lose_the_replay:
            self.lose_frame(0)
        for _ in range(20):
            self.calm()

    def check(self) -> None:
        """Where the client stands where the server stands, it shows what the server has."""
        if isinstance(self.state.phase, Streaming) and self.state.position == (self._epoch, self._offset):
            assert [(row.id, row.action_status) for row in self.shown] == self.truth()
            assert self.shown.complete

    def truth(self) -> list[tuple[str, str]]:
        rows = sorted(self._truth.values(), key=lambda row: (-row.ts_ms, -int(row.message_id), row.id))
        return [(row.id, row.action_status) for row in rows]


ACTIONS: dict[str, Callable[[World, int], None]] = {
    "publish": World.publish,
    "deliver": World.deliver,
    "read": World.read,
    "answer_load": World.answer_load,
    "opened": World.opened,
    "reconnect": lambda world, n: world.fire("reconnect")(n),
    "reload": lambda world, n: world.fire("reload")(n),
    "stable": lambda world, n: world.fire("stable")(n),
    "replay": lambda world, n: world.fire("replay")(n),
    "handshake": lambda world, n: world.fire("handshake")(n),
    "resend": World.resend,
    "lose_frame": World.lose_frame,
    "lose_event": World.lose_event,
    "hole": World.hole,
    "cut": World.cut,
    "new_epoch": World.new_epoch,
    "fall_behind": World.fall_behind,
    "catch_up": World.catch_up,
    "stop_and_start": World.stop_and_start,
    "calm": lambda world, _: world.calm(),
}
OFTEN = ["publish", "publish", "publish", "deliver", "deliver", "calm", "read", "answer_load", "hole"]


@settings(max_examples=300, deadline=None)
@given(
    history=st.lists(st.sampled_from([*ACTIONS, *OFTEN * 2]), min_size=100, max_size=200),
    numbers=st.randoms(use_true_random=False),
    lose_the_replay=st.booleans(),
)
def test_the_clients_list_becomes_the_servers_and_no_event_is_applied_twice(
    *, history: list[str], numbers: random.Random, lose_the_replay: bool
) -> None:
    """After drops, losses, repeats, new epochs and lost replays, in any order."""
    world = World()
    world.calm()
    for name in history:
        ACTIONS[name](world, numbers.randrange(100))
        world.check()
    world.settle(lose_the_replay=lose_the_replay)
    assert isinstance(world.state.phase, Streaming)
    assert [(row.id, row.action_status) for row in world.shown] == world.truth()
    assert all(one < other for one, other in zip(world.applied, world.applied[1:], strict=False))
