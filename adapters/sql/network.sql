-- name: totals
SELECT guilds.guilds, guilds.guilds_online, hours.messages, hours.violations, poison.open_poison
FROM (
    SELECT count(*) FILTER (WHERE bot_present)::bigint AS guilds,
           count(*) FILTER (WHERE bot_present AND bot_online)::bigint AS guilds_online
    FROM guilds
) AS guilds, (
    SELECT coalesce(sum(messages), 0)::bigint AS messages,
           coalesce(sum(low + medium + high + critical), 0)::bigint AS violations
    FROM metrics_hourly WHERE hour >= date_trunc('hour', now(), 'UTC') - interval '1 hour'
) AS hours, (
    SELECT count(*)::bigint AS open_poison FROM poison_events WHERE settled_at IS NULL
) AS poison;

-- name: online_guilds
-- Of some shards; Discord gives a guild to the shard that its id names.
SELECT guild_id FROM guilds
WHERE bot_present AND bot_online AND (guild_id >> 22) % $1 = ANY ($2::bigint[])
ORDER BY guild_id;

-- name: gaps
SELECT source, reason, since, until, lost_events, recorded_at FROM coverage_gaps
ORDER BY gap_id DESC LIMIT $1;
