"""A real database, copied, gone on with, and put back: what its clients know of the time between is over."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from actors.guild import Watch
from actors.host import GuildHost, HostSettings
from adapters.clock import now_ms
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.guild_store import PostgresGuildStore
from adapters.memory.samples import violation
from adapters.migrate import migrate
from adapters.postgres import open_pool
from adapters.settings_store import PostgresSettingsStore
from domain.audit import Change
from domain.errors import VersionConflict
from domain.events import Accepted, Batch, MessagesCounted, NotMine, Reply, decode_reply, encode_batch
from domain.guild_settings import GuildConfig, default_rules
from domain.ids import hour_start
from domain.placement import place
from tests.actors.hosts import Listener, until

GUILD = 7
BY = Change(1, None)


async def _begin(dsn: str, host_id: str) -> GuildHost:
    host = GuildHost(HostSettings(host_id, tick_ms=50), partial(PostgresGuildStore.open, dsn), now_ms)
    await host.start()
    await host.assign(place(1, [host_id]))
    return host


async def _send(host: GuildHost, number: int, count: int) -> Reply:
    events = (MessagesCounted(GUILD, hour_start(now_ms()), count),)
    return decode_reply(await host.ingest(encode_batch(Batch("s", number, events))))


def _copy(folder: Path, to: Path) -> None:
    """Copy a folder with its owners: Postgres insists on being its folder's."""
    shutil.copytree(folder, to)
    for original in (folder, *folder.rglob("*")):
        owner = original.lstat()
        os.chown(to / original.relative_to(folder), owner.st_uid, owner.st_gid, follow_symlinks=False)


async def _until_the_end(relay: Listener) -> None:
    while not await relay.ended():
        pass


@asynccontextmanager
async def _listening(host: GuildHost, relay_id: str) -> AsyncIterator[Listener]:
    relay = Listener(host.stream(relay_id))
    assert await relay.next() == []
    yield relay
    await relay.close()


async def _end(*hosts: GuildHost) -> None:
    for host in hosts:
        await host.stop("the test is over")
        await host._store.close()  # type: ignore[attr-defined]


async def _save(dsn: str, rule: int = 0, config: int = 0) -> tuple[int, int]:
    """Save a rule and the configuration as a page does that shows these versions; return the new ones."""
    pool = await open_pool(dsn, max_size=1)
    store = PostgresSettingsStore(pool)
    try:
        flood = default_rules()["mention-flood"]
        saved = await store.write_rule(GUILD, "mention-flood", flood, from_version=rule, change=BY)
        after = await store.write_config(GUILD, GuildConfig(), from_version=config, change=BY)
    finally:
        await pool.close()
    return saved.version, after.version


async def _replaces_nothing(dsn: str, lost: tuple[int, int], stands: tuple[int, int]) -> None:
    """Save what stands, then with what a page shows of the lost time: both is refused."""
    rule, config = await _save(dsn, *stands)
    for shown in (lost[0], config), (rule, lost[1]):
        with pytest.raises(VersionConflict):
            await _save(dsn, *shown)


async def test_nothing_of_a_history_that_was_taken_back_is_believed(tmp_path: Path) -> None:
    """Living hosts are fenced, no number or version comes again, positions are old, the gap is told."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    data.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="gh-") as runtime:
        postgres = EmbeddedPostgres(data, Path(runtime))
        dsn = await postgres.start()
        await migrate(dsn)
        store = await PostgresGuildStore.open(dsn)
        await store.ensure_partitions(now_ms())
        old = await _begin(dsn, "h0")
        assert isinstance(await _send(old, 1, 5), Accepted)
        page = await _save(dsn)
        await postgres.stop()
        await asyncio.to_thread(_copy, data, copy)
        assert await postgres.start() == dsn
        await until(lambda: old._token != 0, 30)
        # History goes on: in a guild of h0, and with a life of h1 that the copy knows nothing of.
        async with _listening(old, "r1") as relay:
            before = await old.watch("r1", Watch(1, GUILD, 10, None))
            assert isinstance(await _send(old, 2, 7), Accepted)
            later = await _begin(dsn, "h1")
            lost = await _save(dsn, *page)
            await old.announce(GUILD, [("violation", {"id": str(violation(GUILD).event_id)})])
            await postgres.stop()
            await asyncio.to_thread(shutil.rmtree, data)
            copy.rename(data)
            await postgres.start()
            await until(lambda: old._fenced and later._fenced, 30)
            ended = asyncio.create_task(_until_the_end(relay))
            await asyncio.wait_for(ended, 10)
        assert isinstance(await _send(old, 3, 1), NotMine)
        await _replaces_nothing(dsn, lost, page)
        lives = [old._incarnation.number, later._incarnation.number]
        new = [await _begin(dsn, host_id) for host_id in ("h0", "h1")]
        numbers = [host._incarnation.number for host in new]
        assert numbers[0] >> 24 == lives[1] >> 24  # the sequence does repeat
        assert len({*lives, *numbers}) == len(lives) + len(numbers)
        assert isinstance(await _send(new[0], 3, 1), Accepted)
        async with _listening(new[0], "r2"):
            after = await new[0].watch("r2", Watch(1, GUILD, 10, (before.epoch, before.offset)))
        assert not after.recovered
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("SELECT sum(messages) FROM metrics_hourly") == 6
        gaps = await connection.fetch("SELECT source, reason, since < until AS lasts FROM coverage_gaps")
        assert [tuple(gap) for gap in gaps] == [("database", "restored", True)]
        await connection.close()
        await _end(old, later, *new)
        await store.close()
        await postgres.stop()
