"""Where plain classes become Ray actors: all their options can be seen here."""

from __future__ import annotations

from typing import Any

import ray

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

MAX_CONCURRENT_CALLS = 10_000
"""Calls that wait in an actor cost a coroutine each; what they carry, the actors bound themselves."""


def create_host(actor_name: str, *args: Any) -> HostHandle:
    """Create a :class:`GuildHost` with these arguments; its life begins with ``start``.

    Ray does not restart it: a new life needs a new incarnation, and the Director sees to that.
    """
    return HostHandle(_create(GuildHost, actor_name, args))


def create_runner(runner_id: str, *args: Any) -> RunnerHandle:
    """Create a :class:`ShardRunner` with these arguments; it connects with ``start``."""
    return RunnerHandle(_create(ShardRunner, f"{RUNNER_PREFIX}{runner_id}", args))


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


def _create(plain: type, name: str, args: tuple[Any, ...], *, max_restarts: int = 0) -> Any:
    actor = ray.remote(plain).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=max_restarts,
        max_concurrency=MAX_CONCURRENT_CALLS,
        scheduling_strategy="SPREAD",  # a node that goes takes as few hosts along as can be
        num_cpus=0,  # actors wait more than they compute; they are placed by count, not by a core each
    )
    return actor.remote(*args)
