"""One suite for sessions in Redis and for their twin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest
from redis.asyncio import Redis

from adapters.memory import MemoryClock, MemorySessions
from adapters.memory.samples import NOON_MS, person
from adapters.redis_sessions import RedisSessions
from adapters.sealing import Sealer, new_key
from domain.errors import SealBroken, SessionsUnavailable
from domain.sessions import (
    ENDED_CHANNEL,
    GUILDS_KEPT_MS,
    IDLE_MS,
    LOGIN_MS,
    MAX_SESSIONS,
    SESSION_MS,
    Memberships,
    PendingLogin,
    Session,
    SessionGuild,
    SessionStore,
    Tokens,
    session_id_of,
)

GUILDS = (SessionGuild(2**62, "Guild", None, owns=True, permissions=8),)
TOKENS = Tokens("access-token", "refresh-token", NOON_MS + 1)
KEY = new_key()

_users = count(2**63 - 10_000)


def session_of(user_id: int, created_at_ms: int = NOON_MS) -> Session:
    someone = person(user_id, display_name="Ünïcode ✨")
    return Session(someone, GUILDS, csrf_token="csrf", created_at_ms=created_at_ms)


class Kept(NamedTuple):
    """A store, the clock that it looks at, and what was told of ended sessions."""

    store: SessionStore
    clock: MemoryClock
    ended: Callable[[], Any]


@pytest.fixture
def user_id() -> int:
    """Give somebody whom no other test knows."""
    return next(_users)


@pytest.fixture(params=["memory", "redis"])
async def kept(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Kept]:
    clock = MemoryClock()
    if request.param == "memory":
        memory = MemorySessions(clock)

        async def recorded() -> list[str]:
            return list(memory.ended)

        yield Kept(memory, clock, recorded)
        return
    store = RedisSessions(redis_url, Sealer([KEY]), clock)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        redis = await stack.enter_async_context(Redis.from_url(redis_url, decode_responses=True))
        listening = await stack.enter_async_context(redis.pubsub())
        await listening.subscribe(ENDED_CHANNEL)
        heard: list[str] = []

        async def listened() -> list[str]:
            """Return everything that was told before now."""
            await redis.publish(ENDED_CHANNEL, "now")
            async with asyncio.timeout(5):
                async for message in listening.listen():
                    if message["data"] == "now":
                        return heard
                    if message["type"] == "message":
                        heard.append(message["data"])
            raise AssertionError

        yield Kept(store, clock, listened)


async def test_a_session_is_found_by_its_token_alone(kept: Kept, user_id: int) -> None:
    """Whole, ids up to 2^63 included; any other token finds nothing."""
    given = session_of(user_id)
    token = await kept.store.create(given)
    found = await kept.store.get(token)
    assert found == msgspec.structs.replace(
        given, session_id=session_id_of(token), guilds_as_of_ms=given.created_at_ms
    )
    for other in (f"{token}x", "", found.session_id, "\ud800", "x" * 10_000):
        assert await kept.store.get(other) is None
    await kept.store.ping()


async def test_every_session_has_a_token_of_its_own(kept: Kept, user_id: int) -> None:
    """Long enough that nobody guesses one."""
    tokens = {await kept.store.create(session_of(user_id)) for _ in range(20)}
    assert len(tokens) == 20
    assert min(map(len, tokens)) >= 43


async def test_an_ended_session_is_gone_and_told_of(kept: Kept, user_id: int) -> None:
    """It alone; ending it twice is no error."""
    ended, other = [await kept.store.create(session_of(user_id)) for _ in range(2)]
    await kept.store.end(ended)
    await kept.store.end(ended)
    assert await kept.store.get(ended) is None
    assert await kept.store.get(other) is not None
    told = await kept.ended()
    assert session_id_of(ended) in told
    assert session_id_of(other) not in told


async def test_the_last_session_gives_its_tokens_back(kept: Kept, user_id: int) -> None:
    """Only then may Discord be told: to revoke one pair ends every pair of the person's."""
    first, second = [await kept.store.create(session_of(user_id), TOKENS) for _ in range(2)]
    somebody_else = await kept.store.create(session_of(next(_users)), TOKENS)
    assert await kept.store.end(first) is None
    assert await kept.store.end(second) == TOKENS
    assert await kept.store.end(second) is None
    assert await kept.store.get(somebody_else) is not None


async def test_a_session_that_ended_by_itself_is_none_that_is_left(kept: Kept, user_id: int) -> None:
    """Somebody whose other sessions are over logs out of the last one."""
    await kept.store.create(session_of(user_id, NOON_MS - SESSION_MS + 1), TOKENS)
    kept.clock.advance(1)
    token = await kept.store.create(session_of(user_id), TOKENS)
    assert await kept.store.end(token) == TOKENS


async def test_logging_out_everywhere_ends_all_of_a_persons_sessions(kept: Kept, user_id: int) -> None:
    """All of theirs are told of, nobody else's is touched; one pair of tokens is enough to revoke all."""
    other = await kept.store.create(session_of(next(_users)), TOKENS)
    tokens = [await kept.store.create(session_of(user_id), TOKENS) for _ in range(3)]
    assert await kept.store.end_all(user_id) == TOKENS
    assert [await kept.store.get(token) for token in tokens] == [None] * 3
    assert {session_id_of(token) for token in tokens} <= set(await kept.ended())
    assert session_id_of(other) not in await kept.ended()
    assert await kept.store.get(other) is not None
    assert await kept.store.end_all(user_id) is None


async def test_a_session_ends_a_week_after_its_login(kept: Kept, user_id: int) -> None:
    """However busy it is."""
    token = await kept.store.create(session_of(user_id))
    for _ in range(7):
        assert await kept.store.get(token) is not None
        kept.clock.advance(IDLE_MS - 1)
    assert await kept.store.get(token) is not None
    kept.clock.advance(7)
    assert await kept.store.get(token) is None


async def test_of_many_sessions_those_alive_are_told(kept: Kept, user_id: int) -> None:
    """What ended, is too old or never was is not among them; nobody is asked about none."""
    alive, ended, other = [await kept.store.create(session_of(user_id)) for _ in range(3)]
    old = await kept.store.create(session_of(user_id, NOON_MS - SESSION_MS))
    await kept.store.end(ended)
    ids = [session_id_of(token) for token in (alive, ended, other, old)]
    asked = [*ids[:2], *(session_id_of(f"{user_id}-{number}") for number in range(5_000)), *ids[2:], ids[0]]
    assert await kept.store.alive(asked) == {session_id_of(alive), session_id_of(other)}
    assert await kept.store.alive([]) == set()


async def test_tokens_are_replaced_while_the_session_lives(kept: Kept, user_id: int) -> None:
    """A session that has ended is not revived by a renewal that comes late."""
    token = await kept.store.create(session_of(user_id), TOKENS)
    assert await kept.store.tokens(token) == TOKENS
    renewed = Tokens("a2", "r2", 2**40)
    assert await kept.store.keep_tokens(token, renewed)
    assert await kept.store.tokens(token) == renewed
    assert (await kept.store.get(token)) is not None
    await kept.store.end(token)
    assert not await kept.store.keep_tokens(token, TOKENS)
    assert await kept.store.tokens(token) is None
    assert await kept.store.get(token) is None


async def test_a_session_may_have_no_tokens(kept: Kept, user_id: int) -> None:
    """Then there are none to give."""
    token = await kept.store.create(session_of(user_id))
    assert await kept.store.tokens(token) is None
    assert await kept.store.tokens("never given") is None
    assert await kept.store.end(token) is None


async def test_guilds_are_the_persons(kept: Kept, user_id: int) -> None:
    """What is learned for one session holds for all of them."""
    tokens = [await kept.store.create(session_of(user_id)) for _ in range(2)]
    await kept.store.keep_guilds(user_id, (), NOON_MS + 5)
    for token in tokens:
        found = await kept.store.get(token)
        assert found is not None
        assert (found.guilds, found.guilds_as_of_ms) == ((), NOON_MS + 5)


async def test_many_peoples_lists_are_read_at_once(kept: Kept, user_id: int) -> None:
    """Nobody's who has none, or whose is older than a day."""
    await kept.store.create(session_of(user_id))
    lists = await kept.store.guild_lists([user_id, user_id - 1])
    assert lists == {user_id: Memberships(GUILDS, NOON_MS)}
    await kept.store.keep_guilds(user_id, (), NOON_MS + 1)
    assert await kept.store.guild_lists([user_id]) == {user_id: Memberships((), NOON_MS + 1)}
    assert await kept.store.guild_lists([]) == {}


async def test_one_has_the_turn(kept: Kept, user_id: int) -> None:
    """Of many who ask at once one gets it; ended, it is the next one's, and after a rest not before."""
    task, other = f"task-{user_id}", f"other-{user_id}"
    given = await asyncio.gather(*(kept.store.take_turn(task, 60_000) for _ in range(10)))
    assert given.count(True) == 1
    assert await kept.store.take_turn(other, 60_000)
    await kept.store.end_turn(task)
    assert await kept.store.take_turn(task, 60_000)
    await kept.store.end_turn(task, 60_000)
    assert not await kept.store.take_turn(task, 60_000)


async def test_a_login_is_taken_once(kept: Kept) -> None:
    """A state that comes back a second time is nobody's."""
    pending = PendingLogin("verifier", "/servers/1")
    await kept.store.remember_login("state", pending)
    assert await kept.store.take_login("state") == pending
    assert await kept.store.take_login("state") is None


async def test_redis_keeps_no_secret_and_forgets_in_time(redis_url: str) -> None:
    """No token, ours or Discord's, and no state can be read out of Redis, and every key has its lifetime."""
    store = RedisSessions(redis_url, Sealer([KEY]), MemoryClock())
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        await redis.flushall()
        user_id = next(_users)
        token = await store.create(session_of(user_id), TOKENS)
        assert await store.keep_tokens(token, TOKENS)
        await store.keep_guilds(user_id, GUILDS, NOON_MS)
        await store.remember_login("state-of-a-login", PendingLogin("v", "/"))
        await store.take_turn("task", 30_000)
        lives = {}
        for key in await redis.keys("*"):
            kind: Any = await redis.type(key)
            value: Any = await (redis.zrange(key, 0, -1) if kind == "zset" else redis.get(key))
            for secret in (token, TOKENS.access_token, TOKENS.refresh_token, "state-of-a-login"):
                assert secret not in key
                assert secret not in str(value)
            lives[key.split(":")[1]] = await redis.pttl(key)
        for name, life_ms in (
            ("session", IDLE_MS),
            ("sessions-of", SESSION_MS),
            ("guilds-of", GUILDS_KEPT_MS),
            ("login", LOGIN_MS),
            ("turn", 30_000),
        ):
            assert life_ms - 20_000 <= lives.pop(name) <= life_ms, name
        assert not lives
        # The last one out leaves nothing of the person behind.
        await store.end(token)
        assert not [key for key in await redis.keys("*") if str(user_id) in key]
    await store.close()


async def test_being_used_keeps_a_session_alive(redis_url: str) -> None:
    """Its day begins anew; renewing tokens changes nothing in that."""
    store = RedisSessions(redis_url, Sealer([KEY]), MemoryClock())
    token = await store.create(session_of(next(_users)), TOKENS)
    key = f"guildhall:session:{session_id_of(token)}"
    async with Redis.from_url(redis_url) as redis:
        await redis.pexpire(key, 60_000)
        assert await store.keep_tokens(token, TOKENS)
        assert await store.alive([session_id_of(token)]) == {session_id_of(token)}
        for _ in range(2):  # found in Redis, and as it was found before
            assert await store.get(token, touch=False) is not None
        assert await redis.pttl(key) <= 60_000
        await store.get(token)
        assert await redis.pttl(key) > IDLE_MS - 20_000
    await store.close()


async def test_keys_can_be_rotated(redis_url: str) -> None:
    """What the old key sealed opens as long as it is among the keys, and not without it."""
    old, new = new_key(), new_key()
    clock, user_id = MemoryClock(), next(_users)
    before, between, after = [
        RedisSessions(redis_url, Sealer(keys), clock) for keys in ([old], [new, old], [new])
    ]
    token = await before.create(session_of(user_id), TOKENS)
    assert await between.tokens(token) == TOKENS
    with pytest.raises(SealBroken):
        await after.tokens(token)
    assert await between.keep_tokens(token, TOKENS)
    assert await after.tokens(token) == TOKENS
    with pytest.raises(SealBroken):
        await before.tokens(token)
    assert await before.end(token) is None  # who cannot open them can still log out
    for store in (before, between, after):
        await store.close()


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b"\xff\xfe", b'{"user": 1}'])
async def test_a_record_that_is_none_is_no_session(redis_url: str, record: bytes) -> None:
    """Whatever another release left there, somebody logs in again and nothing breaks."""
    store = RedisSessions(redis_url, Sealer([KEY]), MemoryClock())
    async with Redis.from_url(redis_url) as redis:
        await redis.set(f"guildhall:session:{session_id_of('token')}", record)
        assert await store.get("token") is None
        assert await store.alive([session_id_of("token")]) == set()
        assert await store.tokens("token") is None
        assert await store.end("token") is None
    await store.close()


async def test_the_twin_forgets_in_time_too() -> None:
    """At the same age."""
    clock = MemoryClock()
    store = MemorySessions(clock)
    token = await store.create(session_of(1))
    await store.remember_login("state", PendingLogin("v", "/"))
    clock.advance(LOGIN_MS)
    assert await store.take_login("state") is None
    clock.advance(IDLE_MS - LOGIN_MS - 1)
    assert await store.get(token) is not None
    clock.advance(1)
    found = await store.get(token)
    assert found is not None
    assert (found.guilds, found.guilds_as_of_ms) == ((), 0)
    clock.advance(IDLE_MS - 1)
    assert await store.alive([session_id_of(token)]) == {session_id_of(token)}
    clock.advance(1)
    assert await store.alive([session_id_of(token)]) == set()
    assert await store.get(token) is None
    assert await store.take_turn("task", 10)
    clock.advance(10)
    assert await store.take_turn("task", 10)


async def test_a_store_that_is_away_says_so() -> None:
    """Whoever asks can then say "try again" instead of "log in"."""
    twin = MemorySessions()
    twin.available = False
    redis = RedisSessions("redis://127.0.0.1:1", Sealer([KEY]))
    stores: list[SessionStore] = [twin, redis]
    for store in stores:
        for call in (
            store.create(session_of(1)),
            store.get("t"),
            store.alive(["t"]),
            store.end("t"),
            store.end_all(1),
            store.tokens("t"),
            store.keep_tokens("t", TOKENS),
            store.keep_guilds(1, (), 1),
            store.take_turn("t", 1),
            store.end_turn("t"),
            store.remember_login("s", PendingLogin("v", "/")),
            store.take_login("s"),
            store.ping(),
        ):
            with pytest.raises(SessionsUnavailable):
                await call
    await redis.close()


async def test_what_was_read_before_is_not_believed(kept: Kept, user_id: int) -> None:
    """However often a session was asked for, it is what the store says now."""
    token = await kept.store.create(session_of(user_id))
    for _ in range(3):
        found = await kept.store.get(token)
        assert found is not None
        assert found.guilds == GUILDS
    await kept.store.keep_guilds(user_id, (), NOON_MS + 1)
    found = await kept.store.get(token)
    assert found is not None
    assert (found.guilds, found.guilds_as_of_ms) == ((), NOON_MS + 1)
    kept.clock.advance(SESSION_MS)
    assert await kept.store.get(token) is None
    another = await kept.store.create(session_of(user_id, created_at_ms=kept.clock()))
    assert await kept.store.get(another) == await kept.store.get(another) is not None
    await kept.store.end(another)
    assert await kept.store.get(another) is None


async def test_a_person_has_so_many_sessions_and_the_oldest_goes(kept: Kept, user_id: int) -> None:
    """It is told of like any other end; nobody else's is touched, and one that ended by itself is none."""
    somebody_else = await kept.store.create(session_of(next(_users)))
    tokens = [
        await kept.store.create(session_of(user_id, NOON_MS + number)) for number in range(MAX_SESSIONS + 2)
    ]
    alive = [await kept.store.get(token) is not None for token in tokens]
    assert alive == [False, False] + [True] * MAX_SESSIONS
    assert [each for each in await kept.ended() if each in map(session_id_of, tokens)] == [
        session_id_of(token) for token in tokens[:2]
    ]
    assert await kept.store.get(somebody_else) is not None
    await kept.store.end(tokens[-1])
    await kept.store.create(session_of(user_id, NOON_MS + 100))
    assert await kept.store.get(tokens[2]) is not None


async def test_the_session_that_begins_is_never_the_one_too_many(kept: Kept, user_id: int) -> None:
    """Not even when its date is the oldest, because another replica's clock was ahead."""
    for number in range(MAX_SESSIONS):
        await kept.store.create(session_of(user_id, NOON_MS + 1 + number))
    late = await kept.store.create(session_of(user_id, NOON_MS))
    assert await kept.store.get(late) is not None
    assert len(await kept.store.sessions_of(user_id)) == MAX_SESSIONS


async def test_a_persons_sessions_are_listed_and_ended_one_by_one(kept: Kept, user_id: int) -> None:
    """The newest first, each with its last use; only one's own can be ended, the last gives tokens."""
    first = await kept.store.create(session_of(user_id, NOON_MS), TOKENS)
    second = await kept.store.create(session_of(user_id, NOON_MS + 1_000), TOKENS)
    other = await kept.store.create(session_of(next(_users)))
    listed = await kept.store.sessions_of(user_id)
    assert [(each.session_id, each.created_at_ms) for each in listed] == [
        (session_id_of(second), NOON_MS + 1_000),
        (session_id_of(first), NOON_MS),
    ]
    assert all(abs(each.used_at_ms - kept.clock()) < 60_000 for each in listed)
    assert await kept.store.end_one(user_id, session_id_of(other)) == (False, None)
    assert await kept.store.end_one(user_id, "made-up") == (False, None)
    assert await kept.store.end_one(user_id, session_id_of(first)) == (True, None)
    assert await kept.store.end_one(user_id, session_id_of(first)) == (False, None)
    assert await kept.store.get(first) is None
    assert await kept.store.end_one(user_id, session_id_of(second)) == (True, TOKENS)
    assert await kept.store.sessions_of(user_id) == []
    assert await kept.store.get(other) is not None
