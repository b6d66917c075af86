"""The database put back to some minutes ago, under clients who hold what has never been."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from adapters.embedded_postgres import EmbeddedPostgres, binaries
from benchmarks.outages import check
from benchmarks.outages.people import People, settle, shown_wrong, until_whole
from benchmarks.result import part
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Person

WHOLE_WITHIN_S = 90.0
COPY_WITHIN_S = 60.0
BACK_WITHIN_S = 120.0


class Service(NamedTuple):
    """The database that the demo was given, and where its files are."""

    postgres: EmbeddedPostgres
    data: Path


async def restored(demo: DemoProcess, crowd: People, service: Service, ago_s: float) -> dict[str, Any]:
    """Copy it, go on for ``ago_s``, and put the copy back while everybody watches."""
    copy = service.data.with_name("copy")
    await _copy(service, copy)
    gaps_before = await _restored_gaps(demo.database_url)
    await asyncio.sleep(ago_s)
    owner = crowd.persons["owner"]
    newest = await _subscribe(owner, crowd)
    position = {"epoch": newest["epoch"], "offset": newest["offset"]}
    before = await check.read(demo.database_url)
    for visitor in crowd.visitors:
        visitor.mark()
    began = time.monotonic()
    await service.postgres.stop()
    await asyncio.to_thread(_put_back, service.data / "postgres", copy)
    await service.postgres.start()
    away_s = time.monotonic() - began
    reloaded = await _until_all_came_back(crowd)
    whole_s = await until_whole(crowd, WHOLE_WITHIN_S)
    recovered = (await _subscribe(owner, crowd, **position))["recovered"]
    figures, settled_s = await settle(demo.database_url, crowd.sim)
    after = await check.read(demo.database_url)
    figures = {
        "watchers": len(crowd.visitors),
        "rows_taken_back": len(dict(before.detections).keys() - dict(after.detections).keys()),
        "database_away_s": round(away_s, 1),
        "clients_reloaded": reloaded,
        "wrongly_recovered": sum(each.first_back == "resumed" for each in crowd.visitors) + recovered,
        "turned_out": crowd.turned_out(),
        "restored_gaps": await _restored_gaps(demo.database_url) - gaps_before,
        "whole_again_s": whole_s and round(whole_s, 1),
        "settled_s": round(settled_s, 1),
        **figures,
        **await shown_wrong(demo.database_url, crowd),
    }
    wrong = (
        *check.WRONG,
        "wrongly_recovered",
        "turned_out",
        *(name for name in figures if name.startswith("shown_")),
    )
    return part(
        bound=f"nobody goes on from what has never been, everybody sees what there is, one gap tells it, "
        f"whole in {WHOLE_WITHIN_S:.0f} s",
        met=not any(figures[name] for name in wrong)
        and reloaded == len(crowd.visitors)
        and figures["restored_gaps"] == 1
        and figures["rows_taken_back"] > 0
        and whole_s is not None,
        back_to_s_ago=ago_s,
        **figures,
    )


async def _subscribe(person: Person, crowd: People, **position: int) -> dict[str, Any]:
    """Return what a socket of its own is answered."""
    watching = await person.watch()
    try:
        answer = await watching.subscribe(str(crowd.guild_id), **position)
    finally:
        await watching.socket.close()
    if answer["op"] != "subscribed":
        raise ServiceFailed(f"The guild cannot be watched: {answer}")
    return answer


async def _restored_gaps(database_url: str) -> int:
    return sum(gap.reason == "restored" for gap in (await check.read(database_url)).gaps)


async def _until_all_came_back(crowd: People) -> int:
    """Wait until everybody who watches has come back in some way; return how many read everything anew."""
    until = time.monotonic() + BACK_WITHIN_S
    while time.monotonic() < until:
        if all(each.first_back is not None and each.live for each in crowd.visitors):
            break
        await asyncio.sleep(0.1)
    return sum(each.first_back == "reloaded" for each in crowd.visitors)


async def _copy(service: Service, copy: Path) -> None:
    """Copy a running server's files, as an operator does."""
    process = await asyncio.create_subprocess_exec(
        str(binaries() / "pg_basebackup"),
        *("--dbname", service.postgres.superuser_dsn, "--pgdata", str(copy)),
        *("--checkpoint=fast", "--wal-method=stream"),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await asyncio.wait_for(process.communicate(), COPY_WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ServiceFailed(f"The database was not copied: {said.decode()}")


def _put_back(cluster: Path, copy: Path) -> None:
    """Let the copy take the place of the server's files, and belong to whom they belonged."""
    owner = cluster.stat()
    shutil.rmtree(cluster)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    copy.rename(cluster)
