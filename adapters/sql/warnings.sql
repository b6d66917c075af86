-- name: warned
SELECT user_id, count, last_at, cleared_by, cleared_at FROM user_warnings
WHERE guild_id = $1 AND count > 0 ORDER BY count DESC, last_at DESC, user_id LIMIT $2 OFFSET $3;

-- name: count_warned
SELECT count(*) FROM user_warnings WHERE guild_id = $1 AND count > 0;

-- name: warnings_of
SELECT user_id, count, last_at, cleared_by, cleared_at FROM user_warnings WHERE guild_id = $1 AND user_id = $2;

-- name: clear
-- Locked in one order, because two moderators may clear the same people; returns what there was.
WITH had AS (
    SELECT user_id, count FROM user_warnings
    WHERE guild_id = $1 AND user_id = ANY($2::bigint[]) AND count > 0 ORDER BY user_id FOR UPDATE
)
UPDATE user_warnings AS w SET count = 0, cleared_by = $3, cleared_at = now()
FROM had WHERE w.guild_id = $1 AND w.user_id = had.user_id
RETURNING had.user_id, had.count;
