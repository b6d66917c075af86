-- What keeps the rollups of violations whole. One statement a name; adapters/queries.py reads this file.

-- name: count_earlier
SELECT count_earlier_violations($1);

-- name: recount_late
SELECT recount_late_people($1);

-- name: build_index
SELECT build_list_indexes();

-- name: differences
-- Rollups that are not what counting the rows gives: none, at any moment. Of people who are to be asked, only
-- that they are not missed. What is forgotten is on its way out.
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
    SELECT *, max(ts) FILTER (WHERE severity IN ('high', 'critical')) OVER person AS last_grave,
           month_number(max(ts) OVER person) AS month, week_number(max(ts) OVER person) AS week
    FROM violations WHERE counted WINDOW person AS (PARTITION BY guild_id, user_id)
), people AS (
    SELECT guild_id, user_id, max(month) AS month, max(ts) AS last_ts,
           count(*) FILTER (WHERE month_number(ts) = month) AS in_month,
           count(*) FILTER (WHERE month_number(ts) = month - 1) AS in_month_before, max(week) AS week,
           count(*) FILTER (WHERE week_number(ts) = week) AS in_week,
           count(*) FILTER (WHERE week_number(ts) = week - 1) AS in_week_before,
           max(ts) FILTER (WHERE severity IN ('low', 'medium')) AS last_mild, max(last_grave) AS last_grave,
           max(ts) FILTER (WHERE severity IN ('low', 'medium') AND ts < last_grave) AS escalated_from
    FROM graves GROUP BY guild_id, user_id
), people_hours AS (
    SELECT guild_id, hour, sum(people)::int AS people, sum(escalated)::int AS escalated
    FROM violation_people CROSS JOIN LATERAL (
        VALUES (date_bin('1 hour', last_ts, 'epoch'), 1, 0), (date_bin('1 hour', escalated_from, 'epoch'), 0, 1)
    ) AS v (hour, people, escalated)
    WHERE hour IS NOT NULL AND NOT late GROUP BY guild_id, hour
), summed AS (
    SELECT guild_id, hour, sum(people)::int AS people, sum(escalated)::int AS escalated
    FROM violation_people_hours GROUP BY guild_id, hour HAVING sum(people) <> 0 OR sum(escalated) <> 0
)
SELECT 'hour' AS what, coalesce(c.guild_id, h.guild_id) AS guild_id, c::text AS of_rows, h::text AS of_rollup
FROM hours AS c FULL JOIN violation_rule_hours AS h USING (guild_id, hour, rule, detection)
WHERE (c.low, c.medium, c.high, c.critical, c.pending, c.done, c.failed, c.quarter_2, c.quarter_3, c.quarter_4)
      IS DISTINCT FROM
      (h.low, h.medium, h.high, h.critical, h.pending, h.done, h.failed, h.quarter_2, h.quarter_3, h.quarter_4)
UNION ALL
SELECT 'person', coalesce(c.guild_id, p.guild_id), c::text, p::text
FROM people AS c FULL JOIN violation_people AS p USING (guild_id, user_id)
WHERE CASE WHEN p.late THEN c.last_ts > p.last_ts
      ELSE coalesce(c.last_ts, p.last_ts) >= kept_since()
           AND ((c.month, c.last_ts, c.in_month, c.week, c.in_week, c.last_mild, c.last_grave, c.escalated_from)
                IS DISTINCT FROM
                (p.month, p.last_ts, p.in_month, p.week, p.in_week, CASE WHEN p.last_mild >= kept_since() THEN p.last_mild END,
                 CASE WHEN p.last_grave >= kept_since() THEN p.last_grave END,
                 CASE WHEN p.escalated_from >= kept_since() THEN p.escalated_from END)
                OR c.in_month_before > p.in_month_before OR c.in_week_before > p.in_week_before
                OR (c.in_month_before, c.in_week_before) <> (p.in_month_before, p.in_week_before) AND c.last_ts - interval '62 days' >= kept_since()) END
UNION ALL
SELECT 'hour of people', coalesce(c.guild_id, h.guild_id), c::text, h::text
FROM people_hours AS c FULL JOIN summed AS h USING (guild_id, hour)
WHERE (c.people, c.escalated) IS DISTINCT FROM (h.people, h.escalated);
