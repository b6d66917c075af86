"""The streams from all hosts to one listener in this replica, kept up over all lives of each host."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

import structlog

from actors.routing import GuildDirectory, HostCalls
from domain.errors import HostUnreachable
from tasks import SupervisedTasks

log = structlog.get_logger()

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0

T = TypeVar("T")


class Listener(Protocol[T]):
    """Who is fed by the streams. Each stream has an id of its own, never used twice."""

    def deliver(self, listener_id: str, items: list[T]) -> None:
        """Take a list of a stream; the first says only that the stream stands."""
        ...

    def stream_ended(self, listener_id: str) -> None:
        """Know that a stream is over, and with it all that was registered on it."""
        ...


class HostLink(Generic[T]):
    """The stream from one host, kept up until that host is gone for good."""

    def __init__(self, host_id: str, host: HostCalls, links: HostLinks[T], tasks: SupervisedTasks) -> None:
        self.host_id = host_id
        self.host = host
        self.listener_id = ""
        self.broken = False
        """Whether the last stream ended, and none has stood since."""
        self.gone = False
        self._standing = asyncio.Event()
        self._links = links
        tasks.keep(f"stream of {host_id}", self._listen_forever, may_end=True)

    @property
    def heard(self) -> bool:
        """Whether the stream stands now."""
        return self._standing.is_set() and not self.gone

    async def stands(self, within_s: float) -> bool:
        """Wait for the stream; return whether it stands."""
        try:
            async with asyncio.timeout(within_s):
                while not self._standing.is_set():  # it may have broken again before this task ran
                    await self._standing.wait()
        except TimeoutError:
            return False
        return not self.gone

    async def _listen_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        listener = self._links.listener
        while True:
            # A new id each time: what the host still knows of the last stream goes with that stream.
            self.listener_id = secrets.token_hex(8)
            try:
                async for items in self._links.open_stream(self.host, self.listener_id):
                    if not self._standing.is_set():
                        self._standing.set()
                        self.broken = False
                        retry_s = FIRST_RETRY_S
                    listener.deliver(self.listener_id, items)
            except HostUnreachable as problem:
                log.warning("host_stream_broke", host=self.host_id, error=str(problem))
            except Exception:
                # Whatever it was: without this task everybody who needs the host would stay deaf.
                log.exception("host_stream_broke", host=self.host_id)
            self._standing.clear()
            self.broken = True
            listener.stream_ended(self.listener_id)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            host = await self._links.newest_life(self.host_id)
            if host is None:
                self.gone = True
                self._standing.set()  # whoever waits need not any more: its guilds are elsewhere
                return
            self.host = host


class HostLinks(Generic[T]):
    """One link a host, for all hosts that the directory knows."""

    def __init__(
        self,
        directory: GuildDirectory,
        open_stream: Callable[[HostCalls, str], AsyncIterator[list[T]]],
        listener: Listener[T],
    ) -> None:
        self.open_stream = open_stream
        self.listener = listener
        self._directory = directory
        self._links: dict[str, HostLink[T]] = {}
        self._tasks = SupervisedTasks("host links")

    def __len__(self) -> int:
        return len(self._links)

    @property
    def standing(self) -> int:
        """How many streams stand now."""
        return sum(link.heard for link in self._links.values())

    def start(self) -> None:
        """Listen to every host there is."""
        for host_id, host in self._directory.routing.hosts.items():
            self._link(host_id, host)

    async def stop(self) -> None:
        """Listen no more."""
        await self._tasks.stop()

    def link_of(self, guild_id: int) -> HostLink[T]:
        """Return the link to the host that owns a guild, as far as is known."""
        return self._link(*self._directory.host_of(guild_id))

    async def refreshed(self, version: int) -> bool:
        """Learn of a placement newer than ``version``; return False when the Director is away."""
        try:
            await self._directory.refresh(version)
        except Exception as problem:  # noqa: BLE001 - whatever it is, what is known has to do
            log.warning("placement_not_refreshed", error=repr(problem))
            return False
        return True

    async def newest_life(self, host_id: str) -> HostCalls | None:
        """Return the host that goes by an id now; None when it was drained, and its link is forgotten."""
        await self.refreshed(self._directory.routing.placement.version)
        host = self._directory.routing.hosts.get(host_id)
        if host is None:
            self._links.pop(host_id, None)
        return host

    def _link(self, host_id: str, host: HostCalls) -> HostLink[T]:
        link = self._links.get(host_id)
        if link is None:
            link = self._links[host_id] = HostLink(host_id, host, self, self._tasks)
        return link
