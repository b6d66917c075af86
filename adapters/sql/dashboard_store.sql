-- What the dashboard reads. One statement a name; adapters/queries.py reads this file.

-- name: guilds
SELECT guild_id, name, icon_url, member_count, bot_present, bot_online
FROM guilds WHERE guild_id = ANY ($1::bigint[]);

-- name: assigned_roles
SELECT guild_id, role FROM role_assignments WHERE user_id = $1 AND guild_id = ANY ($2::bigint[]);

-- name: assign_role
INSERT INTO role_assignments (guild_id, user_id, role, assigned_by) VALUES ($1, $2, $3, $4)
ON CONFLICT (guild_id, user_id) DO UPDATE
SET role = excluded.role, assigned_by = excluded.assigned_by, assigned_at = now();

-- name: hours
SELECT guild_id, hour, messages, low, medium, high, critical, joins, leaves
FROM metrics_hourly
WHERE guild_id = $1 AND hour >= $2
ORDER BY hour;

-- name: ping
SELECT 1;
