"""How a replica hears what changes in the guilds of which it remembers something.

It listens to every host, as relays do, and asks a guild's host to be told of it. What it was told of
nothing, it may go on believing only while the host is heard at all: hosts give a sign of life every
second, and the Director replaces one that is silent after four seconds at the earliest. A replica that
has heard nothing for ``LEASE_S`` believes nothing any more, so no host's next life can have changed what
is still served from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Protocol

import structlog

from actors.observers import UNOBSERVED, Change
from actors.routing import GuildDirectory, HostCalls
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable
from serve_app.host_links import HostLink, HostLinks

log = structlog.get_logger()

LEASE_S = 3.0
OBSERVE_WITHIN_S = 0.5
"""A request waits so long for a host at most; then it is answered, and the answer not remembered."""
OBSERVE_TRIES = 2
TIDY_EVERY_S = 30.0


class Memory(Protocol):
    """What is remembered. See :class:`serve_app.cache.Caches`."""

    def changed(self, guild_id: int, what: str) -> None:
        """Forget what a change may have made untrue."""
        ...

    def forget(self, guild_id: int) -> None:
        """Forget everything of a guild."""
        ...

    def guilds(self) -> set[int]:
        """Return the guilds of which something is remembered, or about to be."""
        ...


class _Observation:
    """A guild that is observed, or being asked for."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.listener_id = ""
        """The stream on which it is told; it ends with that."""
        self.host: HostCalls
        self.stands = False
        self.asking: asyncio.Task[None]


class GuildWatch:
    """Implements :class:`serve_app.cache.Watch`. Killed, it loses nothing: its memory goes with it."""

    def __init__(self, directory: GuildDirectory, now_s: Callable[[], float] | None = None) -> None:
        self._directory = directory
        self._now_s = now_s or asyncio.get_running_loop().time
        self._links: HostLinks[Change] = HostLinks(
            directory, lambda host, observer_id: host.changes(observer_id), self
        )
        self._memory: Memory
        self._observations: dict[int, _Observation] = {}
        self._heard_s: dict[str, float] = {}
        """When each stream that stands last said something."""
        self._turns = count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, memory: Memory) -> None:
        """Begin to listen on behalf of a memory, as soon as the Director says where the hosts are."""
        self._memory = memory
        self._spawn(self._live())

    async def stop(self) -> None:
        """Listen no more."""
        tasks = [*self._tasks, *self._links.tasks()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def observes(self, guild_id: int) -> bool:
        """See the protocol."""
        observation = self._observations.get(guild_id)
        return observation is not None and observation.stands and self._heard(observation.listener_id)

    async def observe(self, guild_id: int) -> bool:
        """See the protocol."""
        if not self._directory.known:
            return False
        observation = self._observations.get(guild_id)
        if observation is None:
            observation = self._observations[guild_id] = _Observation(next(self._turns))
            observation.asking = self._spawn(self._ask(guild_id, observation))
        if not observation.stands:
            # Not ended when this request is out of patience: a late answer still serves the next.
            await asyncio.wait({observation.asking}, timeout=OBSERVE_WITHIN_S)
        return self.observes(guild_id)

    # -- what the streams say ---------------------------------------------------------------------------

    def deliver(self, listener_id: str, items: list[Change]) -> None:
        """Pass on what changed."""
        if listener_id in self._heard_s and not self._heard(listener_id):
            self._end(listener_id)  # it was silent for longer than it was believed
        self._heard_s[listener_id] = self._now_s()
        for guild_id, what in items:
            if what != UNOBSERVED:
                self._memory.changed(guild_id, what)
            elif (known := self._observations.get(guild_id)) and known.listener_id == listener_id:
                del self._observations[guild_id]
                self._memory.forget(guild_id)

    def stream_ended(self, listener_id: str) -> None:
        """Forget all that this stream would have told of."""
        self._heard_s.pop(listener_id, None)
        self._end(listener_id)

    def _heard(self, listener_id: str) -> bool:
        heard_s = self._heard_s.get(listener_id)
        return heard_s is not None and self._now_s() - heard_s <= LEASE_S

    def _end(self, listener_id: str) -> None:
        ended = [guild for guild, of in self._observations.items() if of.listener_id == listener_id]
        for guild_id in ended:
            del self._observations[guild_id]
            self._memory.forget(guild_id)

    # -- what is said to the hosts ------------------------------------------------------------------------

    async def _ask(self, guild_id: int, observation: _Observation) -> None:
        try:
            for _ in range(OBSERVE_TRIES):
                version = self._directory.routing.placement.version
                link = self._links.link_of(guild_id)
                if self._silent(link) or not await link.stands(OBSERVE_WITHIN_S):
                    break
                observation.listener_id, observation.host = link.listener_id, link.host
                try:
                    await link.host.observe(link.listener_id, guild_id, observation.turn)
                except (NotOwner, HostUnreachable):
                    if not await self._links.refreshed(version):
                        break
                else:
                    # Unless its stream said meanwhile that it hears of this guild no more.
                    observation.stands = self._observations.get(guild_id) is observation
                    break
        except Exception:
            log.exception("not_observed", guild=guild_id)
        finally:
            if not observation.stands and self._observations.get(guild_id) is observation:
                del self._observations[guild_id]

    def _silent(self, link: HostLink[Change]) -> bool:
        """Whether nothing is to be expected of a host right now: then nobody waits for it."""
        return link.broken or (link.listener_id in self._heard_s and not self._heard(link.listener_id))

    async def _live(self) -> None:
        while not self._directory.known:
            try:
                await self._directory.start()
            except (HostUnreachable, StoreUnavailable) as problem:
                log.warning("nothing_can_be_remembered", error=repr(problem))
        self._links.start()
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            self.tidy()

    def tidy(self) -> None:
        """Observe no more what nothing is remembered of."""
        needed = self._memory.guilds()
        for guild_id, observation in list(self._observations.items()):
            if observation.stands and guild_id not in needed:
                del self._observations[guild_id]
                self._spawn(self._unobserve(guild_id, observation))

    async def _unobserve(self, guild_id: int, observation: _Observation) -> None:
        with contextlib.suppress(HostUnreachable):  # then it goes with the stream
            await observation.host.unobserve(observation.listener_id, guild_id, observation.turn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
