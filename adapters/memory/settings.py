"""The twin of a guild's settings in Postgres."""

from __future__ import annotations

from collections import Counter

from adapters.memory.database import MemoryDatabase
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
    what_changed,
)


class MemorySettingsStore:
    """Implements :class:`domain.guild_settings.GuildSettingsStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._configs: dict[int, StoredConfig] = {}
        self._rules: dict[int, dict[str, StoredRule]] = {}
        self._deleted: Counter[int] = Counter()
        """By guild, the highest version of a rule that was deleted."""

    async def config(self, guild_id: int) -> StoredConfig:
        """See the port."""
        self._database.require()
        return self._configs.get(guild_id) or StoredConfig(GuildConfig())

    async def write_config(
        self, guild_id: int, config: GuildConfig, *, from_version: int, change: Change
    ) -> StoredConfig:
        """See the port."""
        before = await self.config(guild_id)
        if before.version != from_version:
            raise VersionConflict(current_version=before.version)
        after = StoredConfig(config, before.version + 1, change.by_user_id, self._database.now_ms())
        self._configs[guild_id] = after
        self._database.retention_days[guild_id] = config.retention_days
        details = what_changed(before.config, config)
        self._database.write_audit([change.entry(guild_id, "config.updated", None, details)])
        return after

    async def rules(self, guild_id: int) -> list[StoredRule]:
        """See the port."""
        self._database.require()
        stored = {name: StoredRule(name, rule) for name, rule in default_rules().items()}
        stored |= self._rules.get(guild_id, {})
        return [stored[name] for name in sorted(stored)]

    async def write_rule(
        self, guild_id: int, name: str, rule: AnyRule, *, from_version: int, change: Change
    ) -> StoredRule:
        """See the port."""
        self._database.require()
        own = self._rules.setdefault(guild_id, {})
        before = own.get(name)
        version = before.version if before else 0
        if version != from_version:
            raise VersionConflict(current_version=version)
        if before is None and len(own) >= MAX_RULES:
            raise TooManyRules
        made_from = before.version if before else self._deleted[guild_id]
        now_ms = self._database.now_ms()
        after = own[name] = StoredRule(name, rule, made_from + 1, change.by_user_id, now_ms)
        details = what_changed(before.rule if before else default_rules().get(name), rule)
        self._database.write_audit([change.entry(guild_id, "rule.updated", name, details)])
        return after

    async def delete_rule(
        self, guild_id: int, name: str, *, from_version: int | None, change: Change
    ) -> None:
        """See the port."""
        self._database.require()
        own = self._rules.get(guild_id, {})
        before = own.get(name)
        if before is None:
            raise NoSuchRule
        if from_version not in (None, before.version):
            raise VersionConflict(current_version=before.version)
        del own[name]
        self._deleted[guild_id] = max(self._deleted[guild_id], before.version)
        details = what_changed(before.rule, default_rules().get(name))
        self._database.write_audit([change.entry(guild_id, "rule.deleted", name, details)])
