"""One suite for a guild's settings and its warnings in Postgres and for their twins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from adapters.audit import PostgresAuditLog
from adapters.memory import MemoryAuditLog, MemoryDatabase
from adapters.memory.samples import NOON_MS
from adapters.memory.settings import MemorySettingsStore
from adapters.memory.user_warnings import MemoryWarningStore
from adapters.postgres import open_pool, to_datetime
from adapters.settings_store import PostgresSettingsStore
from adapters.warning_store import PostgresWarningStore
from domain.audit import AuditEntry, AuditLog, Change
from domain.errors import StoreUnavailable, VersionConflict
from domain.guild_settings import (
    MAX_RULES,
    BannedWords,
    GuildConfig,
    GuildSettingsStore,
    MentionFlood,
    NoSuchRule,
    StoredConfig,
    TooManyRules,
    default_rules,
)
from domain.json_numbers import MOST_WHOLE
from domain.user_warnings import UserWarnings, WarningStore
from tests.contract.stores import fresh_id

BY_ADA = Change(by_user_id=2**63 - 1, request_id="request-1")
BERLIN = GuildConfig(timezone="Europe/Berlin", retention_days=30)
WORDS = BannedWords(words=("ünïcode", "'; DROP TABLE rules; --"))


class Settings(NamedTuple):
    """One database, as far as settings go."""

    settings: GuildSettingsStore
    warnings: WarningStore
    audit: AuditLog
    warn: Callable[[int, int, int, int], Awaitable[None]]
    """(guild id, user id, count, last at)"""
    take_away: Callable[[], Awaitable[None]]

    async def audited(self, guild_id: int) -> list[AuditEntry]:
        rows, _ = await self.audit.page(guild_id, limit=100, offset=0)
        return [row.entry for row in reversed(rows)]


@pytest.fixture(params=["memory", "postgres"])
async def world(request: pytest.FixtureRequest, postgres_dsn: str) -> AsyncIterator[Settings]:
    if request.param == "memory":
        database = MemoryDatabase()
        memory = MemoryWarningStore(database)

        async def warn_there(guild_id: int, user_id: int, count: int, last_at_ms: int) -> None:
            memory.rows[guild_id, user_id] = UserWarnings(user_id, count, last_at_ms)

        async def away() -> None:
            database.available = False

        yield Settings(MemorySettingsStore(database), memory, MemoryAuditLog(database), warn_there, away)
        return
    pool = await open_pool(postgres_dsn, max_size=4)

    async def warn_here(guild_id: int, user_id: int, count: int, last_at_ms: int) -> None:
        insert = "INSERT INTO user_warnings (guild_id, user_id, count, last_at) VALUES ($1, $2, $3, $4)"
        await pool.execute(insert, guild_id, user_id, count, to_datetime(last_at_ms))

    stores = PostgresSettingsStore(pool), PostgresWarningStore(pool), PostgresAuditLog(pool)
    yield Settings(*stores, warn_here, pool.close)
    await pool.close()


class TestConfig:
    async def test_a_guild_that_has_set_nothing_has_the_default(self, world: Settings) -> None:
        assert await world.settings.config(fresh_id()) == StoredConfig(GuildConfig())

    async def test_a_change_is_kept_whole_and_in_the_log(self, world: Settings) -> None:
        """With its version, who and when; the log tells what was before beside what is now."""
        guild_id = fresh_id()
        written = await world.settings.write_config(guild_id, BERLIN, from_version=0, change=BY_ADA)
        assert (written.config, written.updated_by) == (BERLIN, BY_ADA.by_user_id)
        assert 0 < written.version <= MOST_WHOLE
        assert written.updated_at_ms
        assert await world.settings.config(guild_id) == written
        assert await world.audited(guild_id) == [
            AuditEntry(
                guild_id=guild_id,
                actor_id=BY_ADA.by_user_id,
                action="config.updated",
                details={
                    "before": {"timezone": "UTC", "retention_days": 365},
                    "after": {"timezone": "Europe/Berlin", "retention_days": 30},
                },
                request_id="request-1",
            )
        ]

    @pytest.mark.parametrize("apart", [-1, 1])
    async def test_a_change_of_what_is_not_the_newest_is_refused(self, world: Settings, apart: int) -> None:
        """And changes nothing, not even the log."""
        guild_id = fresh_id()
        written = await world.settings.write_config(guild_id, BERLIN, from_version=0, change=BY_ADA)
        stale = written.version + apart
        with pytest.raises(VersionConflict) as conflict:
            await world.settings.write_config(guild_id, GuildConfig(), from_version=stale, change=BY_ADA)
        assert conflict.value.current_version == written.version
        assert await world.settings.config(guild_id) == written
        assert len(await world.audited(guild_id)) == 1

    async def test_of_two_at_once_one_is_refused(self, world: Settings) -> None:
        """Also of a guild that had nothing yet, where no row could be locked."""
        guild_id = fresh_id()
        outcomes = await asyncio.gather(
            *(world.settings.write_config(guild_id, BERLIN, from_version=0, change=BY_ADA) for _ in range(4)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, VersionConflict) for outcome in outcomes) == 3
        [stands] = [outcome for outcome in outcomes if isinstance(outcome, StoredConfig)]
        assert await world.settings.config(guild_id) == stands

    async def test_another_guilds_stays_as_it_is(self, world: Settings) -> None:
        guild_id, other = fresh_id(), fresh_id()
        await world.settings.write_config(guild_id, BERLIN, from_version=0, change=BY_ADA)
        assert (await world.settings.config(other)).version == 0
        assert await world.audited(other) == []


class TestRules:
    async def test_a_guild_that_has_set_nothing_has_the_defaults(self, world: Settings) -> None:
        rules = await world.settings.rules(fresh_id())
        assert {rule.name: rule.rule for rule in rules} == default_rules()
        assert {rule.version for rule in rules} == {0}
        assert [rule.name for rule in rules] == sorted(rule.name for rule in rules)

    async def test_a_rule_of_its_own_stands_beside_them(self, world: Settings) -> None:
        """Or in the place of one, until it is deleted; all of it is in the log."""
        guild_id = fresh_id()
        own = await world.settings.write_rule(guild_id, "own", WORDS, from_version=0, change=BY_ADA)
        instead = MentionFlood(max_mentions=3, enabled=False)
        write = world.settings.write_rule
        flood = await write(guild_id, "mention-flood", instead, from_version=0, change=BY_ADA)
        rules = {rule.name: rule for rule in await world.settings.rules(guild_id)}
        assert rules["own"] == own
        assert own.rule == WORDS
        assert (flood.rule, rules["mention-flood"]) == (instead, flood)
        assert len(rules) == len(default_rules()) + 1

        await world.settings.delete_rule(guild_id, "mention-flood", from_version=flood.version, change=BY_ADA)
        await world.settings.delete_rule(guild_id, "own", from_version=None, change=BY_ADA)
        assert {rule.name: rule.rule for rule in await world.settings.rules(guild_id)} == default_rules()
        log = await world.audited(guild_id)
        assert [(entry.action, entry.target) for entry in log] == [
            ("rule.updated", "own"),
            ("rule.updated", "mention-flood"),
            ("rule.deleted", "mention-flood"),
            ("rule.deleted", "own"),
        ]
        assert log[1].details == {
            "before": {"enabled": True, "max_mentions": 5},
            "after": {"enabled": False, "max_mentions": 3},
        }

    async def test_a_stale_change_is_refused(self, world: Settings) -> None:
        """A rule that was replaced, made, or deleted meanwhile."""
        guild_id = fresh_id()
        write, delete = world.settings.write_rule, world.settings.delete_rule
        with pytest.raises(VersionConflict):
            await write(guild_id, "own", WORDS, from_version=1, change=BY_ADA)
        own = await write(guild_id, "own", WORDS, from_version=0, change=BY_ADA)
        with pytest.raises(VersionConflict):
            await write(guild_id, "own", WORDS, from_version=0, change=BY_ADA)
        with pytest.raises(VersionConflict):
            await delete(guild_id, "own", from_version=own.version + 1, change=BY_ADA)
        with pytest.raises(NoSuchRule):
            await delete(guild_id, "repeats", from_version=None, change=BY_ADA)
        assert len(await world.audited(guild_id)) == 1

    async def test_a_rule_that_is_made_anew_repeats_no_version(self, world: Settings) -> None:
        """Whoever saw the one that was deleted can neither change nor delete the new one."""
        guild_id = fresh_id()
        write, delete = world.settings.write_rule, world.settings.delete_rule
        seen: list[int] = []
        for _ in range(3):
            last = seen[-1] if seen else 0
            seen.append((await write(guild_id, "own", WORDS, from_version=last, change=BY_ADA)).version)
        await delete(guild_id, "own", from_version=seen[-1], change=BY_ADA)
        anew = await write(guild_id, "own", WORDS, from_version=0, change=BY_ADA)
        assert [0, *seen, anew.version] == sorted({0, *seen, anew.version})
        for version in seen:
            with pytest.raises(VersionConflict) as conflict:
                await write(guild_id, "own", WORDS, from_version=version, change=BY_ADA)
            assert conflict.value.current_version == anew.version
            with pytest.raises(VersionConflict):
                await delete(guild_id, "own", from_version=version, change=BY_ADA)
        await write(guild_id, "own", WORDS, from_version=anew.version, change=BY_ADA)

    async def test_rules_are_bounded(self, world: Settings) -> None:
        """One that is there can still be changed."""
        guild_id = fresh_id()
        for number in range(MAX_RULES):
            one = await world.settings.write_rule(
                guild_id, f"r{number}", WORDS, from_version=0, change=BY_ADA
            )
        with pytest.raises(TooManyRules):
            await world.settings.write_rule(guild_id, "more", WORDS, from_version=0, change=BY_ADA)
        await world.settings.write_rule(guild_id, one.name, WORDS, from_version=one.version, change=BY_ADA)


class TestWarnings:
    async def test_nobody_is_warned_yet(self, world: Settings) -> None:
        guild_id = fresh_id()
        assert await world.warnings.warned(guild_id, limit=10, offset=0) == ([], 0)
        assert await world.warnings.warnings_of(guild_id, 1) is None
        assert await world.warnings.clear(guild_id, [1], change=BY_ADA) == []
        assert await world.audited(guild_id) == []

    async def test_the_most_warned_come_first(self, world: Settings) -> None:
        """A page at a time; another guild's are not among them."""
        guild_id, other = fresh_id(), fresh_id()
        for user_id, count, at_ms in ((1, 2, 5), (2, 9, 1), (3, 2, 7), (4, 2, 5), (5, 0, 9)):
            await world.warn(guild_id, user_id, count, NOON_MS + at_ms)
        await world.warn(other, 6, 99, NOON_MS)
        first, total = await world.warnings.warned(guild_id, limit=3, offset=0)
        rest, _ = await world.warnings.warned(guild_id, limit=3, offset=3)
        assert [row.user_id for row in (*first, *rest)] == [2, 3, 1, 4]
        assert total == 4
        assert first[0] == UserWarnings(2, 9, NOON_MS + 1)
        assert await world.warnings.warned(guild_id, limit=3, offset=90) == ([], 4)

    async def test_clearing_is_kept_and_told(self, world: Settings) -> None:
        """Who had none is not among those cleared, however often they are named."""
        guild_id, other = fresh_id(), fresh_id()
        for guild, user_id in ((guild_id, 1), (guild_id, 2), (other, 1)):
            await world.warn(guild, user_id, user_id + 2, NOON_MS)
        assert await world.warnings.clear(guild_id, [2, 1, 2, 3], change=BY_ADA) == [1, 2]
        assert await world.warnings.clear(guild_id, [1, 2], change=BY_ADA) == []
        cleared: Any = await world.warnings.warnings_of(guild_id, 1)
        assert (cleared.count, cleared.cleared_by) == (0, BY_ADA.by_user_id)
        assert cleared.cleared_at_ms
        assert (await world.warnings.warned(guild_id, limit=9, offset=0))[1] == 0
        assert (await world.warnings.warned(other, limit=9, offset=0))[1] == 1
        log = await world.audited(guild_id)
        assert {(entry.action, entry.target, entry.details["count"]) for entry in log} == {
            ("warnings.cleared", "1", 3),
            ("warnings.cleared", "2", 4),
        }


async def test_when_the_database_is_away_everything_says_so(world: Settings) -> None:
    """Nothing is half done."""
    guild_id = fresh_id()
    await world.take_away()
    settings, warnings = world.settings, world.warnings
    for call in (
        settings.config(guild_id),
        settings.rules(guild_id),
        settings.write_config(guild_id, BERLIN, from_version=0, change=BY_ADA),
        settings.write_rule(guild_id, "own", WORDS, from_version=0, change=BY_ADA),
        settings.delete_rule(guild_id, "own", from_version=None, change=BY_ADA),
        warnings.warned(guild_id, limit=1, offset=0),
        warnings.warnings_of(guild_id, 1),
        warnings.clear(guild_id, [1], change=BY_ADA),
    ):
        with pytest.raises(StoreUnavailable):
            await call
