"""One suite for the places where people are remembered, and the local Discord as the one who knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from adapters.discord_people import DiscordPeople
from adapters.memory import MemoryPersonMemory
from adapters.memory.samples import NOON_MS
from adapters.people_table import PeopleTable
from adapters.postgres import open_pool
from adapters.redis_people import RedisPeople
from domain.errors import DiscordBusy, DiscordUnavailable, StoreUnavailable
from domain.people import Person, PersonMemory, gone

ADA = Person(2**63 - 1, "ada", "Ada ✨", "https://cdn.example/ada.png", NOON_MS)
NOBODY = 2**61 + 5
BOB = Person(2**61 + 17, "bob", "Bob", None, NOON_MS)


@pytest.fixture(params=["memory", "redis", "postgres"])
async def memory(
    request: pytest.FixtureRequest, redis_url: str, postgres_dsn: str
) -> AsyncIterator[PersonMemory]:
    """Give each place, empty of the people used here."""
    if request.param == "memory":
        yield MemoryPersonMemory()
    elif request.param == "redis":
        redis = RedisPeople(redis_url)
        for who in (ADA, BOB):
            await redis._redis.delete(f"guildhall:person:{who.user_id}")
        yield redis
        await redis.close()
    else:
        pool = await open_pool(postgres_dsn, max_size=2)
        await pool.execute(
            "DELETE FROM user_cache WHERE user_id = ANY($1::bigint[])", [ADA.user_id, BOB.user_id]
        )
        yield PeopleTable(pool)
        await pool.close()


async def test_who_was_remembered_is_recalled_whole(memory: PersonMemory) -> None:
    """Ids up to 2^63, names of any script; who was never heard of is missing."""
    await memory.remember([ADA, BOB])
    assert await memory.recall([ADA.user_id, BOB.user_id, NOBODY]) == {ADA.user_id: ADA, BOB.user_id: BOB}
    assert await memory.recall([]) == {}
    await memory.remember([])


async def test_a_deleted_account_stays_deleted(memory: PersonMemory) -> None:
    """It has no names any more, wherever it is remembered."""
    await memory.remember([BOB])
    deleted = gone(BOB.user_id, seen_ms=NOON_MS + 1)
    await memory.remember([deleted])
    assert await memory.recall([BOB.user_id]) == {BOB.user_id: deleted}


async def test_what_is_newer_stays(memory: PersonMemory) -> None:
    """Answers may arrive in another order than they were given."""
    newer = Person(BOB.user_id, "bob", "Robert", None, NOON_MS + 1)
    await memory.remember([newer])
    await memory.remember([BOB])
    assert await memory.recall([BOB.user_id]) == {BOB.user_id: newer}


@pytest.mark.parametrize("kind", ["memory", "redis", "postgres"])
async def test_a_place_that_is_away_says_so(kind: str, postgres_dsn: str, tmp_path: Path) -> None:
    """Reading and writing alike."""
    where: PersonMemory
    if kind == "memory":
        where = MemoryPersonMemory()
        where.available = False
    elif kind == "redis":
        where = RedisPeople(f"unix://{tmp_path}/nobody.sock")
    else:
        pool = await open_pool(postgres_dsn, max_size=1)
        await pool.close()
        where = PeopleTable(pool)
    with pytest.raises(StoreUnavailable):
        await where.recall([1])
    with pytest.raises(StoreUnavailable):
        await where.remember([BOB])


async def test_a_host_that_hears_of_a_person_is_believed(postgres_dsn: str) -> None:
    """Hosts write whom they hear of into the same table, without a word of when: it is now."""
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute("DELETE FROM user_cache WHERE user_id = 4711")
    await connection.execute(
        "INSERT INTO user_cache (user_id, username, display_name) VALUES (4711, 'eve', 'Eve')"
    )
    pool = await open_pool(postgres_dsn, max_size=1)
    found = (await PeopleTable(pool).recall([4711]))[4711]
    assert (found.username, found.display_name, found.deleted) == ("eve", "Eve", False)
    assert found.seen_ms > NOON_MS
    await pool.close()
    await connection.close()


class TestDiscord:
    """The real adapter against the local Discord, and against answers that Discord may give as well."""

    @pytest.fixture
    async def people(self, discord: dict[str, Any]) -> AsyncIterator[DiscordPeople]:
        source = DiscordPeople(
            api_base=f"{discord['url']}/api/v10", token=discord["token"], now_ms=lambda: NOON_MS
        )
        yield source
        await source.close()

    async def test_it_describes_who_is_there(self, people: DiscordPeople, discord: dict[str, Any]) -> None:
        """By the names that the local Discord has for its people."""
        user_id = await _somebody(discord)
        person = await people.describe(user_id)
        assert person.user_id == user_id
        assert person.username
        assert person.display_name
        assert (person.seen_ms, person.deleted) == (NOON_MS, False)

    async def test_who_is_not_there_was_deleted(self, people: DiscordPeople) -> None:
        assert await people.describe(999) == gone(999, seen_ms=NOON_MS)

    @pytest.mark.parametrize(
        ("status", "body", "error"),
        [
            (429, '{"retry_after": 2.5, "global": true}', DiscordBusy),
            (500, "{}", DiscordUnavailable),
            (401, '{"code": 0}', DiscordUnavailable),
            (404, '{"code": 0}', DiscordUnavailable),
            (200, "<html>", DiscordUnavailable),
            (200, '{"id": "1"}', DiscordUnavailable),
            (200, "[]", DiscordUnavailable),
            (429, '{"retry_after": "soon"}', DiscordUnavailable),
        ],
    )
    async def test_what_is_no_answer_is_an_error(
        self, status: int, body: str, error: type[Exception], answering: Callable[[int, str], DiscordPeople]
    ) -> None:
        """Never a deleted person, and never a crash."""
        with pytest.raises(error) as caught:
            await answering(status, body).describe(1)
        if isinstance(caught.value, DiscordBusy):
            assert caught.value.retry_after_s == 2.5

    async def test_a_deleted_account_has_a_telling_name(
        self, answering: Callable[[int, str], DiscordPeople]
    ) -> None:
        """Discord still describes it, by such a name."""
        source = answering(200, '{"id": "5", "username": "deleted_user_0a1b2c", "global_name": null}')
        assert await source.describe(5) == gone(5, seen_ms=NOON_MS)

    async def test_nobody_there_is_no_answer(self) -> None:
        """A port that nobody listens on."""
        source = DiscordPeople(api_base="http://127.0.0.1:9", token="t", now_ms=lambda: NOON_MS)
        with pytest.raises(DiscordUnavailable):
            await source.describe(1)
        await source.close()

    @pytest.fixture
    async def answering(self) -> AsyncIterator[Callable[[int, str], DiscordPeople]]:
        """Give a Discord that always answers the same."""
        close: list[Callable[[], Awaitable[None]]] = []

        def make(status: int, body: str) -> DiscordPeople:
            source = DiscordPeople(api_base="http://discord.test", token="t", now_ms=lambda: NOON_MS)
            source._client = httpx2.AsyncClient(
                base_url="http://discord.test",
                transport=httpx2.MockTransport(lambda _: httpx2.Response(status, text=body)),
            )
            close.append(source.close)
            return source

        yield make
        for one in close:
            await one()


async def _somebody(discord: dict[str, Any]) -> int:
    async with httpx2.AsyncClient() as client:
        world = (await client.get(f"{discord['url']}/_sim/world")).json()
    return int(world["people"]["owner"]["id"])
