"""Whoever was turned away stands in the audit log. A flood of them fills neither memory nor the table."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import structlog

from domain.audit import AuditEntry, AuditLog
from domain.errors import StoreUnavailable
from tasks import SupervisedTasks

log = structlog.get_logger()

WINDOW_S = 60.0
"""The same denial again within this time makes a count higher, and no row."""
KINDS_PER_PERSON = 30
"""Kinds of denial of one person that are told apart at a time."""
KINDS = 10_000
LOOK_EVERY_S = 1.0
LAST_WRITE_WITHIN_S = 2.0


class Kind(NamedTuple):
    """Denials that are counted together. None stands for several: those that were too many to tell apart."""

    user_id: int | None
    guild_id: int | None
    reason: str | None
    """The error's code, as the person was told it."""
    permission: str | None = None


class Denial(NamedTuple):
    """Somebody was turned away, by which route and request."""

    kind: Kind
    method: str
    route: str
    """The path with its parameters' names: what people type into it is not noted."""
    request_id: str | None


class _Window(msgspec.Struct):
    """A kind of denial since it was first met, or since its count was last written."""

    began_s: float
    last: Denial
    count: int = 0
    """Denials that are not in the log yet."""
    written: bool = False

    def is_over(self, now_s: float) -> bool:
        return now_s - self.began_s >= WINDOW_S


class Denials:
    """Counts denials, and writes them to the audit log from one task of its own.

    Nobody who is turned away waits for the log. While it cannot be written, counts grow and nothing else.
    """

    def __init__(self, audit: AuditLog, monotonic_s: Callable[[], float]) -> None:
        self._audit = audit
        self._monotonic_s = monotonic_s
        self._windows: dict[Kind, _Window] = {}
        self._kinds_of: Counter[int | None] = Counter()
        self._something_new = asyncio.Event()
        self._tasks = SupervisedTasks("denials")

    def start(self) -> None:
        """Begin to write."""
        self._tasks.keep("write", self._write_forever)

    async def stop(self) -> None:
        """Write what is left, if that can be done soon."""
        await self._tasks.stop()
        try:
            async with asyncio.timeout(LAST_WRITE_WITHIN_S):
                await self.write(everything=True)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("denials_lost", error=repr(error))

    def note(self, denial: Denial) -> None:
        """Take note of a denial. The first of its kind is written at once, the others by the minute."""
        kind = self._told_apart(denial.kind)
        window = self._windows.get(kind)
        if window is None:
            window = self._windows[kind] = _Window(self._monotonic_s(), denial)
            self._kinds_of[kind.user_id] += 1
            self._something_new.set()
        window.count += 1
        window.last = denial

    async def write(self, *, everything: bool = False) -> None:
        """Write what is new and what was counted in minutes that are over, or every count there is.

        Raises:
            StoreUnavailable: nothing is forgotten, the next call tries again.

        """
        now_s = self._monotonic_s()
        counts = {
            kind: window.count
            for kind, window in self._windows.items()
            if window.count and (everything or not window.written or window.is_over(now_s))
        }
        if counts:
            await self._audit.record([self._entry(kind, count) for kind, count in counts.items()])
        for kind, window in list(self._windows.items()):
            if kind in counts:
                window.count -= counts[kind]  # more may have come while these were written
                window.written = True
                window.began_s = now_s if window.is_over(now_s) else window.began_s
            elif window.is_over(now_s) and not window.count:
                self._forget(kind)

    def _told_apart(self, kind: Kind) -> Kind:
        """Return the kind that a denial is counted as: its own while there is room."""
        if kind in self._windows:
            return kind
        if len(self._windows) >= KINDS:
            return Kind(None, None, None)
        return kind if self._kinds_of[kind.user_id] < KINDS_PER_PERSON else Kind(kind.user_id, None, None)

    def _forget(self, kind: Kind) -> None:
        del self._windows[kind]
        self._kinds_of[kind.user_id] -= 1
        if not self._kinds_of[kind.user_id]:
            del self._kinds_of[kind.user_id]

    def _entry(self, kind: Kind, count: int) -> AuditEntry:
        last = self._windows[kind].last
        return AuditEntry(
            guild_id=kind.guild_id,
            actor_id=kind.user_id,
            action="access.denied",
            details={
                "reason": kind.reason,
                "permission": kind.permission,
                "method": last.method,
                "route": last.route,
                "count": count,
            },
            request_id=last.request_id,
        )

    async def _write_forever(self) -> None:
        while True:
            self._something_new.clear()
            try:
                await self.write()
            except StoreUnavailable as error:
                log.warning("denials_wait", error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)
            except Exception:
                log.exception("denials_broke")  # the next look tries again
                await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._something_new.wait()
