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

from actors.guild import Watch
from actors.host import GuildHost, HostSettings
from adapters.clock import now_ms
from adapters.embedded_postgres import EmbeddedPostgres
from adapters.guild_store import PostgresGuildStore
from adapters.memory.samples import violation
from adapters.migrate import migrate
from domain.events import Accepted, Batch, MessagesCounted, NotMine, Reply, decode_reply, encode_batch
from domain.ids import hour_start
from domain.placement import place
from tests.actors.hosts import Listener, until

GUILD = 7


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


async def test_nothing_of_a_history_that_was_taken_back_is_believed(tmp_path: Path) -> None:
    """Living hosts are fenced, none of their numbers comes again, positions are old, the gap is told."""
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
        await postgres.stop()
        await asyncio.to_thread(_copy, data, copy)
        assert await postgres.start() == dsn
        await until(lambda: old._token != 0, 30)
        # History goes on: in a guild of h0, and with a life of h1 that the copy knows nothing of.
        async with _listening(old, "r1") as relay:
            before = await old.watch("r1", Watch(1, GUILD, 10, None))
            assert isinstance(await _send(old, 2, 7), Accepted)
            later = await _begin(dsn, "h1")
            await old.announce(GUILD, [("violation", {"id": str(violation(GUILD).event_id)})])
            await postgres.stop()
            await asyncio.to_thread(shutil.rmtree, data)
            copy.rename(data)
            await postgres.start()
            await until(lambda: old._fenced and later._fenced, 30)
            ended = asyncio.create_task(_until_the_end(relay))
            await asyncio.wait_for(ended, 10)
        assert isinstance(await _send(old, 3, 1), NotMine)
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
