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

-- name: violations
-- A total order, so that a page never shows a row of the page before; the dashboard sorts in the same way.
SELECT v.event_id, v.guild_id, v.channel_id, v.channel_name, v.message_id, v.user_id,
       v.detection, v.rule, v.severity, v.action, v.action_status, v.excerpt, v.ts, v.committed_at,
       u.username, u.display_name, u.avatar_url
FROM violations AS v LEFT JOIN user_cache AS u USING (user_id)
WHERE v.guild_id = $1
ORDER BY v.ts DESC, v.message_id DESC, v.event_id
LIMIT $2 OFFSET $3;

-- name: count_violations
-- From the hourly counts: exact, because they are written with the rows, and short at any size.
SELECT coalesce(sum(low + medium + high + critical), 0)::bigint FROM metrics_hourly WHERE guild_id = $1;

-- name: hours
SELECT guild_id, hour, messages, low, medium, high, critical, joins, leaves
FROM metrics_hourly
WHERE guild_id = $1 AND hour >= $2
ORDER BY hour;

-- name: ping
SELECT 1;
