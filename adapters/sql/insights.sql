-- Answers from a guild's violations. One statement a name; adapters/queries.py reads this file.
--
-- Spans are [since, until). All but the rows of a page and the latest responses comes from the index
-- violations_guild_ts alone. Filters that are null filter nothing: statements are planned with their parameters, so
-- such a condition is not even there.

-- name: wanted
-- Part of others: what lists are filtered by. Reviews have a copy of these columns.
guild_id = $1
  AND ($2::text IS NULL OR severity = $2)
  AND ($3::text IS NULL OR detection = $3)
  AND ($4::bigint IS NULL OR user_id = $4)
  AND ($5::text IS NULL OR rule = $5)
  AND ($6::timestamptz IS NULL OR ts >= $6)
  AND ($7::timestamptz IS NULL OR ts < $7);

-- name: shown
-- Part of others: the rows of a page, with their people and reviews. The order is total, so that a page never shows
-- a row of the page before; the dashboard sorts in the same way.
SELECT v.event_id, v.guild_id, v.channel_id, v.channel_name, v.message_id, v.user_id,
       v.detection, v.rule, v.severity, v.action, v.action_status, v.excerpt, v.ts, v.committed_at,
       u.username, u.display_name, u.avatar_url, u.deleted,
       r.verdict, r.note, r.reviewed_by, r.reviewed_at, r.version AS review_version
FROM page JOIN violations AS v USING (event_id, ts)
     LEFT JOIN user_cache AS u ON u.user_id = v.user_id LEFT JOIN violation_reviews AS r USING (event_id, ts)
ORDER BY v.ts DESC, v.message_id DESC, v.event_id;

-- name: violations
-- The page is found in the index, then its rows are fetched. $8: null, or 'unreviewed'.
WITH page AS (
    SELECT event_id, ts FROM violations
    WHERE /* wanted */
      AND ($8::text IS NULL OR (event_id, ts) NOT IN (
          SELECT event_id, ts FROM violation_reviews WHERE guild_id = $1))
    ORDER BY ts DESC, message_id DESC, event_id
    LIMIT $9 OFFSET $10
)
/* shown */;

-- name: reviewed
-- $8: a verdict, or 'reviewed'.
WITH page AS (
    SELECT event_id, ts FROM violation_reviews
    WHERE /* wanted */
      AND ($8::text = 'reviewed' OR verdict = $8)
    ORDER BY ts DESC, message_id DESC, event_id
    LIMIT $9 OFFSET $10
)
/* shown */;

-- name: violation
WITH page AS (SELECT event_id, ts FROM violations WHERE event_id = $1 AND guild_id = $2)
/* shown */;

-- name: count_violations
SELECT count(*) FROM violations
WHERE /* wanted */;

-- name: count_reviewed
SELECT count(*) FROM violation_reviews
WHERE /* wanted */
  AND ($8::text = 'reviewed' OR verdict = $8);

-- name: count_by_hours
-- From the hourly counts: exact, because they are written with the rows, and short at any size.
SELECT coalesce(sum(CASE $2::text WHEN 'low' THEN low WHEN 'medium' THEN medium WHEN 'high' THEN high
                                  WHEN 'critical' THEN critical ELSE low + medium + high + critical END), 0)::bigint
FROM metrics_hourly WHERE guild_id = $1;

-- name: lock_review
-- One review of a violation at a time. Not the violation's row: its host never waits for a moderator.
SELECT pg_advisory_xact_lock(hashtextextended('guildhall:review:' || $1::uuid, 0));

-- name: write_review
INSERT INTO violation_reviews AS r (event_id, ts, guild_id, message_id, user_id, severity, detection, rule,
                               verdict, note, reviewed_by)
SELECT event_id, ts, guild_id, message_id, user_id, severity, detection, rule, $3, $4, $5
FROM violations WHERE event_id = $1 AND guild_id = $2
ON CONFLICT (event_id, ts) DO UPDATE
SET verdict = excluded.verdict, note = excluded.note, reviewed_by = excluded.reviewed_by, reviewed_at = now(),
    version = r.version + 1
RETURNING reviewed_at, version;

-- name: response_ms
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY took_ms) FROM (
    SELECT greatest(0, extract(epoch FROM settled_at - ts) * 1000)::bigint AS took_ms
    FROM violations
    WHERE guild_id = $1 AND ts >= $2 AND ts < $3 AND settled_at IS NOT NULL
    ORDER BY ts DESC, message_id DESC, event_id
    LIMIT $4
) AS latest;

-- name: escalated
SELECT count(*) FROM (
    SELECT FROM violations
    WHERE guild_id = $1 AND ts >= $2 AND ts < $3
    GROUP BY user_id
    HAVING min(ts) FILTER (WHERE severity IN ('low', 'medium')) < max(ts) FILTER (WHERE severity IN ('high', 'critical'))
) AS people;

-- name: offenders
-- Who has most is found by a bare count; only those of the page are counted by severity. The first row carries the
-- number of people even when the page is past the end.
WITH people AS MATERIALIZED (
    SELECT user_id, count(*) AS violations
    FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
    GROUP BY user_id
), page AS (
    SELECT user_id, violations FROM people ORDER BY violations DESC, user_id LIMIT $4 OFFSET $5
)
SELECT t.total, p.user_id, p.low, p.medium, p.high, p.critical, p.last_at
FROM (SELECT count(*) AS total FROM people) AS t
LEFT JOIN (
    SELECT user_id, p.violations, max(ts) AS last_at,
           count(*) FILTER (WHERE severity = 'low') AS low, count(*) FILTER (WHERE severity = 'medium') AS medium,
           count(*) FILTER (WHERE severity = 'high') AS high, count(*) FILTER (WHERE severity = 'critical') AS critical
    FROM page AS p JOIN violations AS v USING (user_id)
    WHERE v.guild_id = $1 AND v.ts >= $2 AND v.ts < $3
    GROUP BY user_id, p.violations
) AS p ON true
ORDER BY p.violations DESC, p.user_id;

-- name: rules
SELECT rule, severity, action_status, count(*) AS violations
FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY rule, severity, action_status;

-- name: rules_before
SELECT rule, count(*) AS violations
FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY rule;

-- name: rule_reviews
SELECT rule, count(*) AS reviewed, count(*) FILTER (WHERE verdict = 'false_positive') AS false_positives
FROM violation_reviews WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY rule;

-- name: quarters
SELECT date_bin('15 minutes', ts, 'epoch') AS quarter, count(*) AS violations
FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY quarter;
