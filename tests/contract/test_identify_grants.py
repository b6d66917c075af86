"""One suite for the book of IDENTIFY grants in Redis and for its twin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from redis.asyncio import Redis

from adapters.embedded_redis import EmbeddedRedis
from adapters.memory import MemoryClock, MemoryIdentifyGrants
from adapters.redis_identify import RedisIdentifyGrants
from domain.errors import StoreUnavailable
from domain.identify import (
    IdentifyGrant,
    IdentifyGrants,
    IdentifyRules,
    Later,
    LimitsUnknown,
    SessionStarts,
)

RULES = IdentifyRules(interval_ms=120, hold_ms=400, refresh_ms=60_000, ask_ms=150)
FRESH = SessionStarts(total=1_000, remaining=1_000, reset_after_ms=3_600_000, max_concurrency=2)


class Books:
    """Gives grants by one book, each as another process has them, and lets time pass."""

    def __init__(self, another: Callable[[], IdentifyGrants], wait: Callable[[int], Awaitable[None]]) -> None:
        self.another, self.wait = another, wait

    async def open(self, starts: SessionStarts = FRESH) -> IdentifyGrants:
        grants = self.another()
        assert await grants.ask(0, "first") == LimitsUnknown()
        await grants.note(starts)
        return grants


@pytest.fixture(params=["memory", "redis"])
async def books(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Books]:
    if request.param == "memory":
        clock = MemoryClock()
        twin = MemoryIdentifyGrants(RULES, clock)

        async def advance(wait_ms: int) -> None:
            clock.advance(wait_ms)

        yield Books(lambda: twin, advance)
        return
    opened: list[RedisIdentifyGrants] = []

    def another() -> RedisIdentifyGrants:
        opened.append(RedisIdentifyGrants(redis_url, "a token", RULES))
        return opened[-1]

    async def sleep(wait_ms: int) -> None:
        await asyncio.sleep(wait_ms / 1000 + 0.005)  # Redis has a clock of its own

    yield Books(another, sleep)
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(opened[0]._book)
    for each in opened:
        await each.close()


async def granted(grants: IdentifyGrants, shard_id: int, holder: str = "x") -> IdentifyGrant:
    answer = await grants.ask(shard_id, holder)
    assert isinstance(answer, IdentifyGrant), answer
    return answer


async def later(grants: IdentifyGrants, shard_id: int, why: str) -> int:
    answer = await grants.ask(shard_id, "later")
    assert isinstance(answer, Later), answer
    assert answer.why == why
    return answer.wait_ms


async def test_one_asks_discord_and_the_others_wait(books: Books) -> None:
    """And when the one who was to ask dies, another is to, a little later."""
    one, two = books.another(), books.another()
    assert await one.ask(0, "a") == LimitsUnknown()
    assert 0 < await later(two, 1, "limits") <= 100
    await books.wait(RULES.ask_ms)
    assert await two.ask(1, "b") == LimitsUnknown()
    await two.note(FRESH)
    assert await granted(one, 0, "a") == IdentifyGrant(0, "a")


async def test_a_bucket_is_granted_once_an_interval(books: Books) -> None:
    """Counted from when the IDENTIFY was sent, whoever asks; another bucket waits for nothing."""
    one = await books.open()
    two = books.another()
    grant = await granted(one, 0)
    assert await later(two, 2, "bucket") == RULES.interval_ms  # it will be spent soon
    assert (await granted(two, 1)).bucket == 1
    await books.wait(50)
    await one.spent(grant)
    wait_ms = await later(two, 2, "bucket")
    assert RULES.interval_ms - 50 < wait_ms <= RULES.interval_ms
    await books.wait(wait_ms)
    assert (await granted(two, 2)).bucket == 0


async def test_what_was_not_sent_is_given_back(books: Books) -> None:
    """At once, and without costing one of the day's starts."""
    one = await books.open(SessionStarts(20, 2, 3_600_000, 2))
    await books.wait(RULES.interval_ms)  # the book is new, and Discord has seen starts
    for _ in range(5):
        await one.give_back(await granted(one, 0))
    await one.spent(await granted(one, 0))


async def test_who_dies_with_a_grant_keeps_the_bucket_for_a_while(books: Books) -> None:
    """It may have sent its IDENTIFY in the last moment; what it says after its time means nothing."""
    one = await books.open()
    lost = await granted(one, 0, "lost")
    await books.wait(RULES.hold_ms)
    assert await later(one, 0, "bucket") <= RULES.interval_ms
    await books.wait(RULES.interval_ms)
    next_one = await granted(one, 0, "next")
    await one.give_back(lost)
    await one.spent(lost)
    await books.wait(RULES.interval_ms)
    await later(one, 0, "bucket")
    await one.give_back(next_one)
    await granted(one, 0)


async def test_a_reserve_of_the_days_starts_is_left_alone(books: Books) -> None:
    """A twentieth, fifty at most; then everybody waits for Discord's next day, however often it is asked."""
    one = await books.open(SessionStarts(100, 7, 500, 16))
    await books.wait(RULES.interval_ms)
    for shard_id in range(2):
        await granted(one, shard_id)
    assert 0 < await later(one, 3, "budget") <= 500
    await books.wait(500)
    assert await one.ask(3, "x") == LimitsUnknown()
    await one.note(SessionStarts(100, 100, 3_600_000, 16))
    await granted(one, 3)


async def test_grants_on_their_way_count_as_spent(books: Books) -> None:
    """Discord has not counted them yet when it is asked."""
    one = await books.open()
    await granted(one, 0)
    await one.note(SessionStarts(1_000, 52, 3_600_000, 2))
    await granted(one, 1)
    await books.wait(RULES.hold_ms + RULES.interval_ms)
    await later(one, 0, "budget")  # 52, less the one on its way and the one after it


async def test_a_book_that_was_lost_leaves_the_buckets_alone_first(books: Books) -> None:
    """Nobody knows who identified a moment ago; unless Discord says that nobody did."""
    one = await books.open(SessionStarts(1_000, 999, 3_600_000, 2))
    wait_ms = await later(one, 0, "bucket")
    assert 0 < wait_ms <= RULES.interval_ms
    await books.wait(wait_ms)
    await granted(one, 0)


async def test_a_book_that_was_put_back_leaves_the_buckets_alone_first(redis_url: str) -> None:
    """It does not know of the last grants; who asks does."""
    grants = RedisIdentifyGrants(redis_url, "another token", RULES)
    async with Redis.from_url(redis_url) as redis:
        await grants.ask(0, "a")
        await grants.note(FRESH)
        before = await redis.dump(grants._book)
        assert before is not None
        await grants.spent(await granted(grants, 0))
        await redis.restore(grants._book, 0, before, replace=True)
        assert await grants.ask(2, "b") == LimitsUnknown()
        await grants.note(FRESH)
        assert 0 < await later(grants, 2, "bucket") <= RULES.interval_ms
        await redis.delete(grants._book)
    await grants.close()


async def test_a_redis_that_began_anew_leaves_the_buckets_alone_first(redis: EmbeddedRedis) -> None:
    """What it has from its disk may be older than the last grants, of which who asks first need not know."""
    url = redis.url
    grants = RedisIdentifyGrants(url, "a token", RULES)
    await grants.ask(0, "a")
    await grants.note(FRESH)
    await redis.stop()
    await redis.start()
    other = RedisIdentifyGrants(url, "a token", RULES)
    assert await other.ask(1, "b") == LimitsUnknown()
    await other.note(FRESH)
    assert 0 < await later(other, 1, "bucket") <= RULES.interval_ms
    for each in (grants, other):
        await each.close()


async def test_a_clock_that_was_set_forward_leaves_the_buckets_alone_first(redis_url: str) -> None:
    """An interval that it says has passed may not be over: time has passed here, too."""
    rules = msgspec.structs.replace(RULES, jump_ms=50)
    grants = RedisIdentifyGrants(redis_url, "a third token", rules, lambda: 100.0)
    await grants.ask(0, "a")
    await grants.note(FRESH)
    await grants.spent(await granted(grants, 0))
    await asyncio.sleep((RULES.interval_ms + 20) / 1000)  # on the clock of Redis
    assert await grants.ask(0, "b") == LimitsUnknown()
    await grants.note(FRESH)
    assert 0 < await later(grants, 0, "bucket") <= RULES.interval_ms
    async with Redis.from_url(redis_url) as redis:
        await redis.delete(grants._book)
    await grants.close()


async def test_a_book_that_is_away_grants_nothing(books: Books, tmp_path: object) -> None:
    """It says so, with an error of ours."""
    grants = books.another()
    if isinstance(grants, MemoryIdentifyGrants):
        grants.available = False
        away: IdentifyGrants = grants
    else:
        away = RedisIdentifyGrants(f"unix://{tmp_path}/nobody.sock", "a token", RULES)
    for call in (
        away.ask(0, "x"),
        away.note(FRESH),
        away.spent(IdentifyGrant(0, "x")),
        away.give_back(IdentifyGrant(0, "x")),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    if isinstance(away, RedisIdentifyGrants):
        await away.close()
