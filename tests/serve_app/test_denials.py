"""Denials on their way into the audit log: all of them, and in few rows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from adapters.memory import MemoryAuditLog, MemoryClock, MemoryDatabase
from domain.audit import AuditEntry
from domain.errors import StoreUnavailable
from serve_app import denials as module
from serve_app.denials import KINDS_PER_PERSON, Denial, Denials, Kind
from tests.serve_app.scripted_host import until
from tests.waiting import eventually


class Rig:
    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.database = MemoryDatabase(self.clock)
        self.audit = MemoryAuditLog(self.database)
        self.denials = Denials(self.audit, lambda: self.clock() / 1000)

    def deny(self, user_id: int = 1, guild_id: int = 40, permission: str = "manage_roles") -> None:
        kind = Kind(user_id, guild_id, "missing_permission", permission)
        self.denials.note(Denial(kind, "GET", "/api/servers/{guild_id}/roles", "the-request"))

    @property
    def rows(self) -> list[AuditEntry]:
        return [row.entry for row in self.database.audit]

    def counted(self) -> int:
        return sum(row.details["count"] for row in self.rows)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_denial_says_who_was_refused_what(rig: Rig) -> None:
    """The person, the guild, the permission, the route as it is written, and the request."""
    rig.deny()
    await rig.denials.write()
    assert rig.rows == [
        AuditEntry(
            40,
            1,
            "access.denied",
            None,
            {
                "reason": "missing_permission",
                "permission": "manage_roles",
                "method": "GET",
                "route": "/api/servers/{guild_id}/roles",
                "count": 1,
            },
            "the-request",
        )
    ]


async def test_the_same_denial_is_a_row_a_minute(rig: Rig) -> None:
    """The first is written at once, the others when their minute is over, with their number."""
    for _ in range(600):
        rig.deny()
        await rig.denials.write()
        rig.clock.advance(1_000)
    rig.clock.advance(60_000)
    await rig.denials.write()
    assert 10 <= len(rig.rows) <= 12
    assert rig.rows[0].details["count"] == 1
    assert rig.counted() == 600


async def test_denials_of_another_kind_stand_by_themselves(rig: Rig) -> None:
    """Another person, another guild, another permission."""
    for change in ({}, {"user_id": 2}, {"guild_id": 41}, {"permission": "view_config"}, {}):
        rig.deny(**change)  # type: ignore[arg-type]
    await rig.denials.write()
    assert [row.details["count"] for row in rig.rows] == [2, 1, 1, 1]


async def test_a_kind_that_is_over_takes_no_room(rig: Rig) -> None:
    """After a minute without it nothing is remembered."""
    rig.deny()
    await rig.denials.write()
    rig.clock.advance(60_000)
    await rig.denials.write()
    assert (rig.denials._windows, rig.denials._kinds_of) == ({}, {})
    rig.deny()
    await rig.denials.write()
    assert len(rig.rows) == 2


async def test_one_person_cannot_fill_the_log(rig: Rig) -> None:
    """Whoever goes through all guilds there are leaves some rows and a count, and disturbs nobody."""
    for guild_id in range(1, 5_001):
        rig.deny(guild_id=guild_id)
    rig.deny(user_id=2)
    await rig.denials.write(everything=True)
    assert rig.counted() == 5_001
    rows = Counter(row.actor_id for row in rig.rows)
    assert rows == {1: KINDS_PER_PERSON + 1, 2: 1}
    [many] = [row for row in rig.rows if row.guild_id is None]
    assert (many.actor_id, many.details["count"], many.details["permission"]) == (
        1,
        5_000 - KINDS_PER_PERSON,
        None,
    )


async def test_many_people_cannot_fill_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what is remembered there is one count for all."""
    monkeypatch.setattr(module, "KINDS", 100)
    for user_id in range(1, 1_001):
        rig.deny(user_id=user_id)
        rig.deny(user_id=user_id, guild_id=41)
    assert len(rig.denials._windows) == 101
    await rig.denials.write(everything=True)
    assert rig.counted() == 2_000
    [many] = [row for row in rig.rows if row.actor_id is None]
    assert many.details["count"] == 1_900


async def test_while_the_log_is_away_denials_are_counted(rig: Rig) -> None:
    """Nothing is lost and nothing is written twice."""
    rig.database.available = False
    for _ in range(5):
        rig.deny()
        with pytest.raises(StoreUnavailable):
            await rig.denials.write()
    rig.database.available = True
    await rig.denials.write()
    assert [row.details["count"] for row in rig.rows] == [5]
    rig.clock.advance(60_000)
    await rig.denials.write()
    assert rig.counted() == 5


async def test_what_comes_while_it_is_written_is_not_lost(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted, and written with the next."""
    record = rig.audit.record

    async def slow(entries: Sequence[AuditEntry]) -> None:
        rig.deny()
        rig.deny(user_id=2)
        await record(entries)

    rig.deny()
    monkeypatch.setattr(rig.audit, "record", slow)
    await rig.denials.write()
    monkeypatch.setattr(rig.audit, "record", record)
    assert rig.counted() == 1
    await rig.denials.write(everything=True)
    assert rig.counted() == 3


async def test_it_writes_by_itself_and_the_rest_at_the_end(rig: Rig) -> None:
    """Also after the log was away, and after it broke."""
    rig.denials.start()
    rig.deny()
    await until(lambda: rig.rows)
    rig.deny()
    await rig.denials.stop()
    assert [row.details["count"] for row in rig.rows] == [1, 1]


@pytest.mark.parametrize("problem", [StoreUnavailable(), RuntimeError("a bug")])
async def test_trouble_with_the_log_ends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    """It is tried again until it works."""
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.001)
    record, tries = rig.audit.record, 0

    async def failing(entries: Sequence[AuditEntry]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise problem
        await record(entries)

    monkeypatch.setattr(rig.audit, "record", failing)
    rig.denials.start()
    rig.deny()

    async def written() -> bool:
        return bool(rig.rows)

    await eventually(written, within_s=5)
    assert (tries, rig.counted()) == (4, 1)
    await rig.denials.stop()


async def test_it_ends_in_time_when_the_log_is_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it fails or hangs: a replica that stops is not kept."""
    monkeypatch.setattr(module, "LAST_WRITE_WITHIN_S", 0.01)
    rig.database.available = False
    rig.deny()
    await rig.denials.stop()

    async def hang(entries: Sequence[AuditEntry]) -> None:
        del entries
        await asyncio.Event().wait()

    monkeypatch.setattr(rig.audit, "record", hang)
    await asyncio.wait_for(rig.denials.stop(), 1)
