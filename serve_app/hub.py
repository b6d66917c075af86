"""Where the streams of the hosts meet the sockets of this relay.

Per host one streaming call; per socket and guild one subscription that knows how far its browser has
come. A frame and the answer to a subscribe travel on different ways and may overtake each other: a
subscription holds frames back until its answer is there, and drops what the answer already covers.

About one socket and guild only one task at a time speaks to a host (:meth:`Hub._settle`). It goes on
until the host knows what the socket wants now, so that no call overtakes another and nothing stays
registered for a socket that left while its call was under way.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import structlog

from actors.fan_out import PROBE, Item
from actors.guild import MAX_REPLAY_BYTES, Watch
from actors.routing import GuildDirectory
from domain.errors import HostUnreachable, NotOwner, TooManySockets
from domain.protocol import CloseCode, error
from domain.roles import Member
from serve_app.frame import Frame, joined
from serve_app.host_links import HostLink, HostLinks
from serve_app.pacing import Pace, rest_s
from serve_app.socket import Socket
from serve_app.subscription import Registration, Subscription
from serve_app.watch_calls import WatchCalls
from tasks import SupervisedTasks

log = structlog.get_logger()

ANSWER_WITHIN_S = 10.0
"""A browser whose host has not answered by then is told so."""
WATCH_TRIES = 3

T = TypeVar("T")


class Replays(Protocol):
    """How much may still be replayed to each person."""

    def reserve_replay(self, user_id: int, size: int) -> bool:
        """Take so many bytes; return False when they are not left."""
        ...

    def return_replay(self, user_id: int, unused: int) -> None:
        """Give back what was reserved and not replayed."""
        ...


class Hub:
    """All sockets of this relay, what they follow, and the links that feed them."""

    def __init__(self, directory: GuildDirectory, replays: Replays, pace: Pace | None = None) -> None:
        self._directory = directory
        self._replays = replays
        self._pace = pace or Pace()
        self._links: HostLinks[Item] = HostLinks(
            directory, lambda host, relay_id: host.stream(relay_id), self
        )
        self._waiting: defaultdict[str, list[Item]] = defaultdict(list)
        """What came in a rest, by stream. Rests are short, so there is no other bound."""
        self._rest: asyncio.TimerHandle | None = None
        self._by_socket: dict[Socket, dict[int, Subscription]] = {}
        self._by_guild: defaultdict[int, dict[Socket, Subscription]] = defaultdict(dict)
        self._registrations: dict[str, Registration] = {}
        self._settling: set[Subscription] = set()
        self._tasks = SupervisedTasks("hub")
        self._stopped = False
        self.on_follow: Callable[[Subscription], None] = lambda _: None
        self.on_leave: Callable[[Subscription], None] = lambda _: None
        """Called with every subscription that begins (anew), or is over."""
        self.frames = self.bytes = 0
        """What was passed on to sockets, each socket counted."""
        self.closed: Counter[str] = Counter()
        """Sockets that were closed from this side, by close code."""

    async def start(self) -> None:
        """Listen to every host there is."""
        self._links.start()

    async def stop(self) -> None:
        """Close every socket so that its browser comes back elsewhere, and stop listening."""
        self._stopped = True
        if self._rest is not None:
            self._rest.cancel()
        for socket in self._by_socket:
            socket.close(CloseCode.SERVICE_RESTART, "The server restarts.")
        await self._links.stop()
        await self._tasks.stop()

    def enter(self, socket: Socket) -> None:
        """Know a socket from here on."""
        self._by_socket[socket] = {}
        if self._stopped:
            socket.close(CloseCode.SERVICE_RESTART, "The server restarts.")

    def leave(self, socket: Socket) -> None:
        """Free all that a socket holds."""
        for subscription in self._by_socket.pop(socket).values():
            self._end(subscription)
        if socket.closed_with is not None:
            self.closed[str(int(socket.closed_with))] += 1

    def guilds_of(self, socket: Socket) -> set[int]:
        """Return the guilds that a socket follows, or asked for."""
        subscriptions = self._by_socket.get(socket, {})
        return {guild_id for guild_id, subscription in subscriptions.items() if subscription.wanted}

    def sockets(self) -> list[Socket]:
        """Return the sockets that are open."""
        return list(self._by_socket)

    def idle(self) -> list[Socket]:
        """Return the sockets that follow nothing, and wait for nothing."""
        return [socket for socket, subscriptions in self._by_socket.items() if not subscriptions]

    def watching(self) -> list[tuple[Socket, Member]]:
        """Return who follows which guild, and as whom."""
        return [
            (socket, subscription.member)
            for socket, subscriptions in self._by_socket.items()
            for subscription in subscriptions.values()
            if subscription.wanted
        ]

    @property
    def hosts(self) -> int:
        """The hosts whose streams stand."""
        return self._links.standing

    def subscribe(self, socket: Socket, member: Member, position: tuple[int, int] | None) -> None:
        """Let a socket follow a guild as this member, from its position on where that can be done.

        The answer is a frame: where the socket stands, or why it cannot follow. A socket that follows
        the guild already begins anew.
        """
        guild_id = member.guild_id
        subscription = self._by_guild[guild_id].get(socket)
        if subscription is None:
            subscription = self._by_guild[guild_id][socket] = Subscription(socket, guild_id)
            self._by_socket[socket][guild_id] = subscription
        subscription.want(member, position)
        self.on_follow(subscription)
        self._begin_to_settle(subscription)

    def unsubscribe(self, socket: Socket, guild_id: int) -> int:
        """Let a socket go from a guild; one that did not follow it is no error.

        Returns how many subscribes will have no answer because of that.
        """
        subscription = self._by_socket.get(socket, {}).get(guild_id)
        if subscription is None:
            return 0
        self._end(subscription)
        return subscription.take_unanswered()

    def following(self, guild_id: int, user_id: int | None = None) -> list[Subscription]:
        """Return the subscriptions to a guild, all of them or one person's."""
        subscriptions = self._by_guild.get(guild_id, {}).values()
        return [each for each in subscriptions if each.wanted and user_id in (None, each.member.user_id)]

    def deliver(self, listener_id: str, items: list[Item]) -> None:
        """Hand a stream's events to the sockets that are registered on it, at once or after this rest."""
        if PROBE in items and (asked := self._registrations.get(listener_id)):
            asked.calls.prove()
        self._waiting[listener_id] += items
        if self._rest is None:
            self._write()

    def _write(self) -> None:
        """Write what waits, the same bytes to each socket; then rest."""
        self._rest = None
        waiting, self._waiting = self._waiting, defaultdict(list)
        if not waiting or self._stopped:
            return
        began_s = self._pace.used_s()
        together = max(self._write_stream(listener_id, items) for listener_id, items in waiting.items())
        rest = rest_s(self._pace.used_s() - began_s, together, self._pace.longest_rest_s)
        if rest > 0:
            self._rest = asyncio.get_running_loop().call_later(rest, self._write)

    def _write_stream(self, listener_id: str, items: list[Item]) -> int:
        """Write what came on a stream; return how many events of a guild came together, at most."""
        together = 0
        by_activation: defaultdict[tuple[int, int], list[Item]] = defaultdict(list)
        for item in items:
            by_activation[item.guild_id, item.epoch].append(item)
        for (guild_id, _), theirs in by_activation.items():
            subscriptions = self._by_guild.get(guild_id)
            if not subscriptions:
                continue
            together = max(together, sum(len(item.events) for item in theirs))
            for events in joined(theirs, shared=self._pace.longest_rest_s > 0):
                for subscription in subscriptions.values():
                    registration = subscription.registration
                    if registration is None or registration.relay_id != listener_id:
                        continue
                    sent = subscription.deliver(events)
                    if sent is not None:
                        self.frames += len(sent.texts)
                        self.bytes += len(sent)
        return together

    def stream_ended(self, listener_id: str) -> None:
        """Take every socket's place anew: what the host knew of them went with its stream."""
        self._registrations.pop(listener_id, None)
        self._waiting.pop(listener_id, None)
        for subscriptions in self._by_guild.values():
            for subscription in subscriptions.values():
                registration = subscription.registration
                if registration is not None and registration.relay_id == listener_id:
                    subscription.registration = None
                    subscription.hold_back()
                    self._begin_to_settle(subscription)

    def _end(self, subscription: Subscription) -> None:
        subscription.wanted = False
        self._begin_to_settle(subscription)

    def _begin_to_settle(self, subscription: Subscription) -> None:
        if subscription not in self._settling and not self._stopped:
            self._settling.add(subscription)
            self._tasks.spawn("settle", self._settle(subscription))

    async def _settle(self, subscription: Subscription) -> None:
        """Speak to hosts until they know what the socket wants now."""
        try:
            while True:
                if subscription.wanted and not subscription.flows:
                    await self._watch(subscription)
                elif not subscription.wanted and subscription.registration is not None:
                    await self._unwatch(subscription, subscription.registration)
                else:
                    break
        finally:
            self._settling.discard(subscription)
            if not subscription.wanted:
                self._forget(subscription)

    async def _watch(self, subscription: Subscription) -> None:
        """Get an answer and go on from it; return without one when the question is out of date."""
        asked = subscription.asked
        for _ in range(WATCH_TRIES):
            version = self._directory.routing.placement.version
            link = self._links.link_of(subscription.guild_id)
            if not await link.stands(ANSWER_WITHIN_S):
                if link.gone:
                    continue
                break
            if not subscription.wanted or subscription.asked != asked:
                return
            try:
                await self._ask(subscription, link)
                return  # noqa: TRY300 - an else would part it from its try
            except (NotOwner, HostUnreachable) as problem:
                # It moved, or its host or our stream to it died: both come back under a new placement.
                log.info("watch_again", guild=subscription.guild_id, error=repr(problem))
                if isinstance(problem, NotOwner):
                    subscription.registration = None
                if not await self._links.refreshed(version):
                    break
            except Exception as problem:  # noqa: BLE001 - of whatever kind, the browser must be told
                log.warning("watch_failed", guild=subscription.guild_id, error=repr(problem))
                break
        if subscription.asked == asked:
            self.give_up(subscription)

    async def _ask(self, subscription: Subscription, link: HostLink[Item]) -> None:
        socket, guild_id, asked = subscription.socket, subscription.guild_id, subscription.asked
        # From here on the host may know the socket, whatever becomes of the call.
        registration = subscription.registration = self._registration(link)
        subscription.hold_back()
        position = subscription.position
        replays = position is not None and self._replays.reserve_replay(socket.user_id, MAX_REPLAY_BYTES)
        wanted = Watch(socket.socket_id, guild_id, socket.user_id, position if replays else None)
        used = 0
        try:
            admission = await self._patiently(subscription, registration.calls.watch(wanted))
            used = len(admission.replay)
            if position is not None and not replays:
                admission = admission._replace(recovered=False)
        except TooManySockets:
            subscription.registration, subscription.wanted = None, False
            socket.close(CloseCode.TOO_MANY_SOCKETS, "You watch this server in too many windows already.")
            return
        finally:
            if replays:
                self._replays.return_replay(socket.user_id, MAX_REPLAY_BYTES - used)
        if subscription.awaits(asked, registration):
            subscription.answer(admission)

    async def _unwatch(self, subscription: Subscription, registration: Registration) -> None:
        subscription.registration = None
        socket_id, guild_id = subscription.socket.socket_id, subscription.guild_id
        try:
            await self._patiently(subscription, registration.calls.unwatch(socket_id, guild_id))
        except Exception as problem:  # noqa: BLE001 - it goes with the stream
            log.debug("unwatch_failed", guild=guild_id, error=repr(problem))

    def _registration(self, link: HostLink[Item]) -> Registration:
        """Return what is the same for all sockets that are registered on a stream."""
        registration = self._registrations.get(link.listener_id)
        if registration is None:
            calls = WatchCalls(link.host, link.listener_id, self._tasks)
            registration = self._registrations[link.listener_id] = Registration(link.listener_id, calls)
        return registration

    async def _patiently(self, subscription: Subscription, work: Coroutine[Any, Any, T]) -> T:
        """Await a call to its end: what it registers late must still be taken back. Its browser need not."""
        call = self._tasks.call("ask a host", work)
        while not (await asyncio.wait({call}, timeout=ANSWER_WITHIN_S))[0]:
            self.give_up(subscription)
        return call.result()

    def give_up(self, subscription: Subscription) -> None:
        """Tell the browser that its guild cannot be followed now."""
        if not subscription.wanted:
            return
        subscription.wanted = False
        message = "This server's live view is away. Try again in a moment."
        if subscription.answered:
            # It believes to be live, and no frame says otherwise: it has to come back and resume.
            subscription.socket.close(CloseCode.SERVICE_RESTART, message)
        else:
            for _ in range(subscription.take_unanswered()):
                subscription.socket.push(Frame(error("unavailable", message, subscription.guild_id)))

    def _forget(self, subscription: Subscription) -> None:
        self.on_leave(subscription)
        socket, guild_id = subscription.socket, subscription.guild_id
        self._by_socket.get(socket, {}).pop(guild_id, None)
        subscriptions = self._by_guild.get(guild_id, {})
        subscriptions.pop(socket, None)
        if not subscriptions:
            self._by_guild.pop(guild_id, None)
