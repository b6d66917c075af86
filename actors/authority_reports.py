"""On the runner's side: tells the Rbac actor who lost or gained authority, as fast as it can be told.

Now and then it also tells that this was all: the actor relies on it, and asks Discord for nothing that it
would have been told. Best effort and bounded: after a notice that was lost, everything counts as missed.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import structlog
from msgspec.structs import replace

from domain.authority import AuthorityNotice, GuildAuthority, MemberAuthority
from domain.errors import GuildhallError
from domain.gateway_hearing import ShardHeard
from domain.ports import ShardState
from tasks import SupervisedTasks

log = structlog.get_logger()

MAX_WAITING = 20_000
"""Members and guilds of which something is to be told; beyond it the oldest go."""
AT_ONCE = 500
GATHER_S = 0.01
HEARING_EVERY_S = 15.0
"""So often it is told that all was told. Much less than an answer is good for after the last time."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0

_About = tuple[int, int | None]


class AuthoritySink(Protocol):
    """Who is told. See :class:`actors.rbac.Rbac`."""

    async def heard(self, notices: list[AuthorityNotice], shards: Sequence[ShardHeard] = ()) -> None:
        """Take notices, in their order; with them all is told that ``shards`` have heard."""
        ...


class AuthorityReports:
    """Owns the notices that are on their way. Killed, it loses them."""

    def __init__(
        self, find_sink: Callable[[], AuthoritySink], shard_count: int, now_ms: Callable[[], int]
    ) -> None:
        """Take what finds the sink; it may block, and fail while there is none."""
        self._find_sink = find_sink
        self._shard_count = shard_count
        self._shards: Callable[[], Sequence[ShardState]] = tuple
        self._now_ms = now_ms
        self._life = secrets.token_hex(8)
        self._sink: AuthoritySink | None = None
        self._waiting: dict[_About, AuthorityNotice] = {}
        self._something = asyncio.Event()
        self._tasks = SupervisedTasks("authority reports")
        self.lost = 0
        """Notices that had no room, or that the sink could not take."""

    def start(self, shards: Callable[[], Sequence[ShardState]]) -> None:
        """Begin to tell, also how the shards stand."""
        self._shards = shards
        self._tasks.keep("send", self._send_forever)
        self._tasks.every("hearing", HEARING_EVERY_S, self._tell_hearing)

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
            missed = notice.missed or earlier.missed
            notice = replace(notice, deleted=notice.deleted | earlier.deleted, missed=missed)
        if len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.lost += 1
        self._waiting[about] = notice
        self._something.set()

    async def _tell_hearing(self) -> None:
        self._something.set()

    def _heard(self) -> list[ShardHeard]:
        """Return the shards whose session goes on, if everything that they heard is in the next batch."""
        now_ms = self._now_ms()
        if len(self._waiting) > AT_ONCE:
            return []
        return [
            ShardHeard(
                shard.shard_id,
                self._shard_count,
                f"{self._life}:{shard.session.session_id}:{self.lost}",
                (now_ms - shard.heard_ms) / 1000,
            )
            for shard in self._shards()
            # A time from the future is no time: the clock was set back.
            if shard.session is not None and shard.heard_ms is not None and shard.heard_ms <= now_ms
        ]

    async def _send_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        self._something.set()
        while True:
            await self._something.wait()
            await asyncio.sleep(GATHER_S)
            self._something.clear()
            shards, batch = self._heard(), list(islice(self._waiting.values(), AT_ONCE))
            if not batch and not shards:
                continue
            try:
                if self._sink is None:
                    self._sink = await asyncio.to_thread(self._find_sink)
                await self._sink.heard(batch, shards)
            except (GuildhallError, ValueError) as problem:  # Ray finds no such actor: ValueError
                log.warning("authority_not_told", notices=len(self._waiting), error=repr(problem))
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
                self._something.set()
                continue
            except Exception:
                # It would break again: without this batch the others get through.
                log.exception("authority_reports_broke")
                self.lost += len(batch)
            retry_s = FIRST_RETRY_S
            for notice in batch:
                if self._waiting.get(_about(notice)) is notice:
                    del self._waiting[_about(notice)]
            if self._waiting:
                self._something.set()


def _about(notice: AuthorityNotice) -> _About:
    return notice.guild_id, notice.user_id if isinstance(notice, MemberAuthority) else None
