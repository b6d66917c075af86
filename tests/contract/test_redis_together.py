"""Commands that travel together: each has its own answer, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from adapters.redis_connection import connect
from adapters.redis_together import MAX_TOGETHER, TogetherRedis


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[TogetherRedis]:
    client = connect(redis_url)
    assert isinstance(client, TogetherRedis)
    await client.set("name", "value")
    yield client
    await client.aclose()


async def test_each_has_its_own_answer(redis: TogetherRedis) -> None:
    """In whatever order they come back; also of more than go at once."""
    count = 3 * MAX_TOGETHER + 1
    await asyncio.gather(*(redis.set(f"together:{number}", number) for number in range(count)))
    found = await asyncio.gather(*(redis.get(f"together:{number}") for number in range(count)))
    assert [int(value) for value in found if value is not None] == list(range(count))
    calls = (await redis.info("commandstats"))["cmdstat_get"]["calls"]
    assert calls >= count


async def test_answers_are_as_they_are_alone(redis: TogetherRedis) -> None:
    """What redis-py makes of an answer it makes of it here too."""
    await redis.hset("hash", mapping={"a": 1})  # type: ignore[misc]
    alone = [await redis.hgetall("hash"), await redis.exists("hash"), await redis.set("x", 1)]  # type: ignore[misc]
    together = await asyncio.gather(redis.hgetall("hash"), redis.exists("hash"), redis.set("x", 1))
    assert alone == together


async def test_one_that_fails_fails_alone(redis: TogetherRedis) -> None:
    """An error that Redis answers with belongs to its command."""
    before, wrong, after = await asyncio.gather(
        redis.get("name"), redis.lpush("name", "x"), redis.get("name"), return_exceptions=True
    )
    assert (before, after) == (b"value", b"value")
    assert isinstance(wrong, ResponseError)


async def test_who_gives_up_leaves_the_others_theirs(redis: TogetherRedis) -> None:
    """Its answer comes and is dropped; no connection is lost by it."""
    asking = [asyncio.create_task(redis.get("name")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    asking[3].cancel()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert [value == b"value" for value in found] == [False, True, True, False, True]
    assert await redis.get("name") == b"value"


async def test_a_script_that_redis_does_not_know_is_sent_to_it(redis: TogetherRedis) -> None:
    """As redis-py does: many callers at once find that out together."""
    script = redis.register_script("return ARGV[1]")
    await redis.script_flush()
    assert await asyncio.gather(*(script(args=[number]) for number in range(9))) == [
        b"%d" % number for number in range(9)
    ]


async def test_when_redis_is_away_everybody_is_told(tmp_path: Path) -> None:
    """Each gets the failure; and who asks later is not told of an earlier one."""
    redis = connect(f"unix://{tmp_path}/nobody.sock")
    for _ in range(2):
        found = await asyncio.gather(*(redis.get("name") for _ in range(5)), return_exceptions=True)
        assert {type(problem) for problem in found} == {RedisConnectionError}
    await redis.aclose()


async def test_what_is_asked_meanwhile_goes_together(redis: TogetherRedis) -> None:
    """The first goes at once, all others in one batch after it."""
    sizes: list[int] = []
    under_way = asyncio.Event()
    answers = redis._answers

    async def counted(batch: list[object]) -> list[object]:
        sizes.append(len(batch))
        under_way.set()
        return await answers(batch)  # type: ignore[arg-type]

    redis._answers = counted  # type: ignore[method-assign,assignment]
    first = asyncio.create_task(redis.get("name"))
    await under_way.wait()
    await asyncio.gather(first, *(redis.get("name") for _ in range(20)))
    assert sizes == [1, 20]


async def test_several_of_one_caller_go_side_by_side(redis: TogetherRedis) -> None:
    """With their answers in their order; one that fails is raised, and none is left unlooked at."""
    assert await redis.together(("GET", "name"), ("EXISTS", "name"), ("GET", "nothing")) == [
        b"value",
        1,
        None,
    ]
    heard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    try:
        with pytest.raises(ResponseError):
            await redis.together(("GET", "name"), ("LPUSH", "name", 1), ("LPUSH", "name", 2))
        gc.collect()
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert heard == []


async def test_what_many_look_at_is_sent_once(redis: TogetherRedis) -> None:
    """As long as it waits to be sent; what is asked once it is under way is sent anew."""
    sent: list[int] = []
    under_way = asyncio.Event()
    answers = redis._answers

    async def counted(batch: list[object]) -> list[object]:
        sent.append(len(batch))
        under_way.set()
        return await answers(batch)  # type: ignore[arg-type]

    redis._answers = counted  # type: ignore[method-assign,assignment]
    look = ("GET", "name"), ("EXISTS", "name")
    first = [asyncio.create_task(redis.together(*look)) for _ in range(9)]
    await under_way.wait()
    await redis.set("name", "changed")
    later = [asyncio.create_task(redis.together(*look)) for _ in range(9)]
    assert await asyncio.gather(*first) == [[b"value", 1]] * 9
    assert await asyncio.gather(*later) == [[b"changed", 1]] * 9
    assert sent == [2, 1, 2]


async def test_who_gives_up_a_look_takes_it_from_nobody(redis: TogetherRedis) -> None:
    """Not even when it was the first to ask."""
    looking = [asyncio.create_task(redis.together(("GET", "name"))) for _ in range(3)]
    await asyncio.sleep(0)
    looking[0].cancel()
    found = await asyncio.gather(*looking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [[b"value"], [b"value"]]
