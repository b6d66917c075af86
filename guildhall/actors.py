"""The actors of a network: which adapters each is made of."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from actors import remote
from actors.director import DirectorSettings, HostAccess
from actors.handles import (
    AnyDirector,
    DirectorHandle,
    RbacHandle,
    ResolverHandle,
    RunnerHandle,
    find_director,
    find_host,
    find_rbac,
    this_node,
)
from actors.outbox import Outbox, OutboxSettings
from actors.routing import GuildDirectory
from actors.shard_runner import RunnerPlace, RunnerSettings
from actors.spool_index import SpoolBounds
from actors.user_resolver import ResolverSettings
from adapters.clock import now_ms
from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.discord_people import DiscordPeople
from adapters.guild_store import PostgresGuildStore
from adapters.memory import MemorySpool
from adapters.network_store import PostgresNetworkStore
from adapters.postgres import open_pool
from adapters.re2_patterns import compile_pattern
from adapters.redis_authority import RedisAuthorityStore
from adapters.redis_identify import RedisIdentifyGrants
from adapters.role_store import PostgresRoleStore
from adapters.sqlite_spool import SqliteSpool
from domain.ports import NodeRef
from guildhall.actor_parts import ask_for_members, create_host, open_person_memories
from guildhall.wiring import Wiring

PRESENCE_SPOOL_BYTES = 64 << 20


class RunnerPlan(NamedTuple):
    """One shard runner of the network."""

    shard_ids: tuple[int, ...]
    create: Callable[[NodeRef | None], RunnerHandle]
    """Creates it on a machine, or wherever there is room."""


def create_resolver(wiring: Wiring, number: int) -> ResolverHandle:
    """Create one of the UserResolvers, for its share of the people."""
    source = partial(DiscordPeople, api_base=wiring.api_base, token=wiring.bot_token, now_ms=now_ms)
    memories = partial(open_person_memories, wiring.database_url, wiring.redis_url)
    return remote.create_resolver(number, ResolverSettings(), memories, source, now_ms)


def create_rbac(wiring: Wiring) -> RbacHandle:
    """Create the Rbac actor."""
    return remote.create_rbac(
        partial(PostgresRoleStore.open, wiring.database_url),
        partial(ask_for_members, wiring.api_base, wiring.bot_token),
        partial(RedisAuthorityStore, wiring.redis_url),
        now_ms,
    )


def create_director(wiring: Wiring, settings: DirectorSettings) -> DirectorHandle:
    """Create the Director."""
    return remote.create_director(*director_parts(wiring, settings))


def director_parts(wiring: Wiring, settings: DirectorSettings) -> tuple[Any, ...]:
    """Return what a Director is made of."""
    open_store = partial(PostgresGuildStore.open, wiring.database_url)
    access = HostAccess(partial(create_host, wiring.database_url), find_host)
    return settings, access, open_store, now_ms


def plan_runners(
    token: str,
    redis_url: str,
    *,
    shard_count: int,
    per_runner: int,
    api_base: str,
    gateway_url: str,
    spool_dir: Path,
    spool_max_bytes: int,
) -> dict[str, RunnerPlan]:
    """Return, by id, how to create the runners that together connect all shards; each has its own spool.

    Created again after its death, a runner takes up the spool of its earlier life.
    """
    outbox = OutboxSettings(spool=SpoolBounds(bytes_in_all=spool_max_bytes))
    plans: dict[str, RunnerPlan] = {}
    for first in range(0, shard_count, per_runner):
        shards = ShardSettings(
            token=token,
            shard_ids=tuple(range(first, min(first + per_runner, shard_count))),
            shard_count=shard_count,
            api_base=api_base,
            gateway_url=gateway_url,
        )
        runner_id = f"r{len(plans)}"
        create = partial(
            _create_runner,
            runner_id,
            RunnerSettings(runner_id, outbox=outbox, shard_ids=shards.shard_ids, shard_count=shard_count),
            partial(DiscordBot, shards, partial(RedisIdentifyGrants, redis_url, token)),
            find_director,
            compile_pattern,
            now_ms,
            partial(SqliteSpool, spool_dir / f"{runner_id}.sqlite"),
            find_rbac,
            RunnerPlace(this_node, partial(os._exit, 0)),
        )
        plans[runner_id] = RunnerPlan(shards.shard_ids, create)
    return plans


def _create_runner(runner_id: str, *parts: Any) -> RunnerHandle:
    *given, node = parts
    return remote.create_runner(node, runner_id, *given)


@asynccontextmanager
async def open_presence_outbox() -> AsyncIterator[Outbox]:
    """Open the way to the hosts for what is told of runners that do not answer."""
    directory = GuildDirectory(AnyDirector())
    await directory.start()
    # In memory: with this process all runners end, and their next lives tell anew how they are.
    bounds = SpoolBounds(bytes_in_all=PRESENCE_SPOOL_BYTES)
    outbox = Outbox(f"presence@{now_ms()}", directory, MemorySpool(), now_ms, OutboxSettings(spool=bounds))
    await outbox.start()
    outbox.listening()
    try:
        yield outbox
    finally:
        await outbox.stop()


async def find_online_guilds(database_url: str, shard_count: int, shard_ids: tuple[int, ...]) -> list[int]:
    """Return the guilds of these shards that are online; for once in an outage, on a connection for once."""
    pool = await open_pool(database_url, max_size=1, name="guildhall-supervisor")
    try:
        return await PostgresNetworkStore(pool).online_guilds(shard_ids, shard_count)
    finally:
        await pool.close()
