"""On the runner's side: tells the Rbac actor who lost or gained authority, as fast as it can be told.

Best effort and bounded: what is lost here, a list that is asked for anew brings within ten minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Protocol

import structlog
from msgspec.structs import replace

from domain.authority import AuthorityNotice, GuildAuthority, MemberAuthority
from domain.errors import GuildhallError
from tasks import SupervisedTasks

log = structlog.get_logger()

MAX_WAITING = 20_000
"""Members and guilds of which something is to be told; beyond it the oldest go."""
AT_ONCE = 500
GATHER_S = 0.01
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0

_About = tuple[int, int | None]


class AuthoritySink(Protocol):
    """Who is told. See :class:`actors.rbac.Rbac`."""

    async def heard(self, notices: list[AuthorityNotice]) -> None:
        """Take notices, in their order."""
        ...


class AuthorityReports:
    """Owns the notices that are on their way. Killed, it loses them."""

    def __init__(self, find_sink: Callable[[], AuthoritySink]) -> None:
        """Take what finds the sink; it may block, and fail while there is none."""
        self._find_sink = find_sink
        self._sink: AuthoritySink | None = None
        self._waiting: dict[_About, AuthorityNotice] = {}
        self._something = asyncio.Event()
        self._tasks = SupervisedTasks("authority reports")
        self.lost = 0
        """Notices that had no room."""

    def start(self) -> None:
        """Begin to tell."""
        self._tasks.keep("send", self._send_forever)

    async def stop(self) -> None:
        """Tell nothing more."""
        await self._tasks.stop()

    def ailing(self) -> tuple[str, ...]:
        """Return the names of the loops that cannot go on."""
        return self._tasks.ailing()

    def add(self, notice: AuthorityNotice) -> None:
        """Tell a notice soon, in place of one about the same that still waits. Never waits, never raises."""
        about = _about(notice)
        earlier = self._waiting.pop(about, None)
        if isinstance(notice, GuildAuthority) and isinstance(earlier, GuildAuthority):
            notice = replace(notice, deleted=notice.deleted | earlier.deleted)
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.lost += 1
        self._waiting[about] = notice
        self._something.set()

    async def _send_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            await self._something.wait()
            await asyncio.sleep(GATHER_S)
            batch = list(islice(self._waiting.values(), AT_ONCE))
            try:
                if self._sink is None:
                    self._sink = await asyncio.to_thread(self._find_sink)
                await self._sink.heard(batch)
            except (GuildhallError, ValueError) as problem:  # Ray finds no such actor: ValueError
                log.warning("authority_not_told", notices=len(self._waiting), error=repr(problem))
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                continue
            except Exception:
                # It would break again: without this batch the others get through.
                log.exception("authority_reports_broke")
            retry_s = FIRST_RETRY_S
            for notice in batch:
                if self._waiting.get(_about(notice)) is notice:
                    del self._waiting[_about(notice)]
            if not self._waiting:
                self._something.clear()


def _about(notice: AuthorityNotice) -> _About:
    return notice.guild_id, notice.user_id if isinstance(notice, MemberAuthority) else None
