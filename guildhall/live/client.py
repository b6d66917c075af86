"""Runs the machine: the socket, the timers, the loads and the consumer."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from guildhall.live.limits import Limits
from guildhall.live.machine import LOST, step
from guildhall.live.messages import Subscribe, encode, parse_frame
from guildhall.live.outbox import Outbox, Update
from guildhall.live.status import FollowingEnded, LoadFailed, Status, status_of
from guildhall.live.words import (
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
    Input,
    LetGo,
    Load,
    Loaded,
    NotLoaded,
    Opened,
    Reset,
    Send,
    SetTimer,
    Start,
    State,
    Stop,
    Timer,
    TimerFired,
)

# Of the standard library: a program that uses this one says for itself what is logged, and where.
log = logging.getLogger(__name__)

S = TypeVar("S")

MAX_FRAME_BYTES = 8 << 20
"""The longest frame is a replay: a host remembers 1,000 events of a guild, of 3 kB at the very most."""

CLOSE_WITHIN_S = 2.0
"""A server that is gone says no goodbye."""

_SCHEMES = {"http": "ws", "https": "wss"}


def follow(
    url: str,
    guild_id: str | int,
    *,
    load: Callable[[], Awaitable[S]],
    cookie: str | None = None,
    limits: Limits | None = None,
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[Update[S], None]:
    """Follow a guild until it ends for good or nobody iterates any more.

    Yields :class:`Reset` with what ``load`` returned, :class:`Applied` with the next events, and a status
    (:class:`Connecting`, :class:`Live`, :class:`Waiting`, :class:`Behind`) whenever that changes. A ``Reset``
    replaces all that was given before it; events of an ``Applied`` follow it without a gap, each once. What
    was read may already hold some of them: merge by id (:class:`ViolationList` does).

    Leaving the loop closes the socket; ``contextlib.aclosing`` around it does so at a known moment.

    A consumer may be slow. Up to ``limits.queued_events`` events wait for it; beyond that the socket is let
    go (:class:`Behind`), and taken up again where it stopped once the consumer has taken what waits: by
    replay if the server still remembers, otherwise by a ``Reset``. So memory stays bounded, and what is seen
    in the end is the same.

    Args:
        url: the dashboard's address, as ``https://guildhall.example``.
        guild_id: the guild's Discord id.
        load: reads the state that the events continue. It is called again after each gap, and cancelled when
            its answer is of no use any more. It raises :class:`LoadFailed` or any ``OSError`` when it could
            not; anything else that it raises ends the following and comes out of the loop.
        cookie: opens the session, as a browser sends it: ``guildhall=…``; ``__Host-guildhall=…`` behind TLS.
        limits: times and sizes; the defaults are those of the dashboard's page.
        chance: draws numbers from 0 to 1 that spread the times at which clients come back.

    Raises:
        FollowingEnded: the session is over, or this person may not (any more).
        ValueError: the address is not one of HTTP.

    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.netloc:
        raise ValueError(f"{url!r} is no address of a dashboard: it begins with http:// or https://.")
    address = f"{_SCHEMES[parts.scheme]}://{parts.netloc}{parts.path.rstrip('/')}/ws"
    follower = _Follower(
        address, str(guild_id), load=load, cookie=cookie, limits=limits or Limits(), chance=chance
    )
    return _updates_of(follower)


async def _updates_of(follower: _Follower[S]) -> AsyncGenerator[Update[S], None]:
    follower.feed(Start())
    try:
        while True:
            yield await follower.next()
    finally:
        await follower.stop()


class _Follower(Generic[S]):
    """Does what the machine commands, and tells it what came of that."""

    def __init__(
        self,
        address: str,
        guild_id: str,
        *,
        load: Callable[[], Awaitable[S]],
        cookie: str | None,
        limits: Limits,
        chance: Callable[[], float],
    ) -> None:
        self._address = address
        self._load = load
        self._headers = {} if cookie is None else {"Cookie": cookie}
        self._limits = limits
        self._chance = chance
        self._state = State(guild_id)
        self._outbox: Outbox[S] = Outbox(limits.queued_events)
        self._status: Status | None = None
        self._socket: asyncio.Task[None] | None = None
        """The current one: what an earlier socket still says is not for the machine."""
        self._loading: asyncio.Task[None] | None = None
        self._to_send: list[Subscribe] = []
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def next(self) -> Update[S]:
        """Return the next update."""
        if self._outbox.empty and isinstance(self._state.phase, LetGo):
            self.feed(CaughtUp())
        return await self._outbox.take()

    async def stop(self) -> None:
        """Close everything, and wait for that."""
        self.feed(Stop())
        for timer in self._timers.values():  # also where it had ended, and the machine says no more
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def feed(self, happened: Input) -> None:
        """Tell the machine what happened, and do what it says."""
        try:
            self._state, commands = step(self._state, happened, Env(self._chance(), self._limits))
            for command in commands:
                self._do(command)
        except Exception as broken:  # noqa: BLE001 - of whatever kind: the consumer must not wait for ever
            self._outbox.end(broken)
            return
        if isinstance(self._state.phase, Ended):
            self._outbox.end(FollowingEnded(self._state.phase.why))
            return
        if (status := status_of(self._state)) != self._status:
            self._status = status
            self._outbox.put(status)
        if self._outbox.overfull and not isinstance(happened, FellBehind):
            self.feed(FellBehind())

    def _do(self, command: Command) -> None:
        match command:
            case Connect():
                self._drop_socket()
                self._socket = self._spawn(self._talk())
            case Disconnect():
                self._drop_socket()
            case Send(frame):
                self._to_send.append(frame)
            case Load(number):
                if self._loading is not None:
                    self._loading.cancel()
                self._loading = self._spawn(self._read_state(number))
            case SetTimer(timer, after_s):
                self._cancel_timer(timer)
                self._timers[timer] = asyncio.get_running_loop().call_later(
                    after_s, self.feed, TimerFired(timer)
                )
            case CancelTimer(timer):
                self._cancel_timer(timer)
            case Reset() | Applied():
                self._outbox.put(command)

    def _cancel_timer(self, timer: Timer) -> None:
        if (handle := self._timers.pop(timer, None)) is not None:
            handle.cancel()

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.cancel()
        self._socket = None
        self._to_send.clear()

    async def _talk(self) -> None:
        """Open a socket, and tell the machine what it says until it ends."""
        code = LOST
        try:
            # The relay sends the same bytes to all, so it compresses nothing. How long opening may take is
            # the machine's business.
            socket = await connect(
                self._address,
                additional_headers=self._headers,
                compression=None,
                open_timeout=None,
                close_timeout=CLOSE_WITHIN_S,
                max_size=MAX_FRAME_BYTES,
            )
            try:
                self._from_socket(Opened())
                while True:
                    while self._to_send:
                        await socket.send(encode(self._to_send.pop(0)).decode())
                    if (frame := parse_frame(await socket.recv(decode=False))) is not None:
                        self._from_socket(FrameCame(frame))
            except ConnectionClosed:
                code = socket.close_code or LOST
            finally:
                try:
                    await socket.close()
                finally:  # also when nobody waits for the goodbye any more
                    socket.transport.abort()
        except (OSError, WebSocketException) as problem:
            log.info("No socket to %s: %r", self._address, problem)
        except Exception as broken:  # noqa: BLE001 - as in feed
            self._outbox.end(broken)
        self._from_socket(Closed(code), last=True)

    def _from_socket(self, happened: Input, *, last: bool = False) -> None:
        if self._socket is asyncio.current_task():
            if last:
                self._socket = None
            self.feed(happened)

    async def _read_state(self, number: int) -> None:
        try:
            snapshot = await self._load()
        except LoadFailed as failed:
            log.info("The state was not read (%s): %s", failed.failure, failed)
            self.feed(NotLoaded(number, failed.failure))
        except OSError as problem:
            log.info("The state was not read: %r", problem)
            self.feed(NotLoaded(number, "unavailable"))
        except Exception as broken:  # noqa: BLE001 - the caller's own mistake is the caller's to see
            self._outbox.end(broken)
        else:
            self.feed(Loaded(number, snapshot))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
