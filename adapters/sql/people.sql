-- name: recall
SELECT user_id, username, display_name, avatar_url, deleted, updated_at
FROM user_cache WHERE user_id = ANY($1::bigint[]);

-- name: remember
-- Sorted, because others write the same people and would otherwise lock each other out.
INSERT INTO user_cache AS u (user_id, username, display_name, avatar_url, deleted, updated_at)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::timestamptz[])
    AS n (user_id, username, display_name, avatar_url, deleted, updated_at)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE
SET username = excluded.username, display_name = excluded.display_name, avatar_url = excluded.avatar_url,
    deleted = excluded.deleted, updated_at = excluded.updated_at
WHERE u.updated_at <= excluded.updated_at;
