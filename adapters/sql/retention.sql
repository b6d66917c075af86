-- What is deleted because it is old enough. One statement a name; adapters/queries.py reads this file.

-- name: drop_months
SELECT drop_violation_months_before(($1::timestamptz AT TIME ZONE 'UTC')::date);

-- name: delete_strays
-- Rows of times for which there is no month.
WITH gone AS (
    DELETE FROM violations AS v
    USING (SELECT event_id, ts FROM violations_default WHERE ts < kept_since() ORDER BY ts LIMIT $1) AS o
    WHERE v.event_id = o.event_id AND v.ts = o.ts
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delete_reviews
WITH gone AS (
    DELETE FROM violation_reviews WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM violation_reviews WHERE ts < kept_since() LIMIT $1
    ))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: delete_hours
-- Of the next hundred guilds, by the table's key: what it costs depends on the batch, not on how much there is.
-- Returns whose hours these were, and whether there is more to do.
WITH RECURSIVE place AS (
    SELECT horizon, next_guild FROM forgotten WHERE next_guild IS NOT NULL FOR UPDATE
), guild AS (
    SELECT 1 AS n, (SELECT min(guild_id) FROM metrics_hourly WHERE guild_id >= p.next_guild) AS guild_id FROM place AS p
    UNION ALL
    SELECT n + 1, (SELECT min(m.guild_id) FROM metrics_hourly AS m WHERE m.guild_id > g.guild_id)
    FROM guild AS g WHERE g.guild_id IS NOT NULL AND n < 100
), old AS (
    SELECT g.guild_id, h.hour
    FROM place AS p CROSS JOIN guild AS g CROSS JOIN LATERAL (
        SELECT hour FROM metrics_hourly WHERE guild_id = g.guild_id AND hour < p.horizon LIMIT $1
    ) AS h
    ORDER BY g.guild_id LIMIT $1
), gone AS (
    DELETE FROM metrics_hourly AS m USING old AS o WHERE m.guild_id = o.guild_id AND m.hour = o.hour
), people AS (
    DELETE FROM violation_people AS p USING place AS h
    WHERE p.guild_id = ANY (ARRAY (SELECT guild_id FROM guild)) AND p.last_ts < h.horizon AND NOT p.late
)
UPDATE forgotten
SET next_guild = CASE WHEN (SELECT count(*) FROM old) = $1 THEN (SELECT max(guild_id) FROM old)
                      WHEN (SELECT count(guild_id) FROM guild) = 100 THEN (SELECT max(guild_id) + 1 FROM guild) END
WHERE next_guild IS NOT NULL
RETURNING next_guild IS NOT NULL AS more, ARRAY (SELECT guild_id FROM guild WHERE guild_id IS NOT NULL) AS guilds;

-- name: delete_empty_people_hours
SELECT delete_empty_people_hours($1);

-- name: delete_placements
-- All but the latest ($1).
WITH gone AS (
    DELETE FROM placement WHERE version IN (
        SELECT version FROM placement
        WHERE version <= (SELECT version FROM placement ORDER BY version DESC OFFSET $1 LIMIT 1)
        LIMIT $2
    )
    RETURNING 1
)
SELECT count(*) FROM gone;

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
