"""Following one guild, decided purely: what happened goes in, the new state and what to do come out.

The one rule that everything here serves: a position in the stream is taken BEFORE state is read over
HTTP, and what arrives meanwhile waits in a buffer. So nothing falls between the two, and what is in both
is merged by id. No socket, no timer, no clock, no chance in this file; ``client.py`` has them.

The rules are those of ``web/src/live/machine.ts``, with these differences:

- There is no person who presses "Try again", and no page that sleeps; after the end nothing is read.
- A consumer that falls behind lets go of its socket, and resumes once it has caught up.
- A refusal that is no verdict ("unavailable") brings the backoff at once, not after the handshake limit.
- Cut off as too slow while it was being replayed to, it asks for no replay again.
"""

from __future__ import annotations

from typing import Any, assert_never

from msgspec.structs import replace

from domain.protocol import CloseCode
from guildhall.live.backoff import backoff_s, restart_delay_s
from guildhall.live.messages import Event, Events, Refusal, ServerFrame, Subscribe, Subscribed
from guildhall.live.words import (
    TIMERS,
    Applied,
    CancelTimer,
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
    Phase,
    Position,
    Reset,
    Resting,
    Send,
    SetTimer,
    Start,
    State,
    Stop,
    Streaming,
    Subscribing,
    Syncing,
    Timer,
    TimerFired,
)

LOST = 1006
"""What a connection counts as closed with that ended without a word (RFC 6455, 7.1.5)."""

CROWDED_OUT_LIMIT = 5
"""A client that comes back may find its own last socket still counted, when what held that one died."""

ATTEMPTS_BEHIND_TOO_MUCH = 4
"""What is counted comes back within a minute; asking again at once would be counted too."""

ATTEMPTS_BEHIND_A_BAD_MESSAGE = 5
"""We said something that the server does not take; saying it again soon would not help."""


Step = tuple[State, list[Command]]


def step(state: State, happened: Input, env: Env) -> Step:
    """Return the new state and what to do, in this order."""
    if isinstance(state.phase, Ended):
        return state, []
    match happened:
        case Opened():
            return _subscribe(state) if isinstance(state.phase, Opening) else (state, [])
        case FrameCame(frame):
            return _on_frame(state, frame, env)
        case Closed(code):
            return _on_closed(state, code, env)
        case Loaded(load, snapshot):
            return _on_loaded(state, load, snapshot, env)
        case NotLoaded(load, failure):
            return _on_not_loaded(state, load, failure, env)
        case TimerFired(timer):
            return _on_timer(state, timer, env)
        case _:
            return _on_wish(state, happened, env)


def _on_wish(state: State, wish: Start | Stop | FellBehind | CaughtUp, env: Env) -> Step:
    match wish:
        case Start() if isinstance(state.phase, Idle):
            return _connect(state, env)
        case Stop():
            return _leave(replace(state, loading=False), Idle())
        case FellBehind() if isinstance(state.phase, Streaming):
            return _leave(state, LetGo())
        case CaughtUp() if isinstance(state.phase, LetGo):
            return _connect(state, env)
        case _:
            return state, []


def _connect(state: State, env: Env) -> Step:
    return replace(state, phase=Opening()), [Connect(), SetTimer("handshake", env.limits.handshake_s)]


def _subscribe(state: State) -> Step:
    frame = Subscribe(state.guild_id, *(state.position or ()))
    return replace(state, phase=Subscribing()), [Send(frame)]


def _leave(state: State, phase: Phase) -> Step:
    """Give up the socket. A half-loaded state cannot be resumed, so its position is given up too."""
    position = None if isinstance(state.phase, Syncing) else state.position
    commands: list[Command] = [Disconnect(), *(CancelTimer(timer) for timer in TIMERS)]
    return replace(state, phase=phase, position=position, load_attempt=0), commands


def _on_frame(state: State, frame: ServerFrame, env: Env) -> Step:
    if isinstance(frame, Refusal):
        return _on_refusal(state, frame, env)
    if frame.guild_id != state.guild_id:
        return state, []
    if isinstance(frame, Subscribed):
        return _on_subscribed(state, frame, env)
    return _on_events(state, frame, env)


def _on_refusal(state: State, refusal: Refusal, env: Env) -> Step:
    if refusal.code == "not_allowed":
        return _leave(state, Ended("not_allowed"))
    if not isinstance(state.phase, Subscribing):
        return state, []
    # The question was answered, and nothing more will come of it.
    least = ATTEMPTS_BEHIND_TOO_MUCH if refusal.code == "too_many_requests" else 0
    return _wait(replace(state, attempt=max(state.attempt, least)), env, LOST)


def _on_subscribed(state: State, answer: Subscribed, env: Env) -> Step:
    if not isinstance(state.phase, Subscribing | Syncing | Streaming):
        return state, []
    position, state = state.position, replace(state, crowded_out=0)
    connected: list[Command] = [CancelTimer("handshake"), SetTimer("stable", env.limits.stable_after_s)]
    continues = (
        answer.recovered
        and not isinstance(state.phase, Syncing)
        and position is not None
        and position.epoch == answer.epoch
        and position.offset <= answer.offset
    )
    if continues:
        # The answer may name the head of the stream with the replay still to come: our own count goes on.
        connected.append(SetTimer("replay", env.limits.replay_s))
        live = replace(state, phase=Streaming(resumed=True), promised=answer.offset, was_live=True)
        return live, connected
    synced, load = _sync(state, Position(answer.epoch, answer.offset), ())
    return synced, connected + load


def _sync(state: State, position: Position, buffer: tuple[Event, ...]) -> Step:
    """Take a position, then read the state that it continues."""
    load = state.load + 1
    synced = replace(state, phase=Syncing(buffer), position=position, load=load, loading=True)
    return synced, [CancelTimer("replay"), CancelTimer("reload"), Load(load)]


def _on_events(state: State, frame: Events, env: Env) -> Step:
    phase, position = state.phase, state.position
    if not isinstance(phase, Streaming | Syncing) or position is None:
        return state, []
    same_epoch = frame.epoch == position.epoch
    unseen = frame.events
    if same_epoch:
        unseen = tuple(event for event in unseen if event.offset > position.offset)
    if not unseen:
        return state, []
    first, last = unseen[0], unseen[-1]
    whole = all(event.offset == first.offset + index for index, event in enumerate(unseen))
    reached = Position(frame.epoch, last.offset)
    if not (same_epoch and first.offset == position.offset + 1 and whole):
        # Something is missing. From this frame on nothing is: this is the position to read state after.
        return _sync_paced(state, reached, unseen if whole else (last,), env)
    if isinstance(phase, Streaming):
        return replace(state, position=reached), [Applied(unseen)]
    if len(phase.buffer) + len(unseen) > env.limits.buffered_events:
        return _sync(state, reached, ())
    return replace(state, phase=Syncing((*phase.buffer, *unseen)), position=reached), []


def _sync_paced(state: State, position: Position, buffer: tuple[Event, ...], env: Env) -> Step:
    """Read anew. A stream that keeps breaking must not become a flood of requests: the second time waits."""
    if state.load_attempt == 0:
        return _sync(replace(state, load_attempt=1), position, buffer)
    waiting = replace(
        state,
        phase=Syncing(buffer),
        position=position,
        loading=False,  # the load under way may be from before the hole: its answer must not be taken
        load_attempt=state.load_attempt + 1,
    )
    return waiting, [SetTimer("reload", backoff_s(state.load_attempt - 1, env.random, env.limits))]


def _on_loaded(state: State, load: int, snapshot: Any, env: Env) -> Step:
    if load != state.load or not state.loading:
        return state, []
    loaded = replace(state, loading=False, has_data=True)
    commands: list[Command] = [Reset(snapshot)]
    if not isinstance(state.phase, Syncing):
        # Away from the stream it still is the best there is; there is just nothing that continues it.
        return replace(loaded, position=None), commands
    if state.phase.buffer:
        commands.append(Applied(state.phase.buffer))
    commands.append(SetTimer("stable", env.limits.stable_after_s))
    return replace(loaded, phase=Streaming(resumed=False), promised=0, was_live=True), commands


def _on_not_loaded(state: State, load: int, failure: LoadFailure, env: Env) -> Step:
    if load != state.load or not state.loading:
        return state, []
    failed = replace(state, loading=False)
    if failure == "unauthorized":
        return _leave(failed, Ended("session_over"))
    if failure == "forbidden":
        return _leave(failed, Ended("not_allowed"))
    if not isinstance(state.phase, Syncing):
        return failed, []  # the next connection asks again
    after_s = backoff_s(state.load_attempt, env.random, env.limits)
    return replace(failed, load_attempt=state.load_attempt + 1), [SetTimer("reload", after_s)]


def _on_closed(state: State, code: int, env: Env) -> Step:
    if not isinstance(state.phase, Opening | Subscribing | Syncing | Streaming):
        return state, []
    match code:
        case CloseCode.SESSION_ENDED:
            return _leave(state, Ended("session_over"))
        case CloseCode.NOT_ALLOWED:
            return _leave(state, Ended("not_allowed"))
        case CloseCode.TOO_MANY_SOCKETS if state.was_live and state.crowded_out < CROWDED_OUT_LIMIT:
            # One that was just opened is one too many; one that was live has lost its place: it waits.
            return _wait(replace(state, crowded_out=state.crowded_out + 1), env, code)
        case CloseCode.TOO_MANY_SOCKETS:
            return _leave(state, Ended("too_many_sockets"))
        case CloseCode.SERVICE_RESTART:
            return _wait(state, env, code, restart_delay_s(env.random, env.limits))
        case CloseCode.TOO_SLOW if state.position is not None and state.position.offset < state.promised:
            # The replay itself was more than the server queues for a socket; it would be again.
            left, commands = _wait(state, env, code)
            return replace(left, position=None), commands
        case CloseCode.TRY_AGAIN_LATER | CloseCode.TOO_MANY_MESSAGES:
            return _wait(replace(state, attempt=max(state.attempt, ATTEMPTS_BEHIND_TOO_MUCH)), env, code)
        case CloseCode.BAD_MESSAGE:
            attempt = max(state.attempt, ATTEMPTS_BEHIND_A_BAD_MESSAGE)
            left, commands = _wait(replace(state, attempt=attempt), env, code)
            return replace(left, position=None), commands
        case _:
            return _wait(state, env, code)


def _wait(state: State, env: Env, code: int, delay_s: float | None = None) -> Step:
    after_s = backoff_s(state.attempt, env.random, env.limits) if delay_s is None else delay_s
    left, commands = _leave(replace(state, attempt=state.attempt + 1), Resting(after_s, code))
    commands.append(SetTimer("reconnect", after_s))
    if left.has_data or left.loading:
        return left, commands
    # Without a stream there still is something to know, as long as nobody takes it for live.
    load = left.load + 1
    return replace(left, load=load, loading=True), [*commands, Load(load)]


def _on_timer(state: State, timer: Timer, env: Env) -> Step:
    phase, position = state.phase, state.position
    match timer:
        case "reconnect":
            return _connect(state, env) if isinstance(phase, Resting) else (state, [])
        case "handshake":
            return _wait(state, env, LOST) if isinstance(phase, Opening | Subscribing) else (state, [])
        case "stable":
            load_attempt = 0 if isinstance(phase, Streaming) else state.load_attempt
            return replace(state, attempt=0, load_attempt=load_attempt), []
        case "reload":
            if isinstance(phase, Syncing) and not state.loading and position is not None:
                return _sync(state, position, phase.buffer)
        case "replay":
            if isinstance(phase, Streaming) and position is not None and position.offset < state.promised:
                return _sync(state, Position(position.epoch, state.promised), ())
        case _:
            assert_never(timer)
    return state, []
