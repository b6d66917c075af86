"""Typed handles: how everybody reaches an actor. With :mod:`actors.remote`, the only module that knows Ray.

A handle pickles, so it travels between processes. Every call turns Ray's errors into ours.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util import list_named_actors

from actors.fan_out import Item
from actors.guild import Admission, Answer, Unwatch, Watch
from actors.host import HostPing, HostStats
from actors.observers import Change
from actors.routing import Routing
from actors.shard_runner import RunnerStats
from actors.signs import Sign
from actors.user_resolver import ResolverStats
from domain.authority import AuthorityNotice
from domain.errors import ActorEnded, GuildhallError, HostUnreachable, RolesUnavailable
from domain.events import Sender
from domain.gateway_hearing import ShardHeard
from domain.people import Person
from domain.permissions import Role
from domain.placement import Placement, changed
from domain.ports import Incarnation, NodeRef, PendingDeletion, RunnerLife, RunnerRow
from domain.roles import Assignment, AuthorityChange, Mapping, Member, RoleChange

DIRECTOR_NAME = "guildhall-director"
RBAC_NAME = "guildhall-rbac"
RESOLVER_NAME = "guildhall-users-{number}"
RUNNER_PREFIX = "guildhall-runner-"
NAMESPACE = "guildhall"

STREAM_AHEAD = 1
"""Lists that an actor may yield before a listener has taken them. What waits then gathers in the actor and
goes as one list. With 64, a relay that was a little too slow had 64 lists of an event each to write."""

ROLES_WITHIN_S = 8.0
"""Whoever does not hear by then what a role is, is told to come back."""

T = TypeVar("T")


async def _answer(call: Awaitable[T]) -> T:
    """Await a call; our own errors pass, everything else means that the actor is not there."""
    try:
        return await call
    except RayTaskError as error:
        # First of all: Ray raises a class that is also the cause's, and says pid, address and source.
        cause = error.cause
        if isinstance(cause, GuildhallError):
            raise cause from error
        raise
    except GuildhallError:
        raise
    except ActorDiedError as error:
        raise ActorEnded("The actor has ended.") from error
    except (RayActorError, GetTimeoutError, RayError) as error:
        raise HostUnreachable(f"The actor does not answer: {type(error).__name__}") from error


async def _stream(method: Any, listener_id: str) -> AsyncIterator[Any]:
    """Yield what a streaming method of a host yields."""
    stream = method.options(num_returns="streaming", _generator_backpressure_num_objects=STREAM_AHEAD).remote(
        listener_id
    )
    try:
        async for reference in stream:
            yield await _answer(reference)
    except RayError as error:
        raise HostUnreachable(f"The host's stream broke: {type(error).__name__}") from error


class HostHandle:
    """Reaches a :class:`~actors.host.GuildHost`; implements :class:`~actors.routing.HostCalls`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._knows: Placement | None = None
        """What the host was told last, as far as this handle is sure."""

    def __reduce__(self) -> tuple[Any, ...]:
        return HostHandle, (self._actor,)

    async def start(self, director: int | None = None) -> Incarnation:
        """See ``GuildHost.start``."""
        return await _answer(self._actor.start.remote(director))

    async def stop(self, reason: str) -> None:
        """See ``GuildHost.stop``."""
        await _answer(self._actor.stop.remote(reason))

    async def ping(self) -> HostPing:
        """See ``GuildHost.ping``."""
        return await _answer(self._actor.ping.remote())

    async def assign(self, placement: Placement) -> None:
        """See ``GuildHost.assign``. After the first time the host is told only what is different."""
        knows, self._knows = self._knows, None  # not sure, until it has answered
        changes = knows is not None and self._actor.assign_changes.remote(changed(knows, placement))
        if not changes or not await _answer(changes):
            await _answer(self._actor.assign.remote(placement))
        self._knows = placement

    async def taken(self, source: str) -> int:
        """See ``GuildHost.taken``."""
        return await _answer(self._actor.taken.remote(source))

    async def kill(self) -> None:
        """End the actor for good; one that is frozen ends as soon as it thaws."""
        ray.kill(self._actor, no_restart=True)

    async def ingest(self, payload: bytes, sender: Sender | None = None) -> bytes:
        """See ``GuildHost.ingest``."""
        return await _answer(self._actor.ingest.remote(payload, sender))

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        """See ``GuildHost.register``."""
        return await _answer(self._actor.register.remote(relay_id, requests))

    async def watch(self, relay_id: str, wanted: Watch) -> Admission:
        """See ``GuildHost.watch``."""
        return await _answer(self._actor.watch.remote(relay_id, wanted))

    async def evict_silent(self, guild_id: int, user_id: int) -> None:
        """See ``GuildHost.evict_silent``."""
        await _answer(self._actor.evict_silent.remote(guild_id, user_id))

    async def prove(self, relay_id: str) -> None:
        """See ``GuildHost.prove``."""
        await _answer(self._actor.prove.remote(relay_id))

    async def stats(self) -> HostStats:
        """See ``GuildHost.stats``."""
        return await _answer(self._actor.stats.remote())

    async def stream(self, relay_id: str) -> AsyncIterator[list[Item]]:
        """See ``GuildHost.stream``."""
        async for items in _stream(self._actor.stream, relay_id):
            yield items

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        """See ``GuildHost.announce``."""
        await _answer(self._actor.announce.remote(guild_id, events))

    async def changes(self, observer_id: str) -> AsyncIterator[list[Change]]:
        """See ``GuildHost.changes``."""
        async for changes in _stream(self._actor.changes, observer_id):
            yield changes

    async def observe(self, observer_id: str, guild_id: int, turn: int) -> None:
        """See ``GuildHost.observe``."""
        await _answer(self._actor.observe.remote(observer_id, guild_id, turn))

    async def unobserve(self, observer_id: str, guild_id: int, turn: int) -> None:
        """See ``GuildHost.unobserve``."""
        await _answer(self._actor.unobserve.remote(observer_id, guild_id, turn))


class RunnerHandle:
    """Reaches a :class:`~actors.shard_runner.ShardRunner`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def ping(self) -> None:
        """See ``ShardRunner.ping``."""
        await _answer(self._actor.ping.remote())

    async def start(self, incarnation: int) -> None:
        """See ``ShardRunner.start``."""
        await _answer(self._actor.start.remote(incarnation))

    async def stop(self, reason: str) -> None:
        """See ``ShardRunner.stop``."""
        await _answer(self._actor.stop.remote(reason))

    async def stats(self) -> RunnerStats:
        """See ``ShardRunner.stats``."""
        return await _answer(self._actor.stats.remote())


class DirectorHandle:
    """Reaches the :class:`~actors.director.Director`; implements ``RoutingSource``."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def start(self) -> None:
        """See ``Director.start``."""
        await _answer(self._actor.start.remote())

    async def stop(self, reason: str) -> None:
        """See ``Director.stop``."""
        await _answer(self._actor.stop.remote(reason))

    async def ping(self) -> str | None:
        """See ``Director.ping``."""
        return await _answer(self._actor.ping.remote())

    async def routing(self) -> Routing:
        """See ``Director.routing``."""
        return await _answer(self._actor.routing.remote())

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        """See ``Director.signs``."""
        return await _answer(self._actor.signs.remote(streams))

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """See ``Director.find_runner``."""
        return await _answer(self._actor.find_runner.remote(runner_id))

    async def register_runner(self, life: RunnerLife, spool_id: str, after: int = 0) -> RunnerRow:
        """See ``Director.register_runner``."""
        return await _answer(self._actor.register_runner.remote(life, spool_id, after))

    async def note_covered(
        self, runner_id: str, incarnation: int, covered_ms: int | None, spool_id: str
    ) -> None:
        """See ``Director.note_covered``."""
        await _answer(self._actor.note_covered.remote(runner_id, incarnation, covered_ms, spool_id))

    async def pending_deletions(
        self, shard_ids: tuple[int, ...], shard_count: int, span_ms: tuple[int, int], limit: int
    ) -> list[PendingDeletion]:
        """See ``Director.pending_deletions``."""
        return await _answer(self._actor.pending_deletions.remote(shard_ids, shard_count, span_ms, limit))

    async def tick(self) -> None:
        """See ``Director.tick``."""
        await _answer(self._actor.tick.remote())

    async def add_host(self) -> str:
        """See ``Director.add_host``."""
        return await _answer(self._actor.add_host.remote())

    async def drain_host(self, host_id: str) -> None:
        """See ``Director.drain_host``."""
        await _answer(self._actor.drain_host.remote(host_id))

    async def dedicate(self, guild_id: int, host_id: str | None) -> str | None:
        """See ``Director.dedicate``."""
        return await _answer(self._actor.dedicate.remote(guild_id, host_id))

    async def retry_poison(self, poison_id: int) -> bool:
        """See ``Director.retry_poison``."""
        return await _answer(self._actor.retry_poison.remote(poison_id))

    async def silent_hosts(self) -> list[str]:
        """See ``Director.silent_hosts``."""
        return await _answer(self._actor.silent_hosts.remote())

    async def list_hosts(self) -> list[HostStats | str]:
        """See ``Director.list_hosts``."""
        return await _answer(self._actor.list_hosts.remote())


class ResolverHandle:
    """Reaches a :class:`~actors.user_resolver.UserResolver`; implements ``ResolverCalls``."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def resolve(self, user_ids: Collection[int]) -> dict[int, Person]:
        """See ``UserResolver.resolve``."""
        return await _answer(self._actor.resolve.remote(list(user_ids)))

    async def stats(self) -> ResolverStats:
        """See ``UserResolver.stats``."""
        return await _answer(self._actor.stats.remote())


class RbacHandle:
    """Reaches the :class:`~actors.rbac.Rbac`; implements :class:`domain.roles.Roles`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def start(self) -> None:
        """See ``Rbac.start``. Unlike the other calls it may take as long as a process needs to begin."""
        await _answer(self._actor.start.remote())

    async def ping(self) -> str | None:
        """See ``Rbac.ping``. As long as a start, in a life that has to connect first."""
        why: str | None = await _answer(self._actor.ping.remote())
        return why

    async def roles_of(self, members: Collection[Member], *, wait: bool = True) -> dict[Member, Role | None]:
        """See ``Rbac.roles_of``."""
        return await self._roles(self._actor.roles_of.remote(list(members), wait=wait))

    async def heard(self, notices: list[AuthorityNotice], shards: Sequence[ShardHeard] = ()) -> None:
        """See ``Rbac.heard``."""
        await self._roles(self._actor.heard.remote(notices, shards))

    async def changes(self, listener_id: str) -> AsyncIterator[list[AuthorityChange]]:
        """See ``Rbac.changes``."""
        async for changes in _stream(self._actor.changes, listener_id):
            yield changes

    async def change(self, change: RoleChange, by: Member, request_id: str | None = None) -> int:
        """See ``Rbac.change``."""
        return await self._roles(self._actor.change.remote(change, by, request_id))

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See ``Rbac.assignments``."""
        return await self._roles(self._actor.assignments.remote(guild_id, limit=limit, offset=offset))

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See ``Rbac.mappings``."""
        return await self._roles(self._actor.mappings.remote(guild_id, limit=limit, offset=offset))

    async def _roles(self, call: Awaitable[T]) -> T:
        """Await a call for a bounded time: an actor that hangs is one that is away."""
        try:
            async with asyncio.timeout(ROLES_WITHIN_S):
                return await _answer(call)
        except (HostUnreachable, TimeoutError) as error:
            raise RolesUnavailable from error


async def end_actor(name: str) -> None:
    """End the actor of this name for good, if there is one; its name is free then."""
    await asyncio.to_thread(_kill_named, name, no_restart=True)


async def restart_actor(name: str) -> None:
    """End the process of the actor of this name, if there is one; Ray gives it another, handles stay good."""
    await asyncio.to_thread(_kill_named, name, no_restart=False)


def _kill_named(name: str, *, no_restart: bool) -> None:
    with contextlib.suppress(ValueError):  # there is none, or it died a moment ago
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=no_restart)


async def find_host(actor_name: str) -> HostHandle | None:
    """Return the host that an actor's name stands for, if that actor lives."""
    try:
        actor = await asyncio.to_thread(ray.get_actor, actor_name, namespace=NAMESPACE)
    except ValueError:
        return None
    return HostHandle(actor)


def find_director() -> DirectorHandle:
    """Return the Director of this cluster. Blocks: for starting up, never for a request."""
    return DirectorHandle(ray.get_actor(DIRECTOR_NAME, namespace=NAMESPACE))


def find_rbac() -> RbacHandle:
    """Return the Rbac actor of this cluster. Blocks: for starting up, never for a request."""
    return RbacHandle(ray.get_actor(RBAC_NAME, namespace=NAMESPACE))


def find_resolver(number: int) -> ResolverHandle:
    """Return one of this cluster's UserResolvers. Blocks: for starting up, never for a request."""
    return ResolverHandle(ray.get_actor(RESOLVER_NAME.format(number=number), namespace=NAMESPACE))


def find_resolvers(count: int) -> list[ResolverHandle]:
    """Return this cluster's UserResolvers. Blocks: for starting up, never for a request."""
    return [find_resolver(number) for number in range(count)]


class AnyDirector:
    """Reaches the Director as soon as there is one; implements ``RoutingSource`` and ``SignSource``."""

    def __init__(self) -> None:
        self._found: DirectorHandle | None = None

    async def routing(self) -> Routing:
        """See ``Director.routing``."""
        return await (await self._director()).routing()

    async def signs(self, streams: dict[str, str]) -> dict[str, Sign]:
        """See ``Director.signs``."""
        return await (await self._director()).signs(streams)

    async def silent_hosts(self) -> list[str]:
        """See ``Director.silent_hosts``."""
        return await (await self._director()).silent_hosts()

    async def list_hosts(self) -> list[HostStats | str]:
        """See ``Director.list_hosts``."""
        return await (await self._director()).list_hosts()

    async def find_runner(self, runner_id: str) -> RunnerRow | None:
        """See ``Director.find_runner``."""
        return await (await self._director()).find_runner(runner_id)

    async def _director(self) -> DirectorHandle:
        if self._found is None:
            try:
                self._found = await asyncio.to_thread(find_director)
            except ValueError as error:
                raise HostUnreachable("There is no Director yet.") from error
        return self._found


def this_node() -> NodeRef:
    """Return the machine that this process runs on. Blocks."""
    node_id = ray.get_runtime_context().get_node_id()
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return NodeRef(node_id, addresses.get(node_id, ""))


async def find_runners() -> dict[str, RunnerHandle]:
    """Return the shard runners that live, by their ids. Slow: for who looks at the whole network."""
    return await asyncio.to_thread(_find_runners)


def _find_runners() -> dict[str, RunnerHandle]:
    found: dict[str, RunnerHandle] = {}
    for name in list_named_actors():
        if name.startswith(RUNNER_PREFIX):
            with contextlib.suppress(ValueError):  # it died a moment ago
                actor = ray.get_actor(name, namespace=NAMESPACE)
                found[name.removeprefix(RUNNER_PREFIX)] = RunnerHandle(actor)
    return found
