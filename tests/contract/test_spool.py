"""One suite for the spool in SQLite and for its twin; the file's own troubles are at the end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from adapters.memory import MemorySpool
from adapters.queries import load_queries
from adapters.sqlite_spool import SqliteSpool
from domain.detection import SeenText
from domain.errors import StoreUnavailable
from domain.ports import SEEN_KEPT_MS, Spool, SpoolChanges, SpoolContents, SpooledBatch

OpenSpool = Callable[[], Spool]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "r0.sqlite"


@pytest.fixture(params=["memory", "sqlite"])
async def reopen(request: pytest.FixtureRequest, file: Path) -> AsyncIterator[OpenSpool]:
    """Give what opens the same spool again, as the next process does."""
    twin = MemorySpool()
    opened: list[Spool] = []

    def once_more() -> Spool:
        opened.append(twin if request.param == "memory" else SqliteSpool(file))
        return opened[-1]

    yield once_more
    for spool in opened[-1:]:
        await spool.close()


def batch(position: int, payload: bytes, **changes: object) -> tuple[SpooledBatch, bytes]:
    known = {"lane": "h0", "source": "s>h0", "number": position, "events": 2, "lost_events": 0}
    times = {"since_ms": 10, "until_ms": 2**45}
    return SpooledBatch(position=position, size=len(payload), **(known | times | changes)), payload  # type: ignore[arg-type]


async def contents_of(spool: Spool) -> SpoolContents:
    """Open a spool; return what is in it but its id."""
    contents = await spool.open()
    assert contents.spool_id
    return msgspec.structs.replace(contents, spool_id="")


async def test_what_was_written_is_there_in_the_next_life(reopen: OpenSpool) -> None:
    """In order, whatever the order it was written in, and byte by byte."""
    spool = reopen()
    assert await contents_of(spool) == SpoolContents()
    two, one = batch(2, b"\0two"), batch(1, b"one", lane="h1", lost_events=7, events=0)
    await spool.write(SpoolChanges((two, one), alive_ms=2**45))
    await spool.close()
    spool = reopen()
    assert await contents_of(spool) == SpoolContents((one[0], two[0]), 2**45)
    assert await spool.read(2) == b"\0two"
    assert await spool.read(3) is None


async def test_a_batch_takes_the_place_of_another_and_can_be_removed(reopen: OpenSpool) -> None:
    """All in one write; what is not there can be removed too."""
    spool = reopen()
    await spool.open()
    await spool.write(SpoolChanges((batch(1, b"one"), batch(2, b"two"), batch(3, b"three"))))
    await spool.write(SpoolChanges((batch(2, b"instead"),), removed=(1, 9)))
    await spool.close()
    spool = reopen()
    assert [b.position for b in (await spool.open()).batches] == [2, 3]
    assert await spool.read(2) == b"instead"


async def test_what_a_life_knew_is_there_in_the_next(reopen: OpenSpool) -> None:
    """Its sessions, its guilds but those it left, and the texts of the last minute."""
    spool = reopen()
    await spool.open()
    first = SeenText(1 << 62, 1, 2, b"12345678", 1_000)
    later = SeenText((1 << 62) + 1, 1, 2, b"12345678", 1_000 + SEEN_KEPT_MS)
    last = SeenText((1 << 62) + 2, 1, 2, b"12345678", 1_001 + SEEN_KEPT_MS)
    await spool.write(SpoolChanges(saved=b"old", guilds={1: b"one", 2: b"two"}, seen=(first,)))
    await spool.write(SpoolChanges(saved=b"new", guilds={1: b"renamed", 2: None, 3: None}, seen=(later,)))
    await spool.close()
    spool = reopen()
    assert await contents_of(spool) == SpoolContents((), None, b"new", {1: b"renamed"}, (first, later))
    await spool.write(SpoolChanges(seen=(last,)))
    await spool.close()
    assert (await reopen().open()).seen == (later, last)


async def test_writes_keep_their_order(reopen: OpenSpool) -> None:
    """However many are asked for at once."""
    spool = reopen()
    await spool.open()
    await asyncio.gather(*(spool.write(SpoolChanges((batch(1, b"%d" % n),), alive_ms=n)) for n in range(50)))
    assert await spool.read(1) == b"49"


async def test_a_killed_process_loses_nothing_that_was_written(file: Path) -> None:
    """``kill -9`` right after the write returned."""
    code = (
        "import asyncio, pathlib, sys\n"
        "from adapters.sqlite_spool import SqliteSpool\n"
        "from domain.ports import SpoolChanges, SpooledBatch\n"
        "async def main():\n"
        "    spool = SqliteSpool(pathlib.Path(sys.argv[1]))\n"
        "    await spool.open()\n"
        "    for n in range(1, 101):\n"
        "        batch = SpooledBatch(n, 'h0', 's', n, 1, 0, 1, 1, 3)\n"
        "        await spool.write(SpoolChanges(((batch, b'abc'),), alive_ms=n))\n"
        "    print('written', flush=True)\n"
        "    await asyncio.sleep(3600)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - it must be killed, not awaited
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "written\n"
        os.kill(process.pid, signal.SIGKILL)
    spool = SqliteSpool(file)
    contents = await spool.open()
    assert [b.number for b in contents.batches] == list(range(1, 101))
    assert contents.alive_ms == 100
    await spool.close()


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def break_file(file: Path, damage: str) -> None:
    if damage == "no database":
        file.write_bytes(b"this is no database" * 1_000)
    elif damage == "other schema":
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    else:
        with file.open("r+b") as half:
            half.seek(4096)
            half.write(b"\xff" * 8_192)
    os.utime(file, (1_000_000, 1_000_000))


@pytest.mark.parametrize("damage", ["no database", "other schema", "torn"])
async def test_a_broken_file_is_put_aside(file: Path, damage: str) -> None:
    """The new one is empty, knows when the old one was last written, and works."""
    spool = SqliteSpool(file)
    await spool.open()
    await spool.write(SpoolChanges(tuple(batch(n, b"x" * 5_000) for n in range(1, 20))))
    await spool.close()
    await asyncio.to_thread(break_file, file, damage)
    spool = SqliteSpool(file)
    assert await contents_of(spool) == SpoolContents(alive_ms=1_000_000_000)
    assert "r0.sqlite.corrupt" in names(file.parent)
    await spool.write(SpoolChanges((batch(1, b"one"),)))
    assert await spool.read(1) == b"one"
    await spool.close()


async def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    """And so does every call after."""
    tmp_path.joinpath("spool").touch()
    spool = SqliteSpool(tmp_path / "spool" / "r0.sqlite")
    for call in (spool.open, lambda: spool.read(1), lambda: spool.write(SpoolChanges(removed=(1,)))):
        with pytest.raises(StoreUnavailable):
            await call()
    await spool.close()


async def test_a_file_has_one_runner_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused, and the file is not taken for broken."""
    monkeypatch.setattr("adapters.sqlite_spool.LOCKED_FOR_S", 0.01)
    first, second = SqliteSpool(file), SqliteSpool(file)
    await first.open()
    await first.write(SpoolChanges((batch(1, b"one"),)))
    with pytest.raises(StoreUnavailable):
        await second.open()
    assert await first.read(1) == b"one"
    await second.close()
    await first.close()


async def test_a_full_disk_says_so_and_loses_nothing(file: Path) -> None:
    """Nothing of the write was done, the file is not taken for broken, and with room again it works."""
    spool = SqliteSpool(file)
    await spool.open()
    await spool.write(SpoolChanges((batch(1, b"one"),), alive_ms=1))
    connection = spool._connection
    assert connection is not None
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = batch(2, b"x" * 100_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await spool.write(SpoolChanges((large,), removed=(1,), alive_ms=2))
    assert await spool.read(1) == b"one"
    assert await spool.read(2) is None
    connection.execute("PRAGMA max_page_count = 1000")
    await spool.write(SpoolChanges((large,), alive_ms=3))
    await spool.close()
    assert names(file.parent) == {"r0.sqlite", "r0.sqlite.lock"}
    spool = SqliteSpool(file)
    assert await contents_of(spool) == SpoolContents((batch(1, b"one")[0], large[0]), 3)
    await spool.close()


async def test_a_file_that_could_not_be_opened_can_be_later(tmp_path: Path) -> None:
    """By the same spool, once what was in the way is gone."""
    tmp_path.joinpath("spool").touch()
    spool = SqliteSpool(tmp_path / "spool" / "r0.sqlite")
    with pytest.raises(StoreUnavailable):
        await spool.open()
    tmp_path.joinpath("spool").unlink()
    assert await contents_of(spool) == SpoolContents()
    await spool.write(SpoolChanges((batch(1, b"one"),)))
    assert await spool.read(1) == b"one"
    await spool.close()


async def test_a_write_that_cannot_be_done_leaves_nothing_behind(file: Path) -> None:
    """Neither half of itself nor anything that would keep later ones from being done."""
    spool = SqliteSpool(file)
    await spool.open()
    with pytest.raises(OverflowError):
        await spool.write(SpoolChanges((batch(1, b"one"), batch(2, b"two", until_ms=2**70))))
    assert await spool.read(1) is None
    await spool.write(SpoolChanges((batch(3, b"three"),)))
    assert await spool.read(3) == b"three"
    await spool.close()


async def test_a_file_of_the_release_before_is_taken_over(file: Path) -> None:
    """With its batches; it has no sessions yet."""
    file.parent.mkdir()
    old = sqlite3.connect(file)
    queries = load_queries("sqlite_spool.sql")
    old.execute(queries["create_batches"])
    old.execute(queries["create_life"])
    known, payload = batch(1, b"one")
    old.execute(queries["put_batch"], (*msgspec.structs.astuple(known)[:-1], payload))
    old.execute(queries["put_alive"], (7,))
    old.execute("PRAGMA user_version = 1")
    old.commit()
    old.close()
    spool = SqliteSpool(file)
    assert await contents_of(spool) == SpoolContents((known,), 7)
    await spool.write(SpoolChanges(saved=b"new"))
    await spool.close()
    spool = SqliteSpool(file)
    assert (await spool.open()).saved == b"new"
    await spool.close()


async def test_a_spool_is_known_by_its_id(reopen: OpenSpool) -> None:
    """The same in every life."""
    spool = reopen()
    spool_id = (await spool.open()).spool_id
    await spool.close()
    assert (await reopen().open()).spool_id == spool_id


async def test_a_spool_that_was_lost_begins_under_another_id(file: Path) -> None:
    """So that nobody takes it for empty."""
    spool = SqliteSpool(file)
    spool_id = (await spool.open()).spool_id
    await spool.close()
    await asyncio.to_thread(file.unlink)
    assert (await spool_of(file)).spool_id not in {spool_id, ""}


async def spool_of(file: Path) -> SpoolContents:
    spool = SqliteSpool(file)
    try:
        return await spool.open()
    finally:
        await spool.close()


@pytest.mark.parametrize("frozen", [False, True])
async def test_the_newest_process_has_the_file(file: Path, frozen: bool) -> None:
    """An earlier one that lives on, or would when it thaws, is ended: it can write nothing any more."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from adapters.sqlite_spool import SqliteSpool\n"
        "async def main():\n"
        "    spool = SqliteSpool(pathlib.Path(sys.argv[1]))\n"
        "    print((await spool.open()).spool_id, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        spool_id = (await asyncio.to_thread(process.stdout.readline)).strip()
        if frozen:
            os.kill(process.pid, signal.SIGSTOP)
        spool = SqliteSpool(file)
        assert (await spool.open()).spool_id == spool_id
        assert await asyncio.to_thread(process.wait, 5) == -signal.SIGKILL
        await spool.close()
