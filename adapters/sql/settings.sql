-- name: lock_settings
-- One change of a guild's settings at a time, also of what is not there yet.
SELECT pg_advisory_xact_lock(hashtextextended('guildhall:settings', $1));

-- name: config
SELECT version, config, updated_by, updated_at FROM guild_config WHERE guild_id = $1;

-- name: write_config
INSERT INTO guild_config AS c (guild_id, config, updated_by) VALUES ($1, $2::jsonb, $3)
ON CONFLICT (guild_id) DO UPDATE
SET version = next_version(c.version), config = excluded.config, updated_by = excluded.updated_by, updated_at = now()
RETURNING version, config, updated_by, updated_at;

-- name: rules
SELECT guild_id, rule, version, body, updated_by, updated_at FROM rules WHERE guild_id = $1;

-- name: rule
SELECT guild_id, rule, version, body, updated_by, updated_at FROM rules WHERE guild_id = $1 AND rule = $2;

-- name: count_rules
SELECT count(*) FROM rules WHERE guild_id = $1;

-- name: write_rule
-- A new rule's version is above that of every rule that was deleted: an old page's save must not meet it.
INSERT INTO rules AS r (guild_id, rule, version, body, enabled, updated_by)
VALUES ($1, $2, next_version(coalesce((SELECT last_version FROM deleted_rules WHERE guild_id = $1), 0)), $3::jsonb, $4, $5)
ON CONFLICT (guild_id, rule) DO UPDATE
SET version = next_version(r.version), body = excluded.body, enabled = excluded.enabled,
    updated_by = excluded.updated_by, updated_at = now()
RETURNING version, updated_by, updated_at;

-- name: delete_rule
WITH gone AS (DELETE FROM rules WHERE guild_id = $1 AND rule = $2 RETURNING version)
INSERT INTO deleted_rules AS d (guild_id, last_version) SELECT $1, version FROM gone
ON CONFLICT (guild_id) DO UPDATE SET last_version = greatest(d.last_version, excluded.last_version);
