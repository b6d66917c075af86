"""What Postgres counts of the whole network."""

from __future__ import annotations

import asyncpg
import pytest

from adapters.network_store import PostgresNetworkStore
from adapters.postgres import open_pool
from domain.errors import StoreUnavailable
from tests.contract.stores import fresh_id


async def test_what_happened_in_the_last_hours_is_counted(postgres_dsn: str) -> None:
    """What others left in this database counts as well: the differences are looked at."""
    pool = await open_pool(postgres_dsn, max_size=2)
    store = PostgresNetworkStore(pool)
    before = await store.totals()
    guild_id, other = fresh_id(), fresh_id()
    await pool.execute(
        "INSERT INTO guilds (guild_id, bot_present, bot_online) VALUES ($1, true, true), ($2, true, false)",
        guild_id,
        other,
    )
    await pool.execute(
        "INSERT INTO metrics_hourly (guild_id, hour, messages, low, critical) VALUES "
        "($1, date_trunc('hour', now(), 'UTC'), 10, 1, 2), "
        "($1, date_trunc('hour', now(), 'UTC') - interval '1 hour', 100, 3, 0), "
        "($1, date_trunc('hour', now(), 'UTC') - interval '2 hours', 1000, 9, 9)",
        guild_id,
    )
    await pool.execute(
        "INSERT INTO poison_events (source, number, reason, payload, settled_at) "
        "VALUES ('network', 1, 'bad', '', NULL), ('network', 2, 'bad', '', now())"
    )
    after = await store.totals()
    assert after.guilds - before.guilds == 2
    assert after.guilds_online - before.guilds_online == 1
    assert after.messages - before.messages == 110
    assert after.violations - before.violations == 6
    assert after.open_poison - before.open_poison == 1
    await pool.close()


async def test_the_online_guilds_of_shards_are_found(postgres_dsn: str) -> None:
    """By the shard that Discord gives each to; not those that the bot left, or where it is offline."""
    pool = await open_pool(postgres_dsn, max_size=1)
    number = fresh_id()
    ids = [((number * 4 + shard) << 22) | 1 for shard in range(4)]
    offline, gone = ids[0] + 1, ids[0] + 2
    rows = [(guild_id, True, True) for guild_id in ids] + [(offline, True, False), (gone, False, True)]
    insert = "INSERT INTO guilds (guild_id, bot_present, bot_online) VALUES ($1, $2, $3)"
    async with pool.transaction() as connection:
        await connection.executemany(insert, rows)
    found = set(await PostgresNetworkStore(pool).online_guilds((0, 3), 4))
    assert found & {*ids, offline, gone} == {ids[0], ids[3]}
    await pool.close()


async def test_the_newest_gaps_come_first(postgres_dsn: str) -> None:
    connection = await asyncpg.connect(postgres_dsn)
    for number in range(3):
        await connection.execute(
            "INSERT INTO coverage_gaps (source, since, until, lost_events, reason) "
            "VALUES ($1, to_timestamp(100), to_timestamp(200.5), $2, 'blind')",
            f"network-{number}",
            number,
        )
    pool = await open_pool(postgres_dsn, max_size=1)
    newest, second = await PostgresNetworkStore(pool).gaps(limit=2)
    assert (newest.source, second.source) == ("network-2", "network-1")
    assert (newest.since, newest.until, newest.lost_events, newest.reason) == (100_000, 200_500, 2, "blind")
    await pool.close()
    await connection.close()


async def test_a_database_that_is_away_says_so(postgres_dsn: str) -> None:
    pool = await open_pool(postgres_dsn, max_size=1)
    await pool.close()
    store = PostgresNetworkStore(pool)
    with pytest.raises(StoreUnavailable):
        await store.totals()
    with pytest.raises(StoreUnavailable):
        await store.gaps(limit=1)
