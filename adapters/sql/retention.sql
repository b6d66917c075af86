-- What is deleted because it is old enough. One statement a name; adapters/queries.py reads this file.

-- name: drop_months
SELECT drop_violation_months_before(($1::timestamptz AT TIME ZONE 'UTC')::date);

-- name: delete_early_actions
-- Their violations were lost, or would be deleted as well.
WITH gone AS (
    DELETE FROM early_actions WHERE (ts, event_id) IN (
        SELECT ts, event_id FROM early_actions WHERE ts < $1::timestamptz ORDER BY ts LIMIT $2
    )
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delete_batch
-- Of guilds that keep violations for less time than the installation does. Their hours are diminished by what is
-- deleted, in the same statement, so that they always count the rows that there are.
WITH shorter AS (
    SELECT guild_id, $1::timestamptz - make_interval(days => days::int) AS horizon
    FROM (
        SELECT guild_id, CASE jsonb_typeof(config->'retention_days')
                         WHEN 'number' THEN (config->'retention_days')::numeric END AS days
        FROM guild_config
    ) AS c
    WHERE days >= 1 AND days < $2::int
), old AS (
    SELECT v.event_id, v.ts
    FROM shorter AS s CROSS JOIN LATERAL (
        SELECT event_id, ts FROM violations WHERE guild_id = s.guild_id AND ts < s.horizon LIMIT $3
    ) AS v
    LIMIT $3
), gone AS (
    DELETE FROM violations AS v USING old AS o WHERE v.event_id = o.event_id AND v.ts = o.ts
    RETURNING v.event_id, v.ts, v.guild_id, v.severity
), unreviewed AS (
    DELETE FROM violation_reviews AS r USING gone AS g WHERE r.event_id = g.event_id AND r.ts = g.ts
), diminished AS (
    UPDATE metrics_hourly AS m
    SET low = m.low - g.low, medium = m.medium - g.medium, high = m.high - g.high, critical = m.critical - g.critical
    FROM (
        SELECT guild_id, date_trunc('hour', ts, 'UTC') AS hour,
               count(*) FILTER (WHERE severity = 'low') AS low, count(*) FILTER (WHERE severity = 'medium') AS medium,
               count(*) FILTER (WHERE severity = 'high') AS high, count(*) FILTER (WHERE severity = 'critical') AS critical
        FROM gone GROUP BY 1, 2
    ) AS g
    WHERE m.guild_id = g.guild_id AND m.hour = g.hour
)
SELECT count(*) FROM gone;
