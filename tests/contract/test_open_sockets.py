"""One suite for counting sockets over all relays in Redis, and for the twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import NamedTuple

import pytest
from redis.asyncio import Redis

from adapters.memory import MemoryOpenSockets, SharedSockets
from adapters.redis_open_sockets import LIVES_MS, RedisOpenSockets
from domain.socket_limits import OpenSockets

NOWHERE = "redis://127.0.0.1:1"

_users = count(2**63 - 20_000)
_relays = count(1)


class Relays(NamedTuple):
    """What makes another relay."""

    open: Callable[[], OpenSockets]


@pytest.fixture(params=["memory", "redis"])
async def relays(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Relays]:
    opened: list[OpenSockets] = []
    shared = SharedSockets()

    def another() -> OpenSockets:
        name = f"relay-{next(_relays)}"
        relay: OpenSockets
        relay = (
            MemoryOpenSockets(shared, name)
            if request.param == "memory"
            else RedisOpenSockets(redis_url, name)
        )
        opened.append(relay)
        return relay

    yield Relays(another)
    for relay in opened:
        await relay.close()
        if isinstance(relay, RedisOpenSockets):
            await relay._redis.aclose()


@pytest.fixture
def user_id() -> int:
    """Give somebody whom no other test knows."""
    return next(_users)


async def test_sockets_count_over_all_relays(relays: Relays, user_id: int) -> None:
    """One more than allowed is refused and not noted; another person's count for nothing."""
    one, two = relays.open(), relays.open()
    await one.live()
    await two.live()
    assert [await one.enter(user_id, here, 3) for here in (1, 2)] == [True, True]
    assert await two.enter(user_id, 1, 3)
    assert not await two.enter(user_id, 2, 3)
    assert not await one.enter(user_id, 3, 3)
    assert await one.enter(next(_users), 3, 3)


async def test_a_socket_that_left_makes_room(relays: Relays, user_id: int) -> None:
    """As soon as its relay has told it."""
    one, two = relays.open(), relays.open()
    await one.live()
    assert await one.enter(user_id, 1, 1)
    assert not await two.enter(user_id, 1, 1)
    await one.tell(user_id, 0)
    assert await two.enter(user_id, 1, 1)


async def test_a_relay_that_is_gone_holds_nobodys_place(relays: Relays, user_id: int) -> None:
    """What it had told counts no longer; when it lives after all, it hears that it must tell it anew."""
    one, two = relays.open(), relays.open()
    assert not await one.live()
    assert await one.live()
    assert await one.enter(user_id, 1, 1)
    await one.close()
    assert await two.enter(user_id, 1, 1)
    assert not await one.live()


async def test_a_relays_life_ends_by_itself(redis_url: str) -> None:
    """One that was killed says nothing any more: ten seconds later its sockets count no longer."""
    relay = RedisOpenSockets(redis_url, "killed")
    await relay.live()
    async with Redis.from_url(redis_url) as redis:
        assert 0 < await redis.pttl("guildhall:relay:killed") <= LIVES_MS
    await relay.close()
    await relay._redis.aclose()


async def test_while_it_cannot_be_asked_each_relay_counts_for_itself(user_id: int) -> None:
    """Nobody is kept out, nothing is raised, and nothing is taken for told."""
    relay = RedisOpenSockets(NOWHERE, "alone")
    assert await relay.enter(user_id, 5, 3)
    await relay.tell(user_id, 1)
    assert not await relay.live()
    await relay.close()
