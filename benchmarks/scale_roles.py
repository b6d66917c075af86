"""Measures what it costs to keep roles of very many watchers, and how fast one who loses theirs is deaf.

The real Rbac actor on Ray with a Postgres and a Redis of its own, and a relay's real hub and doorkeeper in
this process; only the guild host and the browsers are pretended. Beside it, what asking about everybody
twice a second would cost by the same calls.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import uvloop

from actors.authority_reports import HEARING_EVERY_S
from actors.guild import Admission, Answer, Unwatch, Watch
from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.routing import GuildDirectory, Routing
from adapters.clock import now_ms
from adapters.discord_members import PAGE_SIZE
from adapters.embedded_redis import EmbeddedRedis
from adapters.memory import MemoryLogin, MemoryOpenSockets, SharedSockets
from adapters.memory.samples import person
from adapters.redis_authority import RedisAuthorityStore
from adapters.redis_ended import RedisEndedSessions
from adapters.redis_sessions import RedisSessions
from adapters.role_store import PostgresRoleStore
from adapters.sealing import Sealer, new_key
from benchmarks.one_host import actor_processes, connected, system
from benchmarks.result import Result, percentile
from discord_sim.rate_limits import GLOBAL_LIMIT, Limit, RateLimiter
from domain.authority import MemberAuthority
from domain.errors import DiscordBusy
from domain.gateway_hearing import ShardHeard
from domain.placement import place
from domain.roles import Member, MemberPage, Revoke
from domain.sessions import Session, SessionGuild
from domain.socket_limits import SocketLimits
from serve_app import doorkeeper
from serve_app.authority_watch import AuthorityWatch
from serve_app.doorkeeper import ASK_AGAIN_S, Doorkeeper
from serve_app.frame import Frame
from serve_app.hub import Hub
from serve_app.sessions import Sessions
from serve_app.socket import Socket
from serve_app.socket_counts import SocketCounts

if TYPE_CHECKING:
    from actors.handles import RbacHandle

PAIRS = 50_000
GUILDS_A_SOCKET = 5
WATCHERS_A_GUILD = 10
REVOCATIONS = 1_000
REVOCATIONS_PER_S = 20.0
DEAF_WITHIN_S = 30.0
SETTLE_S = 2.0
SESSIONS_AT_ONCE = 200
MAPPED_EACH = 5
"""One person in so many has their roles by a mapping, and watches one big server beside smaller ones."""
TIME_SCALE = 10
"""So many times faster than real ones are Discord's limits, its latency, and what the product does by them.
So what is asked of Discord costs ten times what it would."""
DISCORD_LATENCY_S = 0.06
SHARDS = 64
KNOWN_WITHIN_S = 240.0

_FIRST_GUILD, _FIRST_USER, _OWNER = 10**17, 2 * 10**17, 1
_BIG_GUILD = 10**17 - 1
_MAPPED_ROLE = 71
_FILL = """
INSERT INTO role_assignments (guild_id, user_id, role)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[])
"""


class Plan(NamedTuple):
    """How much is measured."""

    pairs: int = PAIRS
    """(socket, guild)."""
    revocations: int = REVOCATIONS
    look_again_s: float = doorkeeper.LOOK_AGAIN_S
    """How often everybody is looked at; one whole round is measured."""


class _Wire:
    """A browser that only notices when it is told that it may watch no longer."""

    way = "bench"
    ready = True

    def __init__(self) -> None:
        self.on_ready: Any = None
        self.deaf_s = 0.0
        self.deaf = asyncio.Event()

    def write(self, frame: Frame) -> None:
        if any(b'"not_allowed"' in text for text in frame.texts):
            self.deaf_s = time.monotonic()
            self.deaf.set()

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(f"closed with {code}: {reason}")


class _Host:
    """Admits everybody at once, and has nothing to say."""

    async def stream(self, relay_id: str) -> AsyncIterator[list[Any]]:
        del relay_id
        yield []
        await asyncio.Event().wait()

    async def register(self, relay_id: str, requests: list[Watch | Unwatch]) -> list[Answer]:
        del relay_id
        admitted = Admission(1, 0, recovered=True, replay=b"")
        return ["done" if isinstance(request, Unwatch) else admitted for request in requests]


class _Routing:
    """Gives every guild to the one host."""

    def __init__(self) -> None:
        self._routing = Routing(place(1, ["h0"]), {"h0": _Host()})  # type: ignore[dict-item]

    async def routing(self) -> Routing:
        return self._routing


class _Discord:
    """Discord's limits and latency, in scaled time. All members have the role that is mapped; picklable.

    The servers are large: a page of a list holds a hundred watchers of the big one, and one of any other.
    """

    def __init__(self) -> None:
        self._limits = RateLimiter(Limit(GLOBAL_LIMIT.requests, 1 / TIME_SCALE))

    async def discord_roles(self, guild_id: int, user_id: int) -> frozenset[int]:
        del user_id
        await self._take("member", guild_id, Limit(5, 1 / TIME_SCALE))
        return frozenset({guild_id, _MAPPED_ROLE})

    async def list_members(self, guild_id: int, after: int) -> MemberPage:
        await self._take("members", guild_id, Limit(10, 10 / TIME_SCALE))
        first = max(after + 1, _FIRST_USER)
        roles = dict.fromkeys(range(first, first + PAGE_SIZE), frozenset({guild_id, _MAPPED_ROLE}))
        return MemberPage(roles, first + PAGE_SIZE - 1)

    async def _take(self, route: str, guild_id: int, limit: Limit) -> None:
        await asyncio.sleep(DISCORD_LATENCY_S / TIME_SCALE)
        verdict = self._limits.take(
            token="bot",  # noqa: S106 - whose limits they are
            route=route,
            major=str(guild_id),
            limit=limit,
            now=time.monotonic(),
        )
        if not verdict.allowed:
            everywhere = verdict.scope == "global"
            raise DiscordBusy(retry_after_s=verdict.reset_after_s, everywhere=everywhere)


def _members() -> MemberRoles:
    """Return the product's defaults, in scaled time."""
    usual = MemberRolesSettings()
    scaled = MemberRolesSettings(
        remember_s=usual.remember_s / TIME_SCALE,
        refresh_s=usual.refresh_s / TIME_SCALE,
        check_s=usual.check_s / TIME_SCALE,
        per_s=usual.per_s * TIME_SCALE,
    )
    return MemberRoles(scaled, _Discord())


async def _tell_hearing(rbac: RbacHandle) -> None:
    """Say as the shard runners do that all shards are heard."""
    shards = [ShardHeard(shard_id, SHARDS, "bench", 0.0) for shard_id in range(SHARDS)]
    while True:
        await rbac.heard([], shards)
        await asyncio.sleep(HEARING_EVERY_S)


class _Watcher(NamedTuple):
    socket: Socket
    wire: _Wire
    members: list[Member]


class _Relay:
    """What a relay has of hub and doorkeeper, with its watchers."""

    def __init__(self, rbac: RbacHandle, sessions: Sessions, ended: RedisEndedSessions) -> None:
        everywhere = MemoryOpenSockets(SharedSockets(), "relay")  # nobody replays anything here
        counts = SocketCounts(SocketLimits(), everywhere, time.monotonic)
        self.hub = Hub(GuildDirectory(_Routing()), counts)
        self.doorkeeper = Doorkeeper(self.hub, rbac, sessions, ended, self._refuse, time.monotonic, now_ms)
        self.watch = AuthorityWatch(rbac, [self.doorkeeper], time.monotonic)
        self.watchers: list[_Watcher] = []

    async def start(self) -> None:
        await self.hub._directory.start()  # noqa: SLF001 - the relay hands one in that has started
        await self.hub.start()
        self.doorkeeper.start()
        self.watch.start()

    async def stop(self) -> None:
        await self.watch.stop()
        await self.doorkeeper.stop()
        for watcher in self.watchers:
            self.hub.leave(watcher.socket)
        await self.hub.stop()

    def follow(self, user_id: int, token: str, members: list[Member]) -> None:
        wire = _Wire()
        socket = Socket(user_id, token, wire)
        self.hub.enter(socket)
        for member in members:
            self.hub.subscribe(socket, member, None)
        self.watchers.append(_Watcher(socket, wire, members))

    @staticmethod
    def _refuse(socket: Socket, guild_id: int) -> None:
        del guild_id
        socket.push(Frame(b'{"op":"error","code":"not_allowed"}'))


async def run(plan: Plan | None = None) -> Result:
    """Let sockets watch, keep their roles for a round, then revoke some of them."""
    plan = plan or Plan()
    doorkeeper.LOOK_AGAIN_S = plan.look_again_s
    async with system() as core, AsyncExitStack() as stack:
        from pathlib import Path  # noqa: PLC0415
        from tempfile import TemporaryDirectory  # noqa: PLC0415

        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ghb-", dir="/tmp")))
        redis_url = await stack.enter_async_context(EmbeddedRedis(folder, folder))
        people = _people(plan.pairs)
        await _fill(core.database_url, people)
        rbac = await _begin_rbac(core.database_url, redis_url)
        store = RedisSessions(redis_url, Sealer([new_key()]), now_ms)
        stack.push_async_callback(store.close)
        sessions = Sessions(store, MemoryLogin(now_ms=now_ms), now_ms)
        relay = _Relay(rbac, sessions, RedisEndedSessions(redis_url))
        await relay.start()
        stack.push_async_callback(relay.stop)
        tokens = await _log_in(store, people)
        for user_id, members in people.items():
            relay.follow(user_id, tokens[user_id], members)
        hearing = asyncio.create_task(_tell_hearing(rbac))
        polling_s, known_s = await _ask_about_all(rbac, people)
        unknown_before = relay.doorkeeper.stats().unknown
        kept = await _keep(relay, plan.look_again_s)
        late_ms = await _revoke(rbac, relay, plan.revocations)
        seen = relay.doorkeeper.stats()
        hearing.cancel()
    polling_percent = 100 * polling_s / 0.5
    return Result(
        "scale_roles",
        kept
        | {
            "pairs": plan.pairs,
            "sockets": len(people),
            "pairs_by_a_mapping": sum(len(members) for user, members in people.items() if _is_mapped(user)),
            "all_known_after_s_of_discord": round(known_s * TIME_SCALE, 1),
            "revocations": len(late_ms),
            "deaf_ms_p50": round(percentile(late_ms, 0.5), 1),
            "deaf_ms_p99": round(percentile(late_ms, 0.99), 1),
            "deaf_ms_worst": round(max(late_ms), 1),
            "slowest_revocation_ms_by_metric": seen.slowest_ms,
            "unknown_answers": seen.unknown - unknown_before,
        },
        {
            "polling_s_for_all_once": round(polling_s, 3),
            "polling_twice_a_second_percent_of_a_core": round(polling_percent, 1),
        },
        ratio=polling_percent / max(kept["percent_of_a_core"], 0.01),
    )


def _people(pairs: int) -> dict[int, list[Member]]:
    """Return who watches what: everybody a few guilds, with a list that is as new as now."""
    count, guilds = max(1, pairs // GUILDS_A_SOCKET), max(GUILDS_A_SOCKET, pairs // WATCHERS_A_GUILD)
    as_of_ms = now_ms()
    people = {}
    for number in range(count):
        user_id, first = _FIRST_USER + number, number * GUILDS_A_SOCKET
        ids = [_FIRST_GUILD + (first + each) % guilds for each in range(GUILDS_A_SOCKET)]
        if _is_mapped(user_id):
            ids[-1] = _BIG_GUILD
        people[user_id] = [
            Member(user_id, guild_id, owns=False, discord_permissions=0, as_of_ms=as_of_ms)
            for guild_id in ids
        ]
    return people


def _is_mapped(user_id: int) -> bool:
    return (user_id - _FIRST_USER) % MAPPED_EACH == 0


async def _fill(database_url: str, people: dict[int, list[Member]]) -> None:
    """Give most people their roles by assignment; the rest have them by a mapping."""
    everybody = [member for members in people.values() for member in members]
    assigned = [member for member in everybody if not _is_mapped(member.user_id)]
    mapped = {member.guild_id for member in everybody if _is_mapped(member.user_id)}
    async with connected(database_url) as connection:
        await connection.execute(
            _FILL,
            [member.guild_id for member in assigned],
            [member.user_id for member in assigned],
            ["moderator"] * len(assigned),
        )
        await connection.execute(
            "INSERT INTO role_mappings (guild_id, discord_role_id, role)"
            " SELECT g, $2, 'viewer' FROM unnest($1::bigint[]) AS g",
            sorted(mapped),
            _MAPPED_ROLE,
        )
        await connection.execute("ANALYZE role_assignments, role_mappings")


async def _begin_rbac(database_url: str, redis_url: str) -> RbacHandle:
    from actors.remote import create_rbac  # noqa: PLC0415 - Ray

    rbac = create_rbac(
        partial(PostgresRoleStore.open, database_url),
        _members,
        partial(RedisAuthorityStore, redis_url),
        now_ms,
    )
    await rbac.start()
    return rbac


async def _log_in(store: RedisSessions, people: dict[int, list[Member]]) -> dict[int, str]:
    turn = asyncio.Semaphore(SESSIONS_AT_ONCE)

    async def log_in(user_id: int, members: list[Member]) -> tuple[int, str]:
        guilds = tuple(SessionGuild(member.guild_id, "Guild", None, False, 0) for member in members)
        async with turn:
            session = Session(person(user_id), guilds, "csrf", members[0].as_of_ms)
            return user_id, await store.create(session)

    return dict(await asyncio.gather(*(log_in(*each) for each in people.items())))


async def _ask_about_all(rbac: RbacHandle, people: dict[int, list[Member]]) -> tuple[float, float]:
    """Return the seconds of CPU, here and in the actor, for asking about everybody once.

    And how long it took until Discord had said of everybody what matters of them.
    """
    everybody = [member for members in people.values() for member in members]
    parts = [everybody[at : at + 2_000] for at in range(0, len(everybody), 2_000)]
    began_s = time.monotonic()
    async with asyncio.timeout(KNOWN_WITHIN_S):
        for part in parts:  # what Discord says of them is known from here on
            while len(await rbac.roles_of(part)) < len(part):  # noqa: ASYNC110 - the actor tells nobody
                await asyncio.sleep(ASK_AGAIN_S)
    known_s = time.monotonic() - began_s
    before = _cpu_s()
    for part in parts:
        await rbac.roles_of(part)
    return sum(_cpu_s()) - sum(before), known_s


async def _keep(relay: _Relay, look_again_s: float) -> dict[str, Any]:
    """Return what a whole round of looking at everybody costs, once the beginning is over."""
    await asyncio.sleep(SETTLE_S)
    looks, before, began_s = relay.doorkeeper.stats().looks, _cpu_s(), time.monotonic()
    await asyncio.sleep(look_again_s)
    elapsed_s = time.monotonic() - began_s
    here_s, there_s = (now - then for now, then in zip(_cpu_s(), before, strict=True))
    return {
        "percent_of_a_core": round(100 * (here_s + there_s) / elapsed_s, 2),
        "percent_of_a_core_relay": round(100 * here_s / elapsed_s, 2),
        "percent_of_a_core_rbac": round(100 * there_s / elapsed_s, 2),
        "looked_at_in_the_round": relay.doorkeeper.stats().looks - looks,
        "round_s": round(elapsed_s, 1),
    }


async def _revoke(rbac: RbacHandle, relay: _Relay, count: int) -> list[float]:
    """Take authority away in turns, here and on Discord; return how long each took to be deaf, in ms."""
    chosen = random.sample(relay.watchers, min(count, len(relay.watchers)))
    late_ms: list[float] = []
    revoking: list[asyncio.Task[None]] = []

    async def revoke(watcher: _Watcher, number: int) -> None:
        member, began_s = watcher.members[0], time.monotonic()
        guild_id, user_id = member.guild_id, member.user_id
        if _is_mapped(user_id):  # they lose the role that is mapped
            await rbac.heard([MemberAuthority(guild_id, user_id, now_ms(), frozenset({guild_id}))])
        elif number % 2:
            owner = Member(_OWNER, guild_id, owns=True, discord_permissions=0)
            await rbac.change(Revoke(user_id), owner)
        else:
            await rbac.heard([MemberAuthority(guild_id, user_id, now_ms(), None)])
        async with asyncio.timeout(DEAF_WITHIN_S):
            await watcher.wire.deaf.wait()
        late_ms.append((watcher.wire.deaf_s - began_s) * 1000)

    for number, watcher in enumerate(chosen):
        revoking.append(asyncio.create_task(revoke(watcher, number)))
        await asyncio.sleep(1 / REVOCATIONS_PER_S)
    await asyncio.gather(*revoking)
    return late_ms


def _cpu_s() -> tuple[float, float]:
    """Return the seconds of CPU of this process and of the actor's, so far."""
    own = psutil.Process().cpu_times()
    [actor] = [process.cpu_times() for process in actor_processes("Rbac")]
    return own.user + own.system, actor.user + actor.system


if __name__ == "__main__":
    print(uvloop.run(run()))  # noqa: T201 - a benchmark says what it found
