"""A guild's configuration and rules in Postgres; each change in one transaction with its audit entry."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
import structlog

from adapters.audit import write_audit
from adapters.postgres import PostgresPool, to_ms
from adapters.queries import load_queries
from domain.audit import Change
from domain.errors import VersionConflict
from domain.guild_settings import (
    MAX_RULES,
    AnyRule,
    GuildConfig,
    NoSuchRule,
    StoredConfig,
    StoredRule,
    TooManyRules,
    default_rules,
    read_config,
    read_rule,
    what_changed,
)

log = structlog.get_logger()

_SQL = load_queries("settings.sql")


class PostgresSettingsStore:
    """Implements :class:`domain.guild_settings.GuildSettingsStore`."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def config(self, guild_id: int) -> StoredConfig:
        """See the port."""
        row = await self._pool.fetchrow(_SQL["config"], guild_id)
        return _config(row)

    async def write_config(
        self, guild_id: int, config: GuildConfig, *, from_version: int, change: Change
    ) -> StoredConfig:
        """See the port."""
        async with self._pool.transaction() as connection:
            await connection.execute(_SQL["lock_settings"], guild_id)
            before = _config(await connection.fetchrow(_SQL["config"], guild_id))
            if before.version != from_version:
                raise VersionConflict(current_version=before.version)
            row = await connection.fetchrow(
                _SQL["write_config"], guild_id, config.model_dump_json(), change.by_user_id
            )
            details = what_changed(before.config, config)
            await write_audit(connection, [change.entry(guild_id, "config.updated", None, details)])
            return _config(row)

    async def rules(self, guild_id: int) -> list[StoredRule]:
        """See the port."""
        rows = await self._pool.fetch(_SQL["rules"], guild_id)
        stored = {name: StoredRule(name, rule) for name, rule in default_rules().items()}
        stored |= {rule.name: rule for row in rows if (rule := _rule(row)) is not None}
        return [stored[name] for name in sorted(stored)]

    async def write_rule(
        self, guild_id: int, name: str, rule: AnyRule, *, from_version: int, change: Change
    ) -> StoredRule:
        """See the port."""
        async with self._pool.transaction() as connection:
            before = await self._locked(connection, guild_id, name)
            version = before["version"] if before else 0
            if version != from_version:
                raise VersionConflict(current_version=version)
            if before is None and await connection.fetchval(_SQL["count_rules"], guild_id) >= MAX_RULES:
                raise TooManyRules
            row: Any = await connection.fetchrow(
                _SQL["write_rule"],
                guild_id,
                name,
                rule.model_dump_json(),
                rule.enabled,
                change.by_user_id,
            )
            old = _rule(before) if before else None
            details = what_changed(old.rule if old else default_rules().get(name), rule)
            await write_audit(connection, [change.entry(guild_id, "rule.updated", name, details)])
            return StoredRule(name, rule, row["version"], row["updated_by"], to_ms(row["updated_at"]))

    async def delete_rule(
        self, guild_id: int, name: str, *, from_version: int | None, change: Change
    ) -> None:
        """See the port."""
        async with self._pool.transaction() as connection:
            before = await self._locked(connection, guild_id, name)
            if before is None:
                raise NoSuchRule
            if from_version not in (None, before["version"]):
                raise VersionConflict(current_version=before["version"])
            await connection.execute(_SQL["delete_rule"], guild_id, name)
            old = _rule(before)
            details = what_changed(old.rule if old else None, default_rules().get(name))
            await write_audit(connection, [change.entry(guild_id, "rule.deleted", name, details)])

    @staticmethod
    async def _locked(connection: Any, guild_id: int, name: str) -> Any:
        await connection.execute(_SQL["lock_settings"], guild_id)
        return await connection.fetchrow(_SQL["rule"], guild_id, name)


def _config(row: asyncpg.Record | None) -> StoredConfig:
    if row is None:
        return StoredConfig(GuildConfig())
    config = read_config(msgspec.json.decode(row["config"]))
    return StoredConfig(config, row["version"], row["updated_by"], to_ms(row["updated_at"]))


def _rule(row: asyncpg.Record) -> StoredRule | None:
    rule = read_rule(msgspec.json.decode(row["body"]))
    if rule is None:
        log.warning("rule_not_understood", guild=row["guild_id"], rule=row["rule"])
        return None
    return StoredRule(row["rule"], rule, row["version"], row["updated_by"], to_ms(row["updated_at"]))
