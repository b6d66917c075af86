-- name: lock_settings
-- One change of a guild's settings at a time, also of what is not there yet.
SELECT pg_advisory_xact_lock(hashtextextended('guildhall:settings', $1));

-- name: config
SELECT version, config, updated_by, updated_at FROM guild_config WHERE guild_id = $1;

-- name: write_config
INSERT INTO guild_config AS c (guild_id, config, updated_by) VALUES ($1, $2::jsonb, $3)
ON CONFLICT (guild_id) DO UPDATE
SET version = c.version + 1, config = excluded.config, updated_by = excluded.updated_by, updated_at = now()
RETURNING version, config, updated_by, updated_at;

-- name: rules
SELECT guild_id, rule, version, body, updated_by, updated_at FROM rules WHERE guild_id = $1;

-- name: rule
SELECT guild_id, rule, version, body, updated_by, updated_at FROM rules WHERE guild_id = $1 AND rule = $2;

-- name: count_rules
SELECT count(*) FROM rules WHERE guild_id = $1;

-- name: write_rule
INSERT INTO rules AS r (guild_id, rule, body, enabled, updated_by) VALUES ($1, $2, $3::jsonb, $4, $5)
ON CONFLICT (guild_id, rule) DO UPDATE
SET version = r.version + 1, body = excluded.body, enabled = excluded.enabled,
    updated_by = excluded.updated_by, updated_at = now()
RETURNING version, updated_by, updated_at;

-- name: delete_rule
DELETE FROM rules WHERE guild_id = $1 AND rule = $2;
