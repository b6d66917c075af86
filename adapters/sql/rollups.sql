-- What keeps the rollups of violations whole. One statement a name; adapters/queries.py reads this file.

-- name: count_earlier
SELECT count_earlier_violations($1);

-- name: recount_late
SELECT recount_late_people($1);

-- name: differences
-- Rollups that are not what counting the rows gives: none, at any moment. Of people who are to be asked, only their
-- number of violations is held against it.
WITH hours AS (
    SELECT guild_id, date_bin('1 hour', ts, 'epoch') AS hour, rule, detection,
           count(*) FILTER (WHERE severity = 'low')::int AS low,
           count(*) FILTER (WHERE severity = 'medium')::int AS medium,
           count(*) FILTER (WHERE severity = 'high')::int AS high,
           count(*) FILTER (WHERE severity = 'critical')::int AS critical,
           count(*) FILTER (WHERE action_status = 'pending')::int AS pending,
           count(*) FILTER (WHERE action_status = 'done')::int AS done,
           count(*) FILTER (WHERE action_status = 'failed')::int AS failed,
           count(*) FILTER (WHERE extract(minute FROM ts) >= 15 AND extract(minute FROM ts) < 30)::int AS quarter_2,
           count(*) FILTER (WHERE extract(minute FROM ts) >= 30 AND extract(minute FROM ts) < 45)::int AS quarter_3,
           count(*) FILTER (WHERE extract(minute FROM ts) >= 45)::int AS quarter_4
    FROM violations WHERE counted GROUP BY 1, 2, 3, 4
), graves AS (
    SELECT *, max(ts) FILTER (WHERE severity IN ('high', 'critical'))
              OVER (PARTITION BY guild_id, user_id, date_trunc('month', ts, 'UTC')) AS last_grave
    FROM violations WHERE counted
), months AS (
    SELECT guild_id, user_id, date_trunc('month', ts, 'UTC') AS month, count(*)::int AS violations,
           min(ts) AS first_ts, max(ts) AS last_ts,
           max(ts) FILTER (WHERE severity IN ('low', 'medium')) AS last_mild, max(last_grave) AS last_grave,
           max(ts) FILTER (WHERE severity IN ('low', 'medium') AND ts < last_grave) AS escalated_from
    FROM graves GROUP BY 1, 2, 3
)
SELECT 'hour' AS what, coalesce(c.guild_id, h.guild_id) AS guild_id, c::text AS of_rows, h::text AS of_rollup
FROM hours AS c FULL JOIN violation_rule_hours AS h USING (guild_id, hour, rule, detection)
WHERE (c.low, c.medium, c.high, c.critical, c.pending, c.done, c.failed, c.quarter_2, c.quarter_3, c.quarter_4)
      IS DISTINCT FROM
      (h.low, h.medium, h.high, h.critical, h.pending, h.done, h.failed, h.quarter_2, h.quarter_3, h.quarter_4)
UNION ALL
SELECT 'month', coalesce(c.guild_id, p.guild_id), c::text, p::text
FROM months AS c FULL JOIN violation_person_months AS p USING (guild_id, user_id, month)
WHERE c.violations IS DISTINCT FROM p.violations
   OR NOT p.late AND (c.first_ts, c.last_ts, c.last_mild, c.last_grave, c.escalated_from)
                     IS DISTINCT FROM (p.first_ts, p.last_ts, p.last_mild, p.last_grave, p.escalated_from);
