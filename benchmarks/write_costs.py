"""Measures what indexes and rollups of violations cost whoever writes them: with and without each.

Each schema lacks one thing, and all take turns in one database: the plain driver writes a thousand rows a
transaction, as in :mod:`benchmarks.ingest`. Processor time and WAL hardly depend on what else a machine does.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import psutil

from adapters.clock import now_ms
from adapters.guild_store import PostgresGuildStore
from adapters.migrate import migrate
from benchmarks.ingest import Violations, asyncpg_peer
from benchmarks.one_host import connected, database
from benchmarks.result import Result

THOUSANDS = 20
ROUNDS = 5

WHOLE = "whole"
REMOVED = {
    "severity_index": "DROP INDEX violations_severity",
    "detection_index": "DROP INDEX violations_detection",
    "both_indexes": "DROP INDEX violations_severity, violations_detection",
    "people_by_hour": "DROP TRIGGER violation_people_in ON violation_people; "
    "DROP TRIGGER violation_people_changed ON violation_people",
    "all_rollups": "DROP TRIGGER violations_in ON violations",
}
"""What each schema lacks, by its name."""


class Cost(NamedTuple):
    """What was taken for each thousand rows."""

    ms: float
    cpu_ms: float
    """Of the database's process for this connection."""
    wal_kb: float


async def run(*, thousands: int = THOUSANDS, rounds: int = ROUNDS) -> Result:
    """Let all schemas take turns, each so many thousand rows a round; compare each with the whole one."""
    made = Violations()
    names = [WHOLE, *REMOVED]
    costs = dict.fromkeys(names, Cost(0.0, 0.0, 0.0))
    async with database() as database_url, AsyncExitStack() as stack:
        addresses = {name: await _schema(database_url, name, REMOVED.get(name)) for name in names}
        peers = {
            name: await stack.enter_async_context(asyncpg_peer(address, made))
            for name, address in addresses.items()
        }
        connection = await stack.enter_async_context(connected(database_url))
        for peer in peers.values():
            await peer.so_many(1)  # warms up
        for _ in range(rounds):
            for name, peer in peers.items():
                backend = psutil.Process(peer.backend_pid)
                wal, cpu_s = await connection.fetchval(_WAL), _cpu_s(backend)
                load = await peer.so_many(thousands)
                took = Cost(
                    load.seconds * 1000,
                    (_cpu_s(backend) - cpu_s) * 1000,
                    float(await connection.fetchval(_WAL) - wal) / 1000,
                )
                costs[name] = Cost(
                    *(a + b / thousands / rounds for a, b in zip(costs[name], took, strict=True))
                )
    whole = costs[WHOLE]
    figures: dict[str, Any] = {"rounds": rounds, "thousands_a_turn": thousands, **_told(WHOLE, whole)}
    baseline: dict[str, Any] = {}
    for name in REMOVED:
        figures |= {
            f"{name}_{kind}_percent": round(100 * (with_it / without - 1), 1)
            for kind, with_it, without in zip(("time", "cpu", "wal"), whole, costs[name], strict=True)
        }
        baseline |= _told(f"without_{name}", costs[name])
    return Result("write-costs", figures, baseline, whole.cpu_ms / costs["both_indexes"].cpu_ms)


_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'"


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _told(name: str, cost: Cost) -> dict[str, float]:
    return {f"{name}_{kind}_a_thousand_rows": round(value, 1) for kind, value in cost._asdict().items()}


async def _schema(database_url: str, name: str, removal: str | None) -> str:
    """Make a schema of all tables but without one thing; return the address that leads to it."""
    address = f"{database_url}&search_path={name}"
    async with connected(database_url) as connection:
        await connection.execute(f"CREATE SCHEMA {name}")
    await migrate(address)
    store = await PostgresGuildStore.open(address)
    await store.ensure_partitions(now_ms())
    await store.close()
    if removal:
        async with connected(address) as connection:
            await connection.execute(removal)
    return address
