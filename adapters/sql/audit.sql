-- The audit log. One statement a name; adapters/queries.py reads this file.

-- name: write
-- In the order in which they are given. The time is that of the writing and not of the transaction's begin:
-- changes that waited for each other stand in the order in which they were made.
INSERT INTO audit_log (guild_id, actor_id, action, target, details, request_id, at)
SELECT guild_id, actor_id, action, target, details::jsonb, request_id, clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[])
    WITH ORDINALITY AS e (guild_id, actor_id, action, target, details, request_id, number)
ORDER BY number;

-- name: page
SELECT audit_id, guild_id, actor_id, action, target, details, request_id, at
FROM audit_log
WHERE guild_id = $1 AND ($2::text IS NULL OR action = $2) AND ($3::bigint IS NULL OR actor_id = $3)
ORDER BY at DESC, audit_id DESC
LIMIT $4 OFFSET $5;

-- name: count
SELECT count(*)
FROM audit_log
WHERE guild_id = $1 AND ($2::text IS NULL OR action = $2) AND ($3::bigint IS NULL OR actor_id = $3);
