"""The composition root: which adapter goes into which actor and which replica.

Everything here is picklable: actors and replicas build their parts in their own processes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from actors import remote
from actors.announcer import HostAnnouncer
from actors.director import DirectorSettings, HostAccess
from actors.handles import (
    AnyDirector,
    DirectorHandle,
    HostHandle,
    RbacHandle,
    ResolverHandle,
    RunnerHandle,
    find_director,
    find_host,
    find_rbac,
    find_resolvers,
    find_runners,
    this_node,
)
from actors.host import HostSettings
from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.network import LiveNetwork
from actors.outbox import Outbox, OutboxSettings
from actors.people import ResolvedPeople
from actors.routing import GuildDirectory
from actors.shard_runner import RunnerPlace, RunnerSettings
from actors.spool_index import SpoolBounds
from actors.user_resolver import PersonMemories, ResolverSettings
from adapters.audit import PostgresAuditLog
from adapters.clock import monotonic_ms, now_ms
from adapters.dashboard_store import PostgresDashboardStore
from adapters.discord_bot import DiscordBot, ShardSettings
from adapters.discord_login import DiscordLogin
from adapters.discord_members import DiscordMembers
from adapters.discord_people import DiscordPeople
from adapters.guild_store import PostgresGuildStore
from adapters.insight_store import PostgresInsightStore
from adapters.memory import MemorySpool
from adapters.network_store import PostgresNetworkStore
from adapters.people_table import PeopleTable
from adapters.postgres import API_CONNECTIONS, RELAY_CONNECTIONS, USER_TABLE_CONNECTIONS, open_pool
from adapters.rate_limiter import RedisRateLimiter
from adapters.re2_patterns import compile_pattern
from adapters.redis_authority import RedisAuthorityStore
from adapters.redis_connection import connect
from adapters.redis_counts import RedisCounts
from adapters.redis_ended import RedisEndedSessions
from adapters.redis_identify import RedisIdentifyGrants
from adapters.redis_open_sockets import RedisOpenSockets
from adapters.redis_people import RedisPeople
from adapters.redis_sessions import RedisSessions
from adapters.redis_supervision import RedisSupervision
from adapters.redis_together import TogetherRedis
from adapters.role_store import PostgresRoleStore
from adapters.sealing import Sealer
from adapters.settings_store import PostgresSettingsStore
from adapters.sqlite_spool import SqliteSpool
from adapters.warning_store import PostgresWarningStore
from domain.ports import NodeRef
from domain.rates import Rates
from domain.sessions import MAX_SESSIONS
from domain.socket_limits import SocketLimits
from serve_app.cache import Caches, ForgettingAnnouncer
from serve_app.guild_watch import GuildWatch
from serve_app.pacing import Pace
from serve_app.ports import MAX_BODY_BYTES, ApiPorts, RelayPorts, WebSettings
from serve_app.sessions import Sessions
from tasks import SupervisedTasks

PRESENCE_SPOOL_BYTES = 64 << 20
BOT_PERMISSIONS = 1 << 13 | 1 << 10 | 1 << 7 | 1 << 40
"""Manage messages, view channels, view the audit log, moderate members."""


class RunnerPlan(NamedTuple):
    """One shard runner of the network."""

    shard_ids: tuple[int, ...]
    create: Callable[[NodeRef | None], RunnerHandle]
    """Creates it on a machine, or wherever there is room."""


class Wiring(msgspec.Struct, frozen=True):
    """Every address and secret, resolved: what was embedded has its own by now."""

    database_url: str
    redis_url: str
    public_url: str
    static_dir: Path
    client_id: str
    client_secret: str
    authorize_url: str
    api_base: str
    bot_token: str
    user_resolvers: int
    operators: frozenset[int] = frozenset()
    secret_keys: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    rates: Rates = Rates()
    max_body_bytes: int = MAX_BODY_BYTES
    socket_limits: SocketLimits = SocketLimits()
    max_sessions: int = MAX_SESSIONS
    live_tick_ms: int = 25

    @property
    def web(self) -> WebSettings:
        """What the web side must know."""
        invite = f"{self.authorize_url}?client_id={self.client_id}"
        return WebSettings(
            public_url=self.public_url,
            static_dir=self.static_dir,
            invite_url=f"{invite}&scope=bot+applications.commands&permissions={BOT_PERMISSIONS}",
            operators=self.operators,
            trusted_proxies=self.trusted_proxies,
            max_body_bytes=self.max_body_bytes,
        )


async def open_api_ports(wiring: Wiring) -> ApiPorts:
    """Open what an API replica needs."""
    pool = await open_pool(wiring.database_url, max_size=API_CONNECTIONS)
    insights = await PostgresInsightStore.open(wiring.database_url)
    redis = connect(wiring.redis_url)  # one for all that every request asks: it travels together
    sessions, login, close_sessions = _open_sessions(wiring, redis)
    ended = RedisEndedSessions(wiring.redis_url)
    tasks = SupervisedTasks("sessions")
    tasks.keep("hear of ends", lambda: sessions.hear_of_ends(ended))
    counts = RedisCounts(redis, now_ms)
    discord = DiscordMembers(api_base=wiring.api_base, token=wiring.bot_token)
    board = RedisSupervision(redis, now_ms)

    director = AnyDirector()
    directory = GuildDirectory(director)
    watch = GuildWatch(directory, director)
    caches = Caches(monotonic_ms, watch)
    watch.start(caches)

    async def close() -> None:
        await watch.stop()
        await pool.close()
        await insights.close()
        await tasks.stop()
        await ended.close()
        await close_sessions()
        await discord.close()
        await redis.aclose()

    return ApiPorts(
        settings=wiring.web,
        roles=await asyncio.to_thread(find_rbac),
        discord_roles=discord,
        store=PostgresDashboardStore(pool),
        sessions=sessions,
        login=login,
        now_ms=now_ms,
        close=close,
        audit=PostgresAuditLog(pool),
        people=ResolvedPeople(await asyncio.to_thread(find_resolvers, wiring.user_resolvers), now_ms),
        announcer=ForgettingAnnouncer(caches, HostAnnouncer(directory)),
        caches=caches,
        guild_settings=PostgresSettingsStore(pool),
        warnings=PostgresWarningStore(pool),
        limiter=RedisRateLimiter(redis, wiring.rates),
        insights=insights,
        network=LiveNetwork(AnyDirector(), find_runners, PostgresNetworkStore(pool), board),
        supervision=board,
        counts=counts,
        replica=secrets.token_hex(4),
    )


async def open_relay_ports(wiring: Wiring) -> RelayPorts:
    """Open what a relay replica needs."""
    replica = secrets.token_hex(4)
    pool = await open_pool(wiring.database_url, max_size=RELAY_CONNECTIONS)
    redis = connect(wiring.redis_url)
    sessions, _, close_sessions = _open_sessions(wiring, redis)
    ended = RedisEndedSessions(wiring.redis_url)

    async def close() -> None:
        await pool.close()
        await ended.close()
        await close_sessions()
        await redis.aclose()

    return RelayPorts(
        settings=wiring.web,
        sessions=sessions,
        roles=await asyncio.to_thread(find_rbac),
        audit=PostgresAuditLog(pool),
        close=close,
        limiter=RedisRateLimiter(redis, wiring.rates),
        ended=ended,
        counts=RedisCounts(redis, now_ms),
        replica=replica,
        open_sockets=RedisOpenSockets(redis, replica),
        socket_limits=wiring.socket_limits,
        pace=Pace(wiring.live_tick_ms / 1000),
    )


def _open_sessions(
    wiring: Wiring, redis: str | TogetherRedis
) -> tuple[Sessions, DiscordLogin, Callable[[], Awaitable[None]]]:
    """Open what knows who is logged in, and Discord as people are asked about; return how both close."""
    store = RedisSessions(redis, Sealer(wiring.secret_keys), now_ms, most=wiring.max_sessions)
    login = DiscordLogin(
        api_base=wiring.api_base,
        authorize_url=wiring.authorize_url,
        client_id=wiring.client_id,
        client_secret=wiring.client_secret,
        redirect_uri=f"{wiring.public_url}/api/auth/callback",
    )
    sessions = Sessions(store, login, now_ms)

    async def close() -> None:
        await sessions.close()
        await login.close()
        await store.close()

    return sessions, login, close


async def open_person_memories(wiring: Wiring) -> PersonMemories:
    """Open where a UserResolver looks for people."""
    return PersonMemories(
        RedisPeople(wiring.redis_url),
        PeopleTable(await open_pool(wiring.database_url, max_size=USER_TABLE_CONNECTIONS)),
    )


def create_resolver(wiring: Wiring, number: int) -> ResolverHandle:
    """Create one of the UserResolvers, for its share of the people."""
    source = partial(DiscordPeople, api_base=wiring.api_base, token=wiring.bot_token, now_ms=now_ms)
    return remote.create_resolver(
        number, ResolverSettings(), partial(open_person_memories, wiring), source, now_ms
    )


def create_rbac(wiring: Wiring) -> RbacHandle:
    """Create the Rbac actor."""
    return remote.create_rbac(
        partial(PostgresRoleStore.open, wiring.database_url),
        partial(_ask_for_members, wiring),
        partial(RedisAuthorityStore, wiring.redis_url),
        now_ms,
    )


def create_director(wiring: Wiring, settings: DirectorSettings) -> DirectorHandle:
    """Create the Director."""
    return remote.create_director(*director_parts(wiring, settings))


def director_parts(wiring: Wiring, settings: DirectorSettings) -> tuple[Any, ...]:
    """Return what a Director is made of."""
    open_store = partial(PostgresGuildStore.open, wiring.database_url)
    access = HostAccess(partial(_create_host, wiring.database_url), find_host)
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


def _ask_for_members(wiring: Wiring) -> MemberRoles:
    source = DiscordMembers(api_base=wiring.api_base, token=wiring.bot_token)
    return MemberRoles(MemberRolesSettings(), source)


def _create_host(database_url: str, host_id: str, actor_name: str) -> HostHandle:
    open_store = partial(PostgresGuildStore.open, database_url, actor_name)
    settings = HostSettings(host_id, actor_name, owns_process=True)
    return remote.create_host(actor_name, settings, open_store, now_ms)
