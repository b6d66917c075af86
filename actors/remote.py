"""Where plain classes become Ray actors: all their options can be seen here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.director import Director
from actors.handles import (
    DIRECTOR_NAME,
    NAMESPACE,
    RBAC_NAME,
    RESOLVER_NAME,
    RUNNER_PREFIX,
    DirectorHandle,
    HostHandle,
    RbacHandle,
    ResolverHandle,
    RunnerHandle,
)
from actors.host import GuildHost
from actors.rbac import Rbac
from actors.shard_runner import ShardRunner
from actors.user_resolver import UserResolver
from domain.ports import NodeRef

MAX_CONCURRENT_CALLS = 10_000
"""Calls that wait in an actor cost a coroutine each; what they carry, the actors bound themselves."""

SPREAD = "SPREAD"
"""A node that goes takes as few actors along as can be."""

_JEMALLOC = Path(ray.__file__).parent / "core" / "libjemalloc.so"
"""Ray brings it for its own profiling of memory; on Linux only."""


def create_host(actor_name: str, *args: Any) -> HostHandle:
    """Create a :class:`GuildHost` with these arguments; its life begins with ``start``.

    Ray does not restart it: a new life needs a new incarnation, and the Director sees to that.
    """
    return HostHandle(_create(GuildHost, actor_name, args, env_vars=_gives_memory_back()))


def create_runner(node: NodeRef | None, runner_id: str, *args: Any) -> RunnerHandle:
    """Create a :class:`ShardRunner` with these arguments, on that machine while it is there.

    It connects with ``start``. Blocks.
    """
    return RunnerHandle(_create(ShardRunner, f"{RUNNER_PREFIX}{runner_id}", args, strategy=_on(node)))


def _on(node: NodeRef | None) -> Any:
    """Return how to place an actor on a machine, which is known by its address if Ray began anew there."""
    if node is not None:
        alive = [each for each in ray.nodes() if each["Alive"]]
        ids = [each["NodeID"] for each in alive if each["NodeID"] == node.node_id]
        ids += sorted(each["NodeID"] for each in alive if each["NodeManagerAddress"] == node.address)
        if ids:
            return NodeAffinitySchedulingStrategy(ids[0], soft=False)
    return SPREAD


def create_director(*args: Any) -> DirectorHandle:
    """Create the :class:`Director` with these arguments; restarted, it finds its hosts again when asked."""
    return DirectorHandle(_create(Director, DIRECTOR_NAME, args, max_restarts=-1))


def create_rbac(*args: Any) -> RbacHandle:
    """Create the :class:`Rbac` with these arguments; restarted, it has to ask Discord anew, that is all."""
    return RbacHandle(_create(Rbac, RBAC_NAME, args, max_restarts=-1))


def create_resolver(number: int, *args: Any) -> ResolverHandle:
    """Create a :class:`UserResolver` with these arguments; restarted, it has only forgotten people."""
    name = RESOLVER_NAME.format(number=number)
    return ResolverHandle(_create(UserResolver, name, args, max_restarts=-1))


def _gives_memory_back() -> dict[str, str]:
    """Return the environment in which a process returns the memory of guilds that went to sleep.

    In Python's own allocator, a few objects that stay keep a megabyte each (of 128 MB, 36 came
    back); with jemalloc nearly all come back, at the same speed (`guildhall bench guilds`).
    """
    if not _JEMALLOC.exists():
        return {}
    return {
        "LD_PRELOAD": str(_JEMALLOC),
        "MALLOC_CONF": "narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0",
        "PYTHONMALLOC": "malloc",
    }


def _create(
    plain: type,
    name: str,
    args: tuple[Any, ...],
    *,
    max_restarts: int = 0,
    env_vars: dict[str, str] | None = None,
    strategy: Any = SPREAD,
) -> Any:
    actor = ray.remote(plain).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=max_restarts,
        max_concurrency=MAX_CONCURRENT_CALLS,
        scheduling_strategy=strategy,
        num_cpus=0,  # actors wait more than they compute; they are placed by count, not by a core each
        runtime_env={"env_vars": env_vars} if env_vars else None,
    )
    return actor.remote(*args)
