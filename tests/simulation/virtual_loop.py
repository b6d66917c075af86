"""An event loop on which time is a number, processes can be frozen and killed, and nothing is left to chance.

Order: asyncio runs what is ready first come, first served, and code may rely on that within a process, so
that is kept. Of timers that are due at the same moment it promises nothing: a seeded jitter of less than
a microsecond decides. All other disorder comes from where it comes from in life, the time that
messages, disks and databases take; see ``network.py``.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

JITTER_S = 1e-6

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""Whose code runs; None for the network, the database server and the test itself."""


class Stuck(Exception):
    """Nothing is ready, and nothing ever will be."""


class TooLong(Exception):
    """The simulation did not come to its end in the time that it had."""


class Process:
    """Something that can be frozen and killed as a whole, between any two steps of its tasks.

    A killed process runs nothing any more, not even its ``finally``: that is what a kill is.
    """

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name = name
        self.frozen = self.dead = False
        self.on_death: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._loop = loop
        self._parked: list[asyncio.Handle] = []
        self.context: Context = copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as this process's code."""
        return self.context.copy().run(function, *arguments)

    def park(self, handle: asyncio.Handle) -> None:
        """Keep what a frozen process would do now for when it thaws, and a dead one's for its burial."""
        self._parked.append(handle)

    def freeze(self) -> None:
        """Stop, wherever its tasks are."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on with everything that came due meanwhile, in its order."""
        self.frozen = False
        parked, self._parked = self._parked, []
        self._loop.resume(parked)

    def kill(self) -> None:
        """End: nothing of it runs from here on, and those who wait for its answers hear of it."""
        if self.dead:
            return
        self.dead, self.frozen = True, False
        for hear in self.on_death:
            hear()
        self.on_death.clear()


class VirtualLoop(asyncio.BaseEventLoop):
    """Jumps to the next timer when nothing is ready. Has no selector: real input and output fail."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.steps = 0
        self._now = 0.0
        self._burying = False
        self._chance = chance
        self.ends_at = float("inf")
        self.broken: list[str] = []
        self.set_exception_handler(self._note)
        self.set_task_factory(_adopted)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        """See asyncio; the jitter orders what is due at the same moment."""
        return super().call_at(when + self._chance.random() * JITTER_S, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Run a thread's work here, at one moment of virtual time, a little later."""
        del executor
        answer = self.create_future()

        def work() -> None:
            if answer.cancelled():
                return
            try:
                answer.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                answer.set_exception(error)

        self.call_later(self._chance.random() * 0.002, work)
        return answer

    def resume(self, handles: list[asyncio.Handle]) -> None:
        """Make ready what was parked."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise Stuck
            self._now = max(self._now, scheduled[0]._when)
            if self._now > self.ends_at:
                raise TooLong
        while scheduled and scheduled[0]._when <= self._now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and (process.frozen or process.dead) and not self._burying:
                process.park(handle)
                continue
            self.steps += 1
            handle._run()

    def _process_events(self, event_list: Any) -> None:
        raise NotImplementedError

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _note(self, _: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.broken.append(f"{context['message']}: {error!r}")

    def bury(self, processes: list[Process]) -> None:
        """Let the tasks of all processes end, so that nothing of them ends in another test."""
        tasks = [task for process in processes for task in process.tasks if not task.done()]
        self.set_exception_handler(lambda *_: None)
        self._burying = True
        for process in processes:
            process.thaw()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.cancel()
        events._set_running_loop(self)
        try:
            for _ in range(50):
                if not self._ready:  # type: ignore[attr-defined]
                    break
                self._scheduled.clear()  # type: ignore[attr-defined]
                self._run_once()
        finally:
            events._set_running_loop(None)


def _adopted(loop: Any, coroutine: Any, context: Context | None = None) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
    process = (context or copy_context()).get(PROCESS)
    if process is not None:
        if len(process.tasks) > 200:
            process.tasks = [other for other in process.tasks if not other.done()]
        process.tasks.append(task)
    return task
