-- Answers from a guild's violations. One statement a name; adapters/queries.py reads this file.
--
-- Spans are [since, until). Counts come from the rollups that the database keeps with the rows; what no rollup tells,
-- and the rows of a page, from the indexes. Filters that are null filter nothing: statements are planned with their
-- parameters, so such a condition is not even there.

-- name: is_counted
-- Whether all rows of a time are in the rollups.
SELECT NOT EXISTS (SELECT FROM violations_uncounted WHERE since < $2 AND until > $1);

-- name: wanted
-- Part of others: what lists are filtered by. Reviews have a copy of these columns.
guild_id = $1
  AND ($2::text IS NULL OR severity = $2)
  AND ($3::text IS NULL OR detection = $3)
  AND ($4::bigint IS NULL OR user_id = $4)
  AND ($5::text IS NULL OR rule = $5)
  AND ($6::timestamptz IS NULL OR ts >= $6)
  AND ($7::timestamptz IS NULL OR ts < $7)
  AND ts >= kept_since();

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

-- name: severities
-- Part of others: how many there are of each severity.
count(*) FILTER (WHERE severity = 'low') AS low, count(*) FILTER (WHERE severity = 'medium') AS medium,
count(*) FILTER (WHERE severity = 'high') AS high, count(*) FILTER (WHERE severity = 'critical') AS critical;

-- name: violations
-- The page is found in the index, then its rows are fetched. $8: null, or 'unreviewed'.
WITH page AS (
    SELECT event_id, ts FROM violations
    WHERE /* wanted */
      /* beyond */
      AND ($8::text IS NULL OR (event_id, ts) NOT IN (
          SELECT event_id, ts FROM violation_reviews WHERE guild_id = $1))
    ORDER BY /* order */
    LIMIT $9 OFFSET $10
)
/* shown */;

-- name: violations_of_hours
-- The same where it is known in which hours ($14) they are, and between them there are others.
WITH page AS (
    SELECT v.event_id, v.ts
    FROM unnest($14::timestamptz[]) AS h (hour) CROSS JOIN LATERAL (
        SELECT event_id, ts, message_id FROM violations
        WHERE ts >= h.hour AND ts < h.hour + interval '1 hour' AND /* wanted */
          /* beyond */
          AND ($8::text IS NULL OR (event_id, ts) NOT IN (
              SELECT event_id, ts FROM violation_reviews WHERE guild_id = $1))
    ) AS v
    ORDER BY /* order */
    LIMIT $9 OFFSET $10
)
/* shown */;

-- name: reviewed
-- $8: a verdict, or 'reviewed'.
WITH page AS (
    SELECT event_id, ts FROM violation_reviews
    WHERE /* wanted */
      /* beyond */
      AND ($8::text = 'reviewed' OR verdict = $8)
    ORDER BY /* order */
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

-- name: after
-- Part of others: what comes after a row ($11 to $13) in the order of lists.
AND ($11::timestamptz IS NULL OR ts < $11
     OR (ts = $11 AND (message_id < $12::bigint OR (message_id = $12 AND event_id > $13::uuid))))

-- name: before
-- Part of others.
AND ($11::timestamptz IS NULL OR ts > $11
     OR (ts = $11 AND (message_id > $12::bigint OR (message_id = $12 AND event_id < $13::uuid))))

-- name: locate
-- How many there are of what is wanted, and in which hours those of a page are. Whole hours, from $14 to before $15,
-- are counted already; what is at their ends ($16 to $17) is counted here.
WITH found AS (
    SELECT hour, n FROM (
        /* hours */
    ) AS counted
    UNION ALL
    SELECT date_bin('1 hour', ts, 'epoch'), 1
    FROM unnest($16::timestamptz[], $17::timestamptz[]) AS e (start, stop) CROSS JOIN LATERAL (
        SELECT ts FROM violations WHERE ts >= e.start AND ts < e.stop AND /* wanted */
          /* beyond */
    ) AS v
    UNION ALL
    SELECT date_bin('1 hour', ts, 'epoch'), -1 FROM violation_reviews
    WHERE $8::text = 'unreviewed' AND /* wanted */
      /* beyond */
), hours AS (
    SELECT hour, sum(n)::bigint AS n FROM found GROUP BY hour HAVING sum(n) > 0
), placed AS (
    SELECT hour, n, sum(n) OVER (ORDER BY hour /* direction */)::bigint AS upto FROM hours
)
SELECT coalesce(sum(n), 0)::bigint AS total,
       coalesce(sum(n) FILTER (WHERE upto <= $10::bigint), 0)::bigint AS skipped,
       array_agg(hour ORDER BY hour) FILTER (WHERE upto > $10 AND upto - n < $10 + $9::bigint) AS hours
FROM placed;

-- name: of_severity
-- Part of others.
CASE $2::text WHEN 'low' THEN low WHEN 'medium' THEN medium WHEN 'high' THEN high WHEN 'critical' THEN critical
ELSE low + medium + high + critical END;

-- name: hours_of_all
-- Part of others.
SELECT hour, /* of_severity */ AS n
FROM metrics_hourly WHERE guild_id = $1 AND hour >= greatest($14, kept_since()) AND hour < $15

-- name: hours_of_rules
-- Part of others.
SELECT hour, /* of_severity */ AS n
FROM violation_rule_hours
WHERE guild_id = $1 AND hour >= greatest($14, kept_since()) AND hour < $15
  AND ($3::text IS NULL OR detection = $3) AND ($5::text IS NULL OR rule = $5)

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
    version = next_version(r.version)
RETURNING reviewed_at, version;

-- name: response_ms
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY took_ms) FROM (
    SELECT greatest(0, extract(epoch FROM settled_at - ts) * 1000)::bigint AS took_ms
    FROM violations
    WHERE guild_id = $1 AND ts >= $2 AND ts < $3 AND settled_at IS NOT NULL
    ORDER BY ts DESC, message_id DESC, event_id
    LIMIT $4
) AS latest;

-- name: busy
-- About how many violations a time has.
SELECT coalesce(sum(low + medium + high + critical), 0)::bigint
FROM metrics_hourly WHERE guild_id = $1 AND hour >= $2 AND hour < $3;

-- name: people
-- How many people have violations within a time of whole hours, and how many of them went from bad to worse in it; and
-- those, $4 at most, of whom only their rows tell it: the late ones, and whoever has violations after it.
WITH hours AS (
    SELECT coalesce(sum(people) FILTER (WHERE hour < $3), 0)::bigint AS known,
           coalesce(sum(people) FILTER (WHERE hour >= $3), 0)::bigint AS further,
           coalesce(sum(escalated), 0)::bigint AS escalated
    FROM violation_people_hours WHERE guild_id = $1 AND hour >= greatest($2, kept_since())
), asked AS (
    SELECT user_id, false AS is_escalated
    FROM violation_people WHERE guild_id = $1 AND late AND last_ts >= greatest($2, kept_since())
    UNION ALL
    SELECT user_id, coalesce(escalated_from >= greatest($2, kept_since()), false)
    FROM (
        SELECT DISTINCT user_id FROM violations
        WHERE (SELECT further FROM hours) > 0 AND guild_id = $1 AND ts >= $3
    ) AS v JOIN violation_people AS p USING (user_id)
    WHERE p.guild_id = $1 AND p.last_ts >= $3 AND NOT late
)
SELECT known, escalated - (SELECT count(*) FROM asked WHERE is_escalated) AS escalated,
       ARRAY (SELECT user_id FROM asked LIMIT $4) AS asked
FROM hours;

-- name: likely_offenders
-- Those who have most in their last two months ($5), or weeks: at least what they have within a time that touches no
-- more of these. Of heavy ones alone ($6) there are few; whoever is none has fewer than 32 in both.
SELECT user_id, CASE WHEN $5::boolean THEN in_month + in_month_before ELSE in_week + in_week_before END AS most
FROM violation_people WHERE guild_id = $1 AND last_ts >= $2 AND last_ts < $3 AND NOT late
  AND (heavy OR NOT $6::boolean)
ORDER BY most DESC LIMIT $4;

-- name: escalated_of
-- How many of some people ($4), or of all, went from bad to worse, by their rows.
SELECT count(*) AS people FROM (
    SELECT FROM violations
    WHERE guild_id = $1 AND ts >= $2 AND ts < $3 AND ($4::bigint[] IS NULL OR user_id = ANY ($4))
    GROUP BY user_id
    HAVING min(ts) FILTER (WHERE severity IN ('low', 'medium')) < max(ts) FILTER (WHERE severity IN ('high', 'critical'))
) AS people;

-- name: offenders_of
-- What some people did: each by a stretch of the index, so that no row has to be told apart from another person's.
SELECT user_id, last_at, low, medium, high, total - low - medium - high AS critical
FROM unnest($4::bigint[]) AS p (user_id) CROSS JOIN LATERAL (
    SELECT max(ts) AS last_at, count(*) AS total, count(*) FILTER (WHERE severity = 'low') AS low,
           count(*) FILTER (WHERE severity = 'medium') AS medium, count(*) FILTER (WHERE severity = 'high') AS high
    FROM violations AS v WHERE v.user_id = p.user_id AND guild_id = $1 AND ts >= $2 AND ts < $3
) AS v
WHERE total > 0;

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
           /* severities */
    FROM page AS p JOIN violations AS v USING (user_id)
    WHERE v.guild_id = $1 AND v.ts >= $2 AND v.ts < $3
    GROUP BY user_id, p.violations
) AS p ON true
ORDER BY p.violations DESC, p.user_id;

-- name: rules
SELECT rule, sum(low)::bigint AS low, sum(medium)::bigint AS medium, sum(high)::bigint AS high,
       sum(critical)::bigint AS critical, sum(pending)::bigint AS pending, sum(done)::bigint AS done,
       sum(failed)::bigint AS failed
FROM violation_rule_hours WHERE guild_id = $1 AND hour >= $2 AND hour < $3
GROUP BY rule;

-- name: rules_of_rows
SELECT rule,
       /* severities */,
       count(*) FILTER (WHERE action_status = 'pending') AS pending,
       count(*) FILTER (WHERE action_status = 'done') AS done,
       count(*) FILTER (WHERE action_status = 'failed') AS failed
FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY rule;

-- name: rule_reviews
SELECT rule, count(*) AS reviewed, count(*) FILTER (WHERE verdict = 'false_positive') AS false_positives
FROM violation_reviews WHERE guild_id = $1 AND ts >= greatest($2, kept_since()) AND ts < $3
GROUP BY rule;

-- name: quarters
SELECT hour + (quarter - 1) * interval '15 minutes' AS quarter, sum(n)::bigint AS violations
FROM violation_rule_hours CROSS JOIN LATERAL (
    VALUES (1, low + medium + high + critical - quarter_2 - quarter_3 - quarter_4),
           (2, quarter_2), (3, quarter_3), (4, quarter_4)
) AS q (quarter, n)
WHERE guild_id = $1 AND hour >= $2 AND hour < $3 AND n > 0
GROUP BY 1;

-- name: quarters_of_rows
SELECT date_bin('15 minutes', ts, 'epoch') AS quarter, count(*) AS violations
FROM violations WHERE guild_id = $1 AND ts >= $2 AND ts < $3
GROUP BY quarter;
