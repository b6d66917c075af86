"""What the supervisor owns: how each kind of child begins, is asked whether it is well, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

import httpx2

from actors.handles import RUNNER_PREFIX, RunnerHandle, end_actor, restart_actor
from actors.runner_presence import RunnerSign
from actors.shard_runner import RunnerStats
from actors.supervisor import ChildEnded, Complaint
from adapters.clock import now_ms
from domain.errors import ActorEnded, GuildhallError, HostUnreachable
from domain.ports import NodeRef, RunnerRow

RETRY_S = 0.5
DOOR_TIMEOUT_S = 2.5
DOOR_BACK_WITHIN_S = 30.0
KNOCK_EVERY_S = 0.2
SERVER_ERROR = 500
FIND_TIMEOUT_S = 5.0
PROCESS_TIMEOUT_S = 45.0
TRIES_WITH_SPOOL = 3

H = TypeVar("H")


class RunnerChild:
    """A shard runner. Each life is an actor of its own, under the same name."""

    def __init__(
        self,
        runner_id: str,
        shard_ids: tuple[int, ...],
        create: Callable[[NodeRef | None], RunnerHandle],
        find: Callable[[str], Awaitable[RunnerRow | None]],
    ) -> None:
        self.runner_id = runner_id
        self._name = f"{RUNNER_PREFIX}{runner_id}"
        self._shard_ids = shard_ids
        self._create = create
        self._find = find
        self._node: NodeRef | None = None
        self._incarnation = 0
        self._failures = 0
        """Times in a row that no process of it began."""
        self._handle: RunnerHandle | None = None
        self._answered_s = time.monotonic()
        self._connected = False

    async def start(self) -> None:
        """Begin to connect its shards, where its spool is.

        A machine that is said to be there, and on which no process begins, is tried a few times. Then the
        runner begins anywhere, and what its spool holds is told as lost.
        """
        await self._look()
        # A time, so that those of the next supervisor are higher, whose clock may be another.
        self._incarnation = max(now_ms(), self._incarnation + 1)
        node = self._node if self._failures < TRIES_WITH_SPOOL else None
        self._handle = await asyncio.to_thread(self._create, node)
        try:
            async with asyncio.timeout(PROCESS_TIMEOUT_S):
                await self._handle.ping()
        except (HostUnreachable, TimeoutError):
            self._failures += 1
            raise
        self._failures = 0
        await self._handle.start(self._incarnation)

    async def _look(self) -> None:
        """Find out which life was the last and where, if anybody can say now."""
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S):
                row = await self._find(self.runner_id)
        except (GuildhallError, TimeoutError):
            return
        if row is not None:
            self._node, self._incarnation = row.node, max(row.incarnation, self._incarnation)

    async def progress(self) -> RunnerStats:
        """Return what it did so far."""
        return await self._stats()

    def sign(self) -> RunnerSign:
        """Return what is known of it now."""
        return RunnerSign(self._shard_ids, time.monotonic() - self._answered_s, self._connected)

    async def probe(self) -> Complaint | None:
        """Ask it how its shards are. Those that wait for Discord's leave would have to in any life."""
        stats = await self._stats()
        progress = stats.progress
        if progress.refusal is not None:
            return Complaint(progress.refusal)
        if stats.ailing:
            return Complaint(f"It cannot go on with: {', '.join(stats.ailing)}.")
        if progress.connected >= progress.shards:
            return None
        why = f"{progress.connected} of {progress.shards} shards are connected."
        return Complaint(why, waits=progress.waits_for is not None)

    async def kill(self) -> None:
        """End the actor by its name: one whose start failed holds it as well, and its handle may be lost."""
        await end_actor(self._name)

    async def stop(self, reason: str) -> None:
        """Let it deliver what it has."""
        if self._handle is not None:
            await self._handle.stop(reason)

    async def _stats(self) -> RunnerStats:
        if self._handle is None:
            raise HostUnreachable(f"{self._name} has not begun.")
        stats = await self._handle.stats()
        self._answered_s = time.monotonic()
        self._connected = stats.progress.connected >= stats.progress.shards
        return stats


class ResidentChild(Generic[H]):
    """An actor that Ray gives a new process in its place, because others hold handles to it."""

    def __init__(
        self,
        name: str,
        find: Callable[[], H],
        create: Callable[[], H],
        *,
        begin: Callable[[H], Awaitable[Any]],
        ping: Callable[[H], Awaitable[str | None]],
    ) -> None:
        self._name = name
        self._find, self._create = find, create
        self._begin, self._ping = begin, ping
        self.handle: H | None = None

    async def start(self) -> None:
        """Create the actor if there is none, and wait for as long as its process takes to begin."""
        begin = self._begin if self.handle is None else self._alive  # later lives begin by themselves
        while True:
            self.handle = await asyncio.to_thread(self._found_or_created)
            try:
                await begin(self.handle)
                return  # noqa: TRY300 - an else would part it from its try
            except HostUnreachable:
                await asyncio.sleep(RETRY_S)

    async def progress(self) -> Hashable:
        """Return what it says of itself."""
        return await self.probe()

    async def probe(self) -> Complaint | None:
        """Ask it; one that answers that what it needs is away is alive."""
        if self.handle is None:
            raise HostUnreachable(f"{self._name} has not begun.")
        try:
            why = await self._ping(self.handle)
        except ActorEnded as error:  # Ray gives it another process, which may be on its way
            raise HostUnreachable(str(error)) from error
        except HostUnreachable:
            raise
        except GuildhallError as error:
            return Complaint(str(error), waits=True)
        return None if why is None else Complaint(why)

    async def _alive(self, _: H) -> None:
        await self.probe()

    async def kill(self) -> None:
        """End its process, also one that hangs or is frozen; the actor goes on in another."""
        await restart_actor(self._name)

    def _found_or_created(self) -> H:
        try:
            return self._find()
        except ValueError:
            return self._create()


class Proxy(Protocol):
    """What stands behind the front door's port, before the replicas."""

    async def is_up(self) -> bool | None:
        """Return whether it runs and answers; None if nobody can say."""
        ...

    async def begin_anew(self) -> None:
        """End it and start another. Raises ``HostUnreachable`` when nobody takes the order."""
        ...


class FrontDoor:
    """Serve's applications behind one port. Their replicas are Serve's to look after."""

    def __init__(self, door: str, deploy: Callable[[], Awaitable[None]], proxy: Proxy) -> None:
        self._url = f"http://{door}/api/ping"
        self._deploy = deploy
        self._deploying: asyncio.Future[None] | None = None
        self._proxy = proxy
        self._proxy_lost = False

    async def start(self) -> None:
        """Start HAProxy anew, if it is lost and that is enough; otherwise deploy everything.

        Deploying cannot be stopped: one that is still under way is waited for.
        """
        if self._proxy_lost:
            self._proxy_lost = False
            with contextlib.suppress(HostUnreachable):  # then Serve does it, with a new manager
                await self._proxy.begin_anew()
            if await self._answers_again():
                return
        if self._deploying is None or self._deploying.done():
            self._deploying = asyncio.ensure_future(self._deploy())
        await asyncio.shield(self._deploying)

    async def progress(self) -> Hashable:
        """Serve does not say how far it is."""
        return None

    async def probe(self) -> Complaint | None:
        """Knock. A door that is too busy to answer is not well; only one that stays so is deployed again.

        A HAProxy that ended or hangs is another matter: nobody gets in until there is a new one.
        """
        try:
            status = await self._knock()
        except httpx2.HTTPError as error:
            if await self._proxy.is_up() is False:
                self._proxy_lost = True
                raise ChildEnded("HAProxy ended, or hangs.") from error
            return Complaint(f"Nobody answers at the front door: {type(error).__name__}.")
        return None if status < SERVER_ERROR else Complaint(f"It answers with {status}.")

    async def kill(self) -> None:
        """Leave it: what stands is replaced under way."""

    async def _knock(self) -> int:
        """Return the status of an answer, a replica's or HAProxy's own."""
        # Plain HTTP: to load certificates, which nobody asks for, takes 30 ms.
        async with httpx2.AsyncClient(timeout=DOOR_TIMEOUT_S, verify=False, trust_env=False) as client:
            return (await client.get(self._url)).status_code

    async def _answers_again(self) -> bool:
        """Whatever the answer: HAProxy is back, and the replicas were not what was lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOOR_BACK_WITHIN_S):
                while True:
                    with contextlib.suppress(httpx2.HTTPError):
                        await self._knock()
                        return True
                    await asyncio.sleep(KNOCK_EVERY_S)
        return False
