"""Where the streams of the hosts meet the sockets of this relay.

Per host one streaming call; per socket and guild one subscription that knows how far it has come. A
frame and the answer to a subscribe travel on different ways and may overtake each other: a subscription
holds frames back until its answer is there, and drops what the answer already covers.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Coroutine

import structlog

from actors.fan_out import Item
from actors.routing import GuildDirectory, HostCalls
from domain.errors import GuildhallError, HostUnreachable, NotOwner, TooManySockets
from domain.protocol import CloseCode, error, subscribed
from serve_app.socket import Socket

log = structlog.get_logger()

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
STREAM_WITHIN_S = 10.0
WATCH_TRIES = 3


class _Subscription:
    """One socket on one guild."""

    def __init__(self, socket: Socket, guild_id: int) -> None:
        self.socket = socket
        self.guild_id = guild_id
        self.position: tuple[int, int] | None = None
        self.held_back: list[Item] | None = []

    def deliver(self, item: Item) -> None:
        if self.held_back is not None:
            self.held_back.append(item)
            return
        _, offset, frame = item
        if self.position is not None and offset > self.position[1]:
            self.position = (self.position[0], offset)
            self.socket.push(frame)

    def hold_back(self) -> None:
        self.held_back = []

    def let_go(self, epoch: int, offset: int) -> None:
        """Go on from a position: deliver what was held back and lies behind it."""
        held_back, self.held_back = self.held_back or [], None
        self.position = (epoch, offset)
        for item in held_back:
            self.deliver(item)


class _HostLink:
    """The stream from one host, kept up for as long as the relay lives."""

    def __init__(self, host_id: str, host: HostCalls, hub: Hub) -> None:
        self.host_id = host_id
        self.host = host
        self.relay_id = ""
        self.standing = asyncio.Event()
        self._hub = hub
        self.task = asyncio.create_task(self._listen_forever(), name=f"stream-{host_id}")

    async def _listen_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            # A new id each time: what the host still knows of the last stream goes with that stream.
            self.relay_id = secrets.token_hex(8)
            try:
                async for items in self.host.stream(self.relay_id):
                    if not self.standing.is_set():
                        self.standing.set()
                        retry_s = FIRST_RETRY_S
                        self._hub.resubscribe(self.host_id)
                    self._hub.deliver(items)
            except HostUnreachable as problem:
                log.warning("host_stream_broke", host=self.host_id, error=str(problem))
            self.standing.clear()
            self._hub.hold_back(self.host_id)
            await asyncio.sleep(retry_s)
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)


class Hub:
    """All subscriptions of this relay, and the links they live on."""

    def __init__(self, directory: GuildDirectory) -> None:
        self._directory = directory
        self._links: dict[str, _HostLink] = {}
        self._by_guild: defaultdict[int, dict[int, _Subscription]] = defaultdict(dict)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen to every host there is."""
        for host_id, host in self._directory.routing.hosts.items():
            self._links[host_id] = _HostLink(host_id, host, self)

    async def stop(self) -> None:
        """Close every socket so that its browser comes back elsewhere, and stop listening."""
        for socket in {s.socket for subs in self._by_guild.values() for s in subs.values()}:
            socket.close(CloseCode.SERVICE_RESTART, "The server restarts.")
        tasks = [link.task for link in self._links.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def subscribe(self, socket: Socket, guild_id: int, position: tuple[int, int] | None) -> None:
        """Let a socket follow a guild, from its position on where that can be done."""
        subscription = _Subscription(socket, guild_id)
        self._by_guild[guild_id][socket.socket_id] = subscription
        await self._watch(subscription, position)

    def unsubscribe(self, socket: Socket, guild_id: int) -> None:
        """Let a socket go from a guild; one that did not follow it is no error."""
        subscriptions = self._by_guild.get(guild_id)
        if subscriptions is None or subscriptions.pop(socket.socket_id, None) is None:
            return
        if not subscriptions:
            del self._by_guild[guild_id]
        self._spawn(self._unwatch(socket.socket_id, guild_id))

    def deliver(self, items: list[Item]) -> None:
        """Hand frames to the sockets of their guilds: the same bytes to each."""
        for item in items:
            for subscription in self._by_guild.get(item[0], {}).values():
                subscription.deliver(item)

    def hold_back(self, host_id: str) -> None:
        """Deliver nothing of a host whose stream broke, until each socket's place is known again."""
        for subscription in self._of_host(host_id):
            subscription.hold_back()

    def resubscribe(self, host_id: str) -> None:
        """Take every socket's place anew, on a host whose stream stands again."""
        for subscription in self._of_host(host_id):
            self._spawn(self._watch(subscription, subscription.position))

    def _of_host(self, host_id: str) -> list[_Subscription]:
        return [
            subscription
            for guild_id, subscriptions in self._by_guild.items()
            if self._directory.host_of(guild_id)[0] == host_id
            for subscription in subscriptions.values()
        ]

    async def _watch(self, subscription: _Subscription, position: tuple[int, int] | None) -> None:
        socket, guild_id = subscription.socket, subscription.guild_id
        for _ in range(WATCH_TRIES):
            version = self._directory.routing.placement.version
            host_id, host = self._directory.host_of(guild_id)
            link = self._links.get(host_id)
            if link is None:
                link = self._links[host_id] = _HostLink(host_id, host, self)
            try:
                async with asyncio.timeout(STREAM_WITHIN_S):
                    await link.standing.wait()
                    admission = await host.watch(
                        link.relay_id, socket.socket_id, guild_id, socket.session.user.user_id, position
                    )
            except TooManySockets:
                self._forget(subscription)
                socket.close(CloseCode.TOO_MANY_SOCKETS, "You watch this server in too many windows already.")
                return
            except NotOwner:
                await self._directory.refresh(version)
                continue
            except (GuildhallError, TimeoutError) as problem:
                log.warning("watch_failed", guild=guild_id, error=str(problem))
                break
            socket.push(
                subscribed(guild_id, admission.epoch, admission.offset, recovered=admission.recovered)
            )
            if admission.replay:
                socket.push(admission.replay)
            subscription.let_go(admission.epoch, admission.offset)
            if self._by_guild.get(guild_id, {}).get(socket.socket_id) is not subscription:
                self._spawn(self._unwatch(socket.socket_id, guild_id))  # it left while we asked
            return
        self._forget(subscription)
        socket.push(error("unavailable", "This server's live view is away. Try again in a moment.", guild_id))

    def _forget(self, subscription: _Subscription) -> None:
        subscriptions = self._by_guild.get(subscription.guild_id, {})
        if subscriptions.get(subscription.socket.socket_id) is subscription:
            del subscriptions[subscription.socket.socket_id]
            if not subscriptions:
                del self._by_guild[subscription.guild_id]

    async def _unwatch(self, socket_id: int, guild_id: int) -> None:
        host_id, host = self._directory.host_of(guild_id)
        link = self._links.get(host_id)
        if link is None:
            return
        try:
            await host.unwatch(link.relay_id, socket_id, guild_id)
        except GuildhallError as problem:
            log.debug("unwatch_failed", guild=guild_id, error=str(problem))  # it goes with the stream

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
