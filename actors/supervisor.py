"""The supervisor: notices that what it owns ended, hangs or is blind, and gives it a new life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple, Protocol

import msgspec
import structlog

from actors.backoff import Backoff
from domain.errors import ActorEnded, GuildhallError, ServiceFailed
from domain.supervision import ChildCondition, ChildView

log = structlog.get_logger()

KILL_TIMEOUT_S = 10.0


class ChildPolicy(msgspec.Struct, frozen=True):
    """How soon a child counts as lost, and how patiently it is started again.

    What hangs is noticed within ``missed_probes * (probe_every_s + probe_timeout_s)``: ten seconds. An
    actor of which Ray says that it has ended is replaced after one probe.
    """

    probe_every_s: float = 2.0
    probe_timeout_s: float = 3.0
    missed_probes: int = 2
    """Probes in a row that may stay unanswered. From the second on, the child is called unhealthy."""
    start_timeout_s: float = 60.0
    """For how long a start may show no progress."""
    unhealthy_for_s: float = 600.0
    """For how long a child may answer that it is not well before it is replaced."""
    backoff: Backoff = Backoff()
    """Of its lives; one is stable that was well for so long without a break."""


class ChildEnded(Exception):
    """A probe's certain answer that there is no life any more: the child is replaced at once."""


class Complaint(NamedTuple):
    """Why a child is not well although it answers."""

    why: str
    waits: bool = False
    """Whether it waits for something that a new life would have to wait for as well."""


class Child(Protocol):
    """Something that lives for long, outside of this process. Any exception is an answer: it is not well."""

    async def start(self) -> None:
        """Begin a life; return once it does its work."""
        ...

    async def progress(self) -> Hashable:
        """Say how far a start is; asked while ``start`` runs. Every change gives it more time."""
        ...

    async def probe(self) -> Complaint | None:
        """Return None when it is well, or why it is not although it answers."""
        ...

    async def kill(self) -> None:
        """End its life, begun or not, and free what a next one needs. There may be none."""
        ...


class _Kept:
    """A child with what is remembered of its lives."""

    def __init__(self, name: str, child: Child, policy: ChildPolicy, now_ms: int) -> None:
        self.name, self.child, self.policy = name, child, policy
        self.state: ChildCondition = "starting"
        self.since_ms = now_ms
        self.restarts = 0
        self.error: str | None = None
        self.stable = False
        """Whether this life was well for long enough."""
        self.failures = 0
        """Lives in a row that ended before they were stable."""


class Supervisor:
    """Owns children by name, each with a task of its own, so that none waits for another."""

    def __init__(self, now_ms: Callable[[], int], jitter: Callable[[], float] = random.random) -> None:
        self._now_ms = now_ms
        self._jitter = jitter
        self._kept: dict[str, _Kept] = {}

    def own(self, name: str, child: Child, policy: ChildPolicy | None = None) -> None:
        """Take a child over; it begins to live with ``start``."""
        self._kept[name] = _Kept(name, child, policy or ChildPolicy(), self._now_ms())

    async def start(self, name: str) -> None:
        """Start a child for the first time; raise what went wrong, for nobody is to wait for a retry here."""
        kept = self._kept[name]
        await self._begin(kept)
        self._turn(kept, "healthy")

    def board(self) -> list[ChildView]:
        """Return how every child is, by name."""
        return [
            ChildView(
                name=kept.name,
                state=kept.state,
                since=kept.since_ms,
                restarts=kept.restarts,
                error=kept.error,
            )
            for _, kept in sorted(self._kept.items())
        ]

    async def run(self) -> None:
        """Look after all children for ever. Cancelled, it leaves them alive; otherwise it never returns."""
        async with asyncio.TaskGroup() as group:
            for kept in self._kept.values():
                group.create_task(self._look_after(kept), name=f"supervise {kept.name}")

    async def _look_after(self, kept: _Kept) -> None:
        while True:
            why = await self._until_lost(kept)
            kept.failures = 0 if kept.stable else kept.failures + 1
            await self._replace(kept, why)

    async def _until_lost(self, kept: _Kept) -> str:
        """Return why a child has to be replaced, as soon as it has."""
        policy, missed, unwell_since = kept.policy, 0, None
        loop = asyncio.get_running_loop()
        kept.stable, well_since = False, None
        while True:
            await asyncio.sleep(policy.probe_every_s)
            try:
                async with asyncio.timeout(policy.probe_timeout_s):
                    complaint = await kept.child.probe()
            except ChildEnded as error:
                return str(error)
            except Exception as error:  # noqa: BLE001 - whatever it was, the child did not answer well
                missed += 1
                log.info("child_not_well", child=kept.name, missed=missed, error=repr(error))
                if missed >= policy.missed_probes or isinstance(error, ActorEnded):
                    return _words(error)
                if missed > 1:
                    self._turn(kept, "unhealthy", _words(error))
                continue
            missed = 0
            if complaint is None:
                unwell_since = None
                well_since = loop.time() if well_since is None else well_since
                if loop.time() - well_since >= policy.backoff.stable_after_s:
                    kept.stable = True
                self._turn(kept, "healthy")
                continue
            well_since = None
            self._turn(kept, "unhealthy", complaint.why)
            unwell_since = loop.time() if unwell_since is None or complaint.waits else unwell_since
            if loop.time() - unwell_since >= policy.unhealthy_for_s:
                return complaint.why

    async def _replace(self, kept: _Kept, why: str) -> None:
        """End what is left of a life and begin another, however often that takes."""
        while True:
            self._turn(kept, "backing_off", why)
            log.warning("child_lost", child=kept.name, error=why, failures=kept.failures)
            await self._end(kept)
            await asyncio.sleep(kept.policy.backoff.pause_s(kept.failures, self._jitter()))
            kept.restarts += 1
            try:
                self._turn(kept, "starting")
                await self._begin(kept)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                why = _words(error)
                log.warning("child_not_started", child=kept.name, error=repr(error))
                kept.failures += 1
                continue
            self._turn(kept, "healthy")
            log.info("child_restarted", child=kept.name, restarts=kept.restarts)
            return

    async def _begin(self, kept: _Kept) -> None:
        """Start a child, and give it time for as long as it gets on; end one that fails."""
        starting = asyncio.ensure_future(kept.child.start())
        try:
            await self._until_started(kept, starting)
        except BaseException:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await self._end(kept)
            raise

    async def _until_started(self, kept: _Kept, starting: asyncio.Future[None]) -> None:
        policy, loop = kept.policy, asyncio.get_running_loop()
        moved, seen = loop.time(), None
        while not starting.done():
            await asyncio.wait({starting}, timeout=policy.probe_every_s)
            if starting.done():
                break
            now = await _within(kept.child.progress(), policy.probe_timeout_s)
            if now is not None and now != seen:
                moved, seen = loop.time(), now
            elif loop.time() - moved >= policy.start_timeout_s:
                raise ServiceFailed(f"{kept.name} made no progress for {policy.start_timeout_s:.0f} s.")
        starting.result()

    async def _end(self, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(KILL_TIMEOUT_S):
                await kept.child.kill()
        except Exception as error:  # noqa: BLE001 - the next start tells whether it mattered
            log.warning("child_not_killed", child=kept.name, error=_words(error))

    def _turn(self, kept: _Kept, state: ChildCondition, error: str | None = None) -> None:
        if state != kept.state:
            kept.state, kept.since_ms = state, self._now_ms()
        if error is not None:
            kept.error = error


async def _within(asking: Awaitable[Hashable], seconds: float) -> Hashable:
    """Return an answer; None when there is none, for whatever reason."""
    try:
        async with asyncio.timeout(seconds):
            return await asking
    except Exception:  # noqa: BLE001 - no answer is no progress
        return None


def _words(error: Exception) -> str:
    """Return what is wrong, for a person. Errors that are not ours may quote anything: only their kind."""
    if isinstance(error, GuildhallError):
        return str(error)
    return "It does not answer." if isinstance(error, TimeoutError) else f"It broke: {type(error).__name__}."
