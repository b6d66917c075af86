"""Property 16: every denial is in the audit log."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.audit import PostgresAuditLog
from adapters.memory import MemoryClock
from adapters.postgres import open_pool
from domain.audit import AuditEntry, AuditLog, AuditRow
from domain.errors import StoreUnavailable
from serve_app.denials import Denial, Denials, Kind
from tests.properties.asking import MANY, Asking, Someone, anybody, asking

__all__ = ["asking"]

_guilds = count(6_000_000)


@MANY
@given(asked=st.lists(st.tuples(anybody, st.integers(0), st.integers(1, 3)), min_size=1, max_size=6))
async def test_every_denial_is_in_the_audit_log(
    asking: Asking, asked: list[tuple[Someone, int, int]]
) -> None:
    """Who it was, where, what was missing and by which route: as often as it happened, and nobody else."""
    told: Counter[tuple[int, int, str, str]] = Counter()
    first_new = len(asking.web.database.audit)
    for someone, number, times in asked:
        route = asking.guarded[number % len(asking.guarded)]
        guild_id, user_id = asking.fresh(), asking.fresh()
        for _ in range(times):
            answer = await asking.ask(someone, route, guild_id=guild_id, user_id=user_id)
            if answer.status_code == 403:
                missing = answer.json()["details"]["permission"]
                told[user_id, guild_id, missing, route.path] += 1
    await asking.web.denied()
    noted: Counter[tuple[int, int, str, str]] = Counter()
    for row in asking.web.database.audit[first_new:]:
        entry = row.entry
        if entry.action == "access.denied":
            assert entry.actor_id is not None
            assert entry.guild_id is not None
            assert entry.request_id
            details = entry.details
            key = (entry.actor_id, entry.guild_id, details["permission"], details["route"])
            noted[key] += details["count"]
    assert noted == told


class Flaky:
    """The real log, which is away when it is told to be."""

    def __init__(self, audit: AuditLog) -> None:
        self.audit = audit
        self.away = False

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        if self.away:
            raise StoreUnavailable
        await self.audit.record(entries)

    async def page(
        self,
        guild_id: int,
        *,
        limit: int,
        offset: int,
        action: str | None = None,
        actor_id: int | None = None,
    ) -> tuple[list[AuditRow], int]:
        return await self.audit.page(guild_id, limit=limit, offset=offset, action=action, actor_id=actor_id)


@pytest.fixture
async def log(postgres_dsn: str) -> AsyncIterator[Flaky]:
    pool = await open_pool(postgres_dsn, max_size=2)
    yield Flaky(PostgresAuditLog(pool))
    await pool.close()


denial = st.tuples(st.just("denial"), st.integers(1, 3), st.sampled_from(["manage_roles", "view_config"]))
passing = st.tuples(st.just("seconds"), st.sampled_from([1, 30, 61]), st.just(""))
outage = st.tuples(st.just("away"), st.integers(0, 1), st.just(""))
happenings = st.lists(st.one_of(denial, denial, passing, outage), min_size=1, max_size=20)


@MANY
@given(happenings=happenings)
async def test_denials_reach_the_real_log(log: Flaky, happenings: list[tuple[str, int, str]]) -> None:
    """Whenever it is written, however long the log was away; and a kind of denial is few rows."""
    clock, guild_id = MemoryClock(), next(_guilds)
    denials = Denials(log, lambda: clock() / 1000)
    told: Counter[tuple[int, str]] = Counter()
    log.away = False
    minutes = 0.0
    for what, number, permission in happenings:
        match what:
            case "denial":
                told[number, permission] += 1
                kind = Kind(number, guild_id, "missing_permission", permission)
                denials.note(Denial(kind, "GET", "/a/{b}", None))
            case "seconds":
                clock.advance(number * 1_000)
                minutes += number / 60
            case _:
                log.away = bool(number)
        with contextlib.suppress(StoreUnavailable):
            await denials.write()
    log.away = False
    await denials.stop()
    rows, total = await log.page(guild_id, limit=100, offset=0)
    noted: Counter[tuple[int, str]] = Counter()
    for row in rows:
        assert row.entry.actor_id is not None
        noted[row.entry.actor_id, row.entry.details["permission"]] += row.entry.details["count"]
    assert noted == told
    assert total <= len(told) * (minutes + 2)
