"""What an API replica and a relay hold, opened in their own processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from actors.announcer import HostAnnouncer
from actors.handles import (
    AnyDirector,
    find_rbac,
    find_resolvers,
    find_runners,
)
from actors.network import LiveNetwork
from actors.people import ResolvedPeople
from actors.routing import GuildDirectory
from adapters.audit import PostgresAuditLog
from adapters.clock import monotonic_ms, now_ms
from adapters.dashboard_store import PostgresDashboardStore
from adapters.discord_login import DiscordLogin
from adapters.discord_members import DiscordMembers
from adapters.insight_store import PostgresInsightStore
from adapters.network_store import PostgresNetworkStore
from adapters.postgres import API_CONNECTIONS, RELAY_CONNECTIONS, open_pool
from adapters.rate_limiter import RedisRateLimiter
from adapters.redis_connection import connect
from adapters.redis_counts import RedisCounts
from adapters.redis_ended import RedisEndedSessions
from adapters.redis_open_sockets import RedisOpenSockets
from adapters.redis_sessions import RedisSessions
from adapters.redis_supervision import RedisSupervision
from adapters.redis_together import TogetherRedis
from adapters.sealing import Sealer
from adapters.settings_store import PostgresSettingsStore
from adapters.warning_store import PostgresWarningStore
from guildhall.wiring import Wiring
from serve_app.cache import Caches, ForgettingAnnouncer
from serve_app.guild_watch import GuildWatch
from serve_app.pacing import Pace
from serve_app.ports import ApiPorts, RelayPorts
from serve_app.sessions import Sessions
from tasks import SupervisedTasks


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
