"""How a replica hears what changes in the guilds of which it remembers something.

It listens to every host, as relays do, and asks a guild's host to be told of it. A stream says nothing while
nothing changes. What it was told of nothing, a replica may go on believing only for ``LEASE_S`` after the
host was last known to live and to have nothing on its way: once a second one message from the Director says
that of all hosts (:mod:`actors.signs`), and where that says nothing, the hosts themselves are asked. The
Director replaces a host that is silent after four seconds at the earliest, so no host's next life can have
changed what is still served from memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from itertools import count
from typing import Protocol

import structlog

from actors.observers import UNOBSERVED, Change
from actors.routing import GuildDirectory, HostCalls
from actors.signs import SignSource
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable
from serve_app.host_links import HostLinks
from tasks import SupervisedTasks

log = structlog.get_logger()

LEASE_S = 3.0
SIGNS_EVERY_S = 1.0
SIGNS_WITHIN_S = 0.5
FRESH_S = 1.5
"""A sign that is older is not waited for: the Director is busy or away, and the host itself is asked."""
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
        self.host_id = ""
        self.host: HostCalls
        self.stands = False
        self.asking: asyncio.Task[None]


class _Stream:
    """What is known of a stream that stands."""

    def __init__(self, now_s: float) -> None:
        self.stood_s = self.heard_s = now_s
        """When its host was last known to live, with nothing for us on its way."""
        self.told = 0
        """How many changes came."""

    def believed(self, now_s: float) -> bool:
        return now_s - self.heard_s <= LEASE_S


class GuildWatch:
    """Implements :class:`serve_app.cache.Watch`. Killed, it loses nothing: its memory goes with it."""

    def __init__(
        self, directory: GuildDirectory, signs: SignSource, now_s: Callable[[], float] | None = None
    ) -> None:
        self._directory = directory
        self._signs = signs
        self._now_s = now_s or asyncio.get_running_loop().time
        self._links: HostLinks[Change] = HostLinks(
            directory, lambda host, observer_id: host.changes(observer_id), self
        )
        self._memory: Memory
        self._observations: dict[int, _Observation] = {}
        self._streams: dict[str, _Stream] = {}
        self._slow: dict[str, tuple[str, HostCalls]] = {}
        """Streams whose hosts did not answer in time, and have not answered since: nobody waits for them."""
        self._turns = count(1)
        self._tasks = SupervisedTasks("guild watch")

    def start(self, memory: Memory) -> None:
        """Begin to listen on behalf of a memory, as soon as the Director says where the hosts are."""
        self._memory = memory
        self._tasks.keep("begin to listen", self._begin, may_end=True)

    async def stop(self) -> None:
        """Listen no more."""
        await self._links.stop()
        await self._tasks.stop()

    def observes(self, guild_id: int) -> bool:
        """See the protocol."""
        observation = self._observations.get(guild_id)
        return observation is not None and observation.stands and self._believed(observation.listener_id)

    async def observe(self, guild_id: int) -> bool:
        """See the protocol."""
        if not self._directory.known:
            return False
        observation = self._observations.get(guild_id)
        if observation is not None and observation.stands and not self._believed(observation.listener_id):
            self._end(observation.listener_id)  # its host was silent for longer than it is believed
            observation = None
        if observation is None:
            observation = self._observations[guild_id] = _Observation(next(self._turns))
            observation.asking = self._tasks.spawn("observe", self._ask(guild_id, observation))
        if not observation.stands and observation.listener_id not in self._slow:
            # Not ended when this request is out of patience: a late answer still serves the next.
            done, _ = await asyncio.wait({observation.asking}, timeout=OBSERVE_WITHIN_S)
            if not done and observation.listener_id:
                self._slow[observation.listener_id] = (observation.host_id, observation.host)
        return self.observes(guild_id)

    # -- what the streams say ---------------------------------------------------------------------------

    def deliver(self, listener_id: str, items: list[Change]) -> None:
        """Pass on what changed."""
        stream = self._streams.get(listener_id)
        if stream is None:
            self._streams[listener_id] = _Stream(self._now_s())
        else:
            stream.told += len(items)
            self._hear(listener_id, self._now_s())
        for guild_id, what in items:
            if what != UNOBSERVED:
                self._memory.changed(guild_id, what)
            elif (known := self._observations.get(guild_id)) and known.listener_id == listener_id:
                del self._observations[guild_id]
                self._memory.forget(guild_id)

    def stream_ended(self, listener_id: str) -> None:
        """Forget all that this stream would have told of."""
        self._streams.pop(listener_id, None)
        self._slow.pop(listener_id, None)
        self._end(listener_id)

    def _believed(self, listener_id: str) -> bool:
        stream = self._streams.get(listener_id)
        return stream is not None and stream.believed(self._now_s())

    def _hear(self, listener_id: str, at_s: float) -> None:
        """Know that a stream's host lived at a time, and that all it had told by then is here."""
        stream = self._streams.get(listener_id)
        if stream is None or at_s <= stream.heard_s:
            return
        if not stream.believed(self._now_s()):
            self._end(listener_id)  # it was silent for longer than it was believed
        stream.heard_s = at_s

    def _end(self, listener_id: str) -> None:
        ended = [guild for guild, of in self._observations.items() if of.listener_id == listener_id]
        for guild_id in ended:
            del self._observations[guild_id]
            self._memory.forget(guild_id)

    # -- who is alive -----------------------------------------------------------------------------------

    async def ask_for_signs(self) -> None:
        """Ask the Director which hosts live, and those themselves of which it says nothing new.

        Only of hosts that tell this replica of something: who remembers nothing asks nothing.
        """
        streams = {of.host_id: (of.listener_id, of.host) for of in self._observations.values() if of.stands}
        streams |= {host_id: (listener_id, host) for listener_id, (host_id, host) in self._slow.items()}
        if not streams:
            return
        asked_s = self._now_s()
        try:
            async with asyncio.timeout(SIGNS_WITHIN_S):
                signs = await self._signs.signs({host_id: of for host_id, (of, _) in streams.items()})
        except (HostUnreachable, TimeoutError):
            signs = {}
        unsaid = []
        for host_id, (listener_id, host) in streams.items():
            sign = signs.get(host_id)
            if sign is None or sign.age_s > FRESH_S:
                unsaid.append(self._ask_host(listener_id, host))
            else:
                self._believe(listener_id, asked_s - sign.age_s, sign.told)
        await asyncio.gather(*unsaid)

    async def _ask_host(self, listener_id: str, host: HostCalls) -> None:
        asked_s = self._now_s()
        with contextlib.suppress(HostUnreachable, TimeoutError):
            async with asyncio.timeout(SIGNS_WITHIN_S):
                ping = await host.ping()
            if not ping.fenced:
                self._believe(listener_id, asked_s, ping.told.get(listener_id))

    def _believe(self, listener_id: str, at_s: float, told: int | None) -> None:
        """Take a sign; it counts only when everything is here that was told by then."""
        stream = self._streams.get(listener_id)
        if stream is None or at_s <= stream.stood_s:
            return
        self._slow.pop(listener_id, None)
        if told is None:
            self._end(listener_id)  # its host, in the life that is valid now, does not tell us anything
        elif told <= stream.told:
            self._hear(listener_id, at_s)

    # -- what is said to the hosts ------------------------------------------------------------------------

    async def _ask(self, guild_id: int, observation: _Observation) -> None:
        try:
            for _ in range(OBSERVE_TRIES):
                version = self._directory.routing.placement.version
                link = self._links.link_of(guild_id)
                if link.broken or link.listener_id in self._slow or not await link.stands(OBSERVE_WITHIN_S):
                    break
                observation.listener_id = link.listener_id
                observation.host_id, observation.host = link.host_id, link.host
                asked_s = self._now_s()
                try:
                    await link.host.observe(link.listener_id, guild_id, observation.turn)
                except (NotOwner, HostUnreachable):
                    if not await self._links.refreshed(version):
                        break
                else:
                    # Unless its stream said meanwhile that it hears of this guild no more.
                    observation.stands = self._observations.get(guild_id) is observation
                    self._answered(observation, asked_s)
                    break
        except Exception:
            log.exception("not_observed", guild=guild_id)
        finally:
            if not observation.stands and self._observations.get(guild_id) is observation:
                del self._observations[guild_id]

    def _answered(self, observation: _Observation, asked_s: float) -> None:
        """Believe a host that was silent, as nobody had a question: of this guild, from here on."""
        listener_id = observation.listener_id
        self._slow.pop(listener_id, None)
        if self._believed(listener_id) or not observation.stands:
            return
        for guild_id in [g for g, of in self._observations.items() if of.listener_id == listener_id]:
            if self._observations[guild_id].stands and self._observations[guild_id] is not observation:
                del self._observations[guild_id]
                self._memory.forget(guild_id)
        if (stream := self._streams.get(listener_id)) is not None:
            stream.heard_s = max(asked_s, stream.heard_s)

    async def _begin(self) -> None:
        while not self._directory.known:
            try:
                await self._directory.start()
            except (HostUnreachable, StoreUnavailable) as problem:
                log.warning("nothing_can_be_remembered", error=repr(problem))
        self._links.start()
        # While no signs come nothing is believed.
        self._tasks.every("signs", SIGNS_EVERY_S, self.ask_for_signs)
        self._tasks.every("tidy", TIDY_EVERY_S, self.tidy)

    async def tidy(self) -> None:
        """Observe no more what nothing is remembered of."""
        needed = self._memory.guilds()
        for guild_id, observation in list(self._observations.items()):
            if observation.stands and guild_id not in needed:
                del self._observations[guild_id]
                self._tasks.spawn("unobserve", self._unobserve(guild_id, observation))

    async def _unobserve(self, guild_id: int, observation: _Observation) -> None:
        with contextlib.suppress(HostUnreachable):  # then it goes with the stream
            await observation.host.unobserve(observation.listener_id, guild_id, observation.turn)
