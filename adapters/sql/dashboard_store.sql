-- What the dashboard reads. One statement a name; adapters/queries.py reads this file.

-- name: guilds
SELECT guild_id, name, icon_url, member_count, bot_present, bot_online
FROM guilds WHERE guild_id = ANY ($1::bigint[]);

-- name: hours
SELECT guild_id, hour, messages, low, medium, high, critical, joins, leaves
FROM metrics_hourly
WHERE guild_id = $1 AND hour >= greatest($2, kept_since())
ORDER BY hour;
