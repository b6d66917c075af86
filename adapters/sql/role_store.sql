-- Assignments and mappings of roles. One statement a name; adapters/queries.py reads this file.

-- name: records
-- Whose guild it is, the gateway tells as long as the bot is there; after that nobody does.
SELECT CASE WHEN g.bot_present THEN g.owner_id END AS discord_owner_id, a.role AS assigned
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS w (guild_id, user_id, number)
    LEFT JOIN guilds AS g USING (guild_id)
    LEFT JOIN role_assignments AS a USING (guild_id, user_id)
ORDER BY w.number;

-- name: mapped
SELECT guild_id, discord_role_id, role FROM role_mappings WHERE guild_id = ANY ($1::bigint[]);

-- name: lock
-- Until the transaction ends, nobody else changes roles of this guild. It may have no row to lock.
SELECT pg_advisory_xact_lock(hashtextextended('roles of guild ' || $1::bigint, 0));

-- name: discord_owner
SELECT owner_id FROM guilds WHERE guild_id = $1 AND bot_present;

-- name: assigned_of_note
SELECT user_id, role FROM role_assignments
WHERE guild_id = $1 AND (role = 'owner' OR user_id = ANY ($2::bigint[]));

-- name: assign
INSERT INTO role_assignments (guild_id, user_id, role, assigned_by, assigned_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (guild_id, user_id) DO UPDATE
SET role = excluded.role, assigned_by = excluded.assigned_by, assigned_at = excluded.assigned_at;

-- name: revoke
DELETE FROM role_assignments WHERE guild_id = $1 AND user_id = $2;

-- name: map_role
INSERT INTO role_mappings (guild_id, discord_role_id, role, mapped_by, mapped_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (guild_id, discord_role_id) DO UPDATE
SET role = excluded.role, mapped_by = excluded.mapped_by, mapped_at = excluded.mapped_at;

-- name: unmap_role
DELETE FROM role_mappings WHERE guild_id = $1 AND discord_role_id = $2;

-- name: now
-- Not the transaction's begin: it may have waited for the lock.
SELECT clock_timestamp();

-- name: assignments
SELECT user_id, role, assigned_by, assigned_at FROM role_assignments WHERE guild_id = $1
ORDER BY array_position(ARRAY['owner', 'admin', 'moderator', 'viewer'], role), user_id
LIMIT $2 OFFSET $3;

-- name: count_assignments
SELECT count(*) FROM role_assignments WHERE guild_id = $1;

-- name: mappings
SELECT discord_role_id, role, mapped_by, mapped_at FROM role_mappings WHERE guild_id = $1
ORDER BY array_position(ARRAY['owner', 'admin', 'moderator', 'viewer'], role), discord_role_id
LIMIT $2 OFFSET $3;

-- name: count_mappings
SELECT count(*) FROM role_mappings WHERE guild_id = $1;
