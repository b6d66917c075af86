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
import secrets
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

from actors.fan_out import Item
from actors.routing import GuildDirectory, HostCalls
from domain.errors import HostUnreachable, NotOwner, TooManySockets
from domain.protocol import CloseCode, error
from serve_app.socket import Socket
from serve_app.subscription import Registration, Subscription

log = structlog.get_logger()

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
ANSWER_WITHIN_S = 10.0
"""A browser whose host has not answered by then is told so."""
WATCH_TRIES = 3

T = TypeVar("T")


class _HostLink:
    """The stream from one host, kept up over all lives of that host until it is gone for good."""

    def __init__(self, host_id: str, host: HostCalls, hub: Hub) -> None:
        self.host_id = host_id
        self.host = host
        self.relay_id = ""
        self.gone = False
        self._standing = asyncio.Event()
        self._hub = hub
        self.task = asyncio.create_task(self._listen_forever(), name=f"stream-{host_id}")

    async def stands(self) -> bool:
        """Wait for the stream; return whether it stands."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                while not self._standing.is_set():  # it may have broken again before this task ran
                    await self._standing.wait()
        except TimeoutError:
            return False
        return not self.gone

    async def _listen_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            # A new id each time: what the host still knows of the last stream goes with that stream.
            self.relay_id = secrets.token_hex(8)
            try:
                async for items in self.host.stream(self.relay_id):
                    if not self._standing.is_set():
                        self._standing.set()
                        retry_s = FIRST_RETRY_S
                    self._hub.deliver(self.relay_id, items)
            except HostUnreachable as problem:
                log.warning("host_stream_broke", host=self.host_id, error=str(problem))
            except Exception:
                # Whatever it was: without this task every socket of the host would stay deaf.
                log.exception("host_stream_broke", host=self.host_id)
            self._standing.clear()
            self._hub.stream_ended(self.relay_id)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)
            host = await self._hub.newest_life(self.host_id)
            if host is None:
                self.gone = True
                self._standing.set()  # whoever waits need not any more: its guilds are elsewhere
                return
            self.host = host


class Hub:
    """All sockets of this relay, what they follow, and the links that feed them."""

    def __init__(self, directory: GuildDirectory) -> None:
        self._directory = directory
        self._links: dict[str, _HostLink] = {}
        self._by_socket: dict[Socket, dict[int, Subscription]] = {}
        self._by_guild: defaultdict[int, dict[Socket, Subscription]] = defaultdict(dict)
        self._settling: set[Subscription] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Listen to every host there is."""
        for host_id, host in self._directory.routing.hosts.items():
            self._link(host_id, host)

    async def stop(self) -> None:
        """Close every socket so that its browser comes back elsewhere, and stop listening."""
        self._stopped = True
        for socket in self._by_socket:
            socket.close(CloseCode.SERVICE_RESTART, "The server restarts.")
        tasks = [*self._tasks, *(link.task for link in self._links.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def enter(self, socket: Socket) -> None:
        """Know a socket from here on."""
        self._by_socket[socket] = {}
        if self._stopped:
            socket.close(CloseCode.SERVICE_RESTART, "The server restarts.")

    def leave(self, socket: Socket) -> None:
        """Free all that a socket holds."""
        for subscription in self._by_socket.pop(socket).values():
            self._end(subscription)

    def guilds_of(self, socket: Socket) -> set[int]:
        """Return the guilds that a socket follows, or asked for."""
        subscriptions = self._by_socket.get(socket, {})
        return {guild_id for guild_id, subscription in subscriptions.items() if subscription.wanted}

    def subscribe(self, socket: Socket, guild_id: int, position: tuple[int, int] | None) -> None:
        """Let a socket follow a guild, from its position on where that can be done.

        The answer is a frame: where the socket stands, or why it cannot follow. A socket that follows
        the guild already begins anew.
        """
        subscription = self._by_guild[guild_id].get(socket)
        if subscription is None:
            subscription = self._by_guild[guild_id][socket] = Subscription(socket, guild_id)
            self._by_socket[socket][guild_id] = subscription
        subscription.want(position)
        self._begin_to_settle(subscription)

    def unsubscribe(self, socket: Socket, guild_id: int) -> None:
        """Let a socket go from a guild; one that did not follow it is no error."""
        subscription = self._by_socket.get(socket, {}).get(guild_id)
        if subscription is not None:
            self._end(subscription)

    def deliver(self, relay_id: str, items: list[Item]) -> None:
        """Hand a stream's frames to the sockets that are registered on it: the same bytes to each."""
        for item in items:
            for subscription in self._by_guild.get(item.guild_id, {}).values():
                registration = subscription.registration
                if registration is not None and registration.relay_id == relay_id:
                    subscription.deliver(item)

    def stream_ended(self, relay_id: str) -> None:
        """Take every socket's place anew: what the host knew of them went with its stream."""
        for subscriptions in self._by_guild.values():
            for subscription in subscriptions.values():
                registration = subscription.registration
                if registration is not None and registration.relay_id == relay_id:
                    subscription.registration = None
                    subscription.hold_back()
                    self._begin_to_settle(subscription)

    async def newest_life(self, host_id: str) -> HostCalls | None:
        """Return the host that goes by an id now; None when it was drained, and its link is forgotten."""
        routing = self._directory.routing
        await self._refreshed(routing.placement.version)
        host = self._directory.routing.hosts.get(host_id)
        if host is None:
            self._links.pop(host_id, None)
        return host

    def _end(self, subscription: Subscription) -> None:
        subscription.wanted = False
        self._begin_to_settle(subscription)

    def _begin_to_settle(self, subscription: Subscription) -> None:
        if subscription not in self._settling and not self._stopped:
            self._settling.add(subscription)
            self._spawn(self._settle(subscription))

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
            link = self._link(*self._directory.host_of(subscription.guild_id))
            if not await link.stands():
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
                if not await self._refreshed(version):
                    break
            except Exception as problem:  # noqa: BLE001 - of whatever kind, the browser must be told
                log.warning("watch_failed", guild=subscription.guild_id, error=repr(problem))
                break
        if subscription.asked == asked:
            self._give_up(subscription)

    async def _ask(self, subscription: Subscription, link: _HostLink) -> None:
        socket, guild_id, asked = subscription.socket, subscription.guild_id, subscription.asked
        # From here on the host may know the socket, whatever becomes of the call.
        registration = subscription.registration = Registration(link.host, link.relay_id)
        subscription.hold_back()
        user_id, position = socket.session.user.user_id, subscription.position
        call = link.host.watch(link.relay_id, socket.socket_id, guild_id, user_id, position)
        try:
            admission = await self._patiently(subscription, call)
        except TooManySockets:
            subscription.registration, subscription.wanted = None, False
            socket.close(CloseCode.TOO_MANY_SOCKETS, "You watch this server in too many windows already.")
            return
        if subscription.awaits(asked, registration):
            subscription.answer(admission)

    async def _unwatch(self, subscription: Subscription, registration: Registration) -> None:
        subscription.registration = None
        socket_id, guild_id = subscription.socket.socket_id, subscription.guild_id
        try:
            call = registration.host.unwatch(registration.relay_id, socket_id, guild_id)
            await self._patiently(subscription, call)
        except Exception as problem:  # noqa: BLE001 - it goes with the stream
            log.debug("unwatch_failed", guild=guild_id, error=repr(problem))

    async def _patiently(self, subscription: Subscription, work: Coroutine[Any, Any, T]) -> T:
        """Await a call to its end: what it registers late must still be taken back. Its browser need not."""
        call = self._spawn(work)
        while not (await asyncio.wait({call}, timeout=ANSWER_WITHIN_S))[0]:
            self._give_up(subscription)
        return call.result()

    async def _refreshed(self, version: int) -> bool:
        try:
            await self._directory.refresh(version)
        except Exception as problem:  # noqa: BLE001 - the Director is away
            log.warning("placement_not_refreshed", error=repr(problem))
            return False
        return True

    def _give_up(self, subscription: Subscription) -> None:
        """Tell the browser that its guild cannot be followed now."""
        if not subscription.wanted:
            return
        subscription.wanted = False
        message = "This server's live view is away. Try again in a moment."
        if subscription.answered:
            # It believes to be live, and no frame says otherwise: it has to come back and resume.
            subscription.socket.close(CloseCode.SERVICE_RESTART, message)
        else:
            subscription.socket.push(error("unavailable", message, subscription.guild_id))

    def _forget(self, subscription: Subscription) -> None:
        socket, guild_id = subscription.socket, subscription.guild_id
        self._by_socket.get(socket, {}).pop(guild_id, None)
        subscriptions = self._by_guild.get(guild_id, {})
        subscriptions.pop(socket, None)
        if not subscriptions:
            self._by_guild.pop(guild_id, None)

    def _link(self, host_id: str, host: HostCalls) -> _HostLink:
        link = self._links.get(host_id)
        if link is None:
            link = self._links[host_id] = _HostLink(host_id, host, self)
        return link

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
