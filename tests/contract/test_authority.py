"""One suite for where the Rbac actor keeps what the gateway said of people who are logged in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from adapters.memory import MemoryAuthorityStore
from adapters.memory.samples import NOON_MS, person
from adapters.redis_authority import KEY, RedisAuthorityStore
from adapters.redis_sessions import RedisSessions
from adapters.sealing import Sealer, new_key
from domain.authority import FACTS_KEPT_MS, AuthorityStore, GuildAuthority, MemberAuthority
from domain.errors import SessionsUnavailable
from domain.sessions import Session

IN, OUT = 2**62 + 1, 2**62 + 2
"""One who is logged in, and one who is not."""
GUILD = GuildAuthority(40, NOON_MS, 7, frozenset({71}), frozenset({72}))


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[AuthorityStore]:
    if request.param == "memory":
        memory = MemoryAuthorityStore()
        memory.logged_in = {IN}
        yield memory
        return
    redis = RedisAuthorityStore(redis_url)
    await redis._redis.delete(KEY)
    sessions = RedisSessions(redis_url, Sealer([new_key()]), lambda: NOON_MS)
    await sessions.create(Session(person(IN), (), "csrf", NOON_MS))
    yield redis
    await sessions.end_all(IN)
    await sessions.close()
    await redis.close()


async def test_what_is_kept_the_next_life_finds(store: AuthorityStore) -> None:
    """Of guilds, and of people who are logged in; the newest of each, whole."""
    left = MemberAuthority(40, IN, NOON_MS, None)
    back = MemberAuthority(40, IN, NOON_MS + 1, frozenset({40, 2**63 - 1}), administrator=True)
    assert await store.keep([]) == set()
    assert await store.keep([left, MemberAuthority(40, OUT, NOON_MS, None), GUILD]) == {IN}
    assert await store.keep([MemberAuthority(41, IN, NOON_MS, None), back]) == {IN}
    found = await store.load(NOON_MS + 2)
    assert sorted(map(repr, found)) == sorted(
        map(repr, [back, GUILD, MemberAuthority(41, IN, NOON_MS, None)])
    )


async def test_what_is_too_old_is_forgotten(store: AuthorityStore) -> None:
    """After a day no list that it could outweigh is shown any more."""
    later = MemberAuthority(41, IN, NOON_MS + 1, None)
    await store.keep([MemberAuthority(40, IN, NOON_MS, None), later])
    assert await store.load(NOON_MS + FACTS_KEPT_MS) == [later]
    assert await store.load(NOON_MS + 2) == [later]


async def test_redis_that_is_away_is_told(store: AuthorityStore) -> None:
    """Whoever wants to keep something tries again."""
    if isinstance(store, MemoryAuthorityStore):
        store.available = False
        away: AuthorityStore = store
    else:
        away = RedisAuthorityStore("redis://127.0.0.1:1/0")
    with pytest.raises(SessionsUnavailable):
        await away.keep([GUILD])
    with pytest.raises(SessionsUnavailable):
        await away.load(NOON_MS)
