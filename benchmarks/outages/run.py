"""The run: one demo on a database of ours, people who watch, and one outage after the other."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from adapters.embedded_postgres import EmbeddedPostgres
from benchmarks.outages import database, discord, roles
from benchmarks.outages.people import MOST_WATCHERS, ROOM, People, people
from benchmarks.own_demo import own_demo
from benchmarks.result import Result
from guildhall.testing import DemoProcess

PARTS = ("discord_frozen", "discord_refused", "roles_killed", "database_restored")
OFFENCE_SHARE = 0.3
CONNECTIONS = 200


class Plan(msgspec.Struct, frozen=True):
    """How long everything is gone, and under what traffic."""

    gone_s: float = 300.0
    """How long Discord is gone, each time."""
    ago_s: float = 300.0
    """To when the database is put back."""
    kills: int = 5
    rate: float = 20.0
    watchers: int = MOST_WATCHERS
    guilds: int = 20
    calm_s: float = 10.0
    parts: tuple[str, ...] = PARTS


async def run(plan: Plan | None = None) -> Result:
    """Let one after the other go away and come back; each part says whether its bound is kept."""
    plan = plan or Plan()
    with (
        tempfile.TemporaryDirectory(prefix="guildhall-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="gh-", dir="/tmp") as runtime,
    ):
        data = Path(folder) / "postgres-data"
        data.mkdir(mode=0o700)
        postgres = EmbeddedPostgres(data, Path(runtime), max_connections=CONNECTIONS)
        dsn = await postgres.start()
        try:
            async with (
                own_demo("--guilds", str(plan.guilds), **ROOM, GUILDHALL_DATABASE_URL=dsn) as demo,
                people(demo, plan.watchers) as crowd,
            ):
                figures = await _in_turn(demo, crowd, database.Service(postgres, data), plan)
        finally:
            await postgres.stop()
    return Result("outages", {**figures, "all_met": all(measured["met"] for measured in figures.values())})


async def _in_turn(demo: DemoProcess, crowd: People, service: database.Service, plan: Plan) -> dict[str, Any]:
    outages: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "discord_frozen": lambda: discord.frozen(demo, crowd, plan.gone_s),
        "discord_refused": lambda: discord.refused(demo, crowd, plan.gone_s),
        "roles_killed": lambda: roles.killed(demo, crowd, plan.kills),
        "database_restored": lambda: database.restored(demo, crowd, service, plan.ago_s),
    }
    figures: dict[str, Any] = {}
    for name in PARTS:
        if name in plan.parts:
            await crowd.sim.put("traffic", rate=plan.rate, offence_share=OFFENCE_SHARE)
            await asyncio.sleep(plan.calm_s)
            figures[name] = await outages[name]()
    return figures
