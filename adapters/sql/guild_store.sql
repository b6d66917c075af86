-- What guild hosts read and write. One statement a name; adapters/queries.py reads this file.

-- name: register_director
-- Milliseconds, because hosts follow the highest: a sequence would count below it after a restore.
INSERT INTO directors AS d (incarnation) VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ON CONFLICT (only_one) DO UPDATE
SET incarnation = greatest(excluded.incarnation, d.incarnation + 1), started_at = now()
RETURNING incarnation;

-- name: hold_director
-- Locked for share until the end of the transaction: a Director that begins meanwhile waits, or has won already.
SELECT incarnation FROM directors FOR SHARE;

-- name: register_host
-- Its lower 24 bits are chance: after a restore the sequence counts the same numbers again.
INSERT INTO hosts AS h (host_id, incarnation, actor_name)
VALUES ($1, (nextval('incarnations') << 24) | $3::bigint, $2)
ON CONFLICT (host_id) DO UPDATE
SET incarnation = excluded.incarnation, actor_name = excluded.actor_name, started_at = now(), retired_at = NULL,
    token = 0, token_at = now()
RETURNING incarnation;

-- name: retire_host
UPDATE hosts SET incarnation = nextval('incarnations') << 24, retired_at = now() WHERE host_id = $1;

-- name: renew_token
UPDATE hosts SET token = $4, token_at = now()
WHERE host_id = $1 AND incarnation = $2 AND token = ANY ($3::bigint[])
RETURNING token;

-- name: one_tells
SELECT pg_advisory_xact_lock(hashtext('coverage_gaps.restored'));

-- name: write_taken_back
-- From when the database last heard of this host, or of any; once, though every host finds it out.
INSERT INTO coverage_gaps (source, since, until, lost_events, reason)
SELECT 'database', b.since, now(), 0, 'restored'
FROM (SELECT coalesce((SELECT token_at FROM hosts WHERE host_id = $1),
                      (SELECT min(token_at) FROM hosts WHERE retired_at IS NULL), now()) AS since) AS b
WHERE NOT EXISTS (SELECT FROM coverage_gaps AS g WHERE g.reason = 'restored' AND g.until > b.since);

-- name: hosts
SELECT host_id, incarnation, coalesce(actor_name, '') AS actor_name
FROM hosts WHERE retired_at IS NULL ORDER BY host_id;

-- name: hold_incarnation
-- Locked for share until the commit: a replacement that registers meanwhile waits, or has won already.
SELECT incarnation FROM hosts WHERE host_id = $1 FOR SHARE;

-- name: hold_commit
-- As hold_incarnation, with those of the senders whose life is over. Their rows need no lock: what a commit under way
-- brings, its runner heard before the later life began.
SELECT incarnation, ARRAY(
    SELECT s.place FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS s (runner_id, incarnation, place)
    JOIN runners AS r USING (runner_id) WHERE r.incarnation > s.incarnation
) AS replaced
FROM hosts WHERE host_id = $1 FOR SHARE;

-- name: find_runner
SELECT incarnation, spool_id, node_id, address, covered_until FROM runners WHERE runner_id = $1;

-- name: one_registers
SELECT pg_advisory_xact_lock(hashtext('runners'), hashtext($1));

-- name: begin_runner
INSERT INTO runners (runner_id, incarnation, spool_id, node_id, address) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (runner_id) DO UPDATE
SET incarnation = excluded.incarnation, spool_id = excluded.spool_id,
    node_id = excluded.node_id, address = excluded.address, started_at = now()
RETURNING incarnation, spool_id, node_id, address, covered_until;

-- name: lose_spool
-- What the runner heard since is told as lost, whoever finds its disk again one day.
WITH lost AS (
    INSERT INTO coverage_gaps (source, since, until, lost_events, reason)
    SELECT runner_id, covered_until, greatest(covered_until, now()), 0, 'spool_lost'
    FROM runners WHERE runner_id = $1
)
UPDATE runners SET covered_until = greatest(covered_until, now()) WHERE runner_id = $1;

-- name: note_covered
-- Returns the newest life; only its own word is taken. After a restore it says again that it is the newest.
UPDATE runners AS r
SET incarnation = greatest(r.incarnation, $2), spool_id = CASE WHEN r.incarnation <= $2 THEN $4 ELSE r.spool_id END,
    covered_until = CASE WHEN r.incarnation <= $2 THEN greatest(r.covered_until, $3) ELSE r.covered_until END
WHERE runner_id = $1
RETURNING incarnation;

-- name: pending_deletions
-- Months are read whole: an index by status would have to change with every violation, and its other ones with it.
SELECT guild_id, event_id, ts, channel_id, message_id FROM violations
WHERE action = 'delete' AND action_status = 'pending' AND ts >= $3 AND ts < $4
      AND (guild_id >> 22) % $2 = ANY ($1::bigint[])
ORDER BY ts, event_id LIMIT $5;

-- name: write_placement
INSERT INTO placement (version, owners, dedicated, director) VALUES ($1, $2, $3, $4);

-- name: last_placement
SELECT version, owners, dedicated, director FROM placement ORDER BY version DESC LIMIT 1;

-- name: load_guilds
SELECT guild_id, name, member_count, bot_present, bot_online
FROM guilds WHERE guild_id = ANY ($1::bigint[]);

-- name: load_hours
SELECT guild_id, hour, messages, low, medium, high, critical, joins, leaves
FROM metrics_hourly
WHERE guild_id = ANY ($1::bigint[]) AND hour >= $2
ORDER BY guild_id, hour;

-- name: await_commits
-- A commit holds this row for share: to lock it for update is to wait for every commit that is open.
SELECT 1 FROM hosts WHERE host_id = $1 FOR UPDATE;

-- name: taken_number
SELECT number FROM ingest_sources WHERE source = $1;

-- name: write_marks
-- Returns the sources whose number is new. One that is missing was taken before, perhaps by a commit whose
-- answer was lost: then nothing of this transaction may stand.
INSERT INTO ingest_sources AS s (source, number)
SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (source) DO UPDATE SET number = excluded.number, updated_at = now()
WHERE s.number < excluded.number
RETURNING source;

-- name: write_gaps
INSERT INTO coverage_gaps (source, since, until, lost_events, reason)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::text[]);

-- name: write_poison
INSERT INTO poison_events (source, number, guild_id, reason, payload)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[]);

-- name: open_poison
-- Part of others.
SELECT poison_id, source, number, guild_id, reason, payload, at
FROM poison_events WHERE settled_at IS NULL;

-- name: poison
/* open_poison */ ORDER BY at, poison_id LIMIT $1;

-- name: poison_of_source
/* open_poison */ AND source = $2 ORDER BY at, poison_id LIMIT $1;

-- name: find_poison
/* open_poison */ AND poison_id = $1;

-- name: settle_poison
UPDATE poison_events SET settled_at = now() WHERE poison_id = $1;

-- name: write_users
-- Sorted, because two hosts write the same people and would otherwise lock each other out.
INSERT INTO user_cache AS u (user_id, username, display_name, avatar_url)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS n (user_id, username, display_name, avatar_url)
ORDER BY user_id
ON CONFLICT (user_id) DO UPDATE
SET username = excluded.username, display_name = excluded.display_name,
    avatar_url = excluded.avatar_url, updated_at = now()
WHERE (u.username, u.display_name, u.avatar_url)
      IS DISTINCT FROM (excluded.username, excluded.display_name, excluded.avatar_url)
   OR u.updated_at < now() - interval '1 hour';

-- name: write_guilds
-- Owner and icon are only known when Discord described the guild; null keeps what is there.
INSERT INTO guilds AS g (guild_id, name, owner_id, icon_url, member_count, bot_present, bot_online)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::integer[], $6::boolean[], $7::boolean[])
ON CONFLICT (guild_id) DO UPDATE
SET name = coalesce(excluded.name, g.name), owner_id = coalesce(excluded.owner_id, g.owner_id),
    icon_url = CASE WHEN excluded.owner_id IS NULL THEN g.icon_url ELSE excluded.icon_url END,
    member_count = coalesce(excluded.member_count, g.member_count),
    bot_present = excluded.bot_present, bot_online = excluded.bot_online, updated_at = now();

-- name: write_violations
-- Returns the rows that were really new; the hourly counts below are taken from these alone. With them comes how
-- their action ended, where that was told before them: a row cannot be settled in the statement that makes it.
WITH fresh AS (
    INSERT INTO violations (event_id, ts, guild_id, channel_id, channel_name, message_id, user_id,
                            detection, rule, severity, action, action_status, excerpt, content_hash)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[],
                         $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                         $13::text[], $14::bytea[])
    ON CONFLICT DO NOTHING
    RETURNING event_id, guild_id, ts, severity
), counted AS (
    INSERT INTO metrics_hourly AS m (guild_id, hour, low, medium, high, critical)
    SELECT guild_id, date_trunc('hour', ts, 'UTC'),
           count(*) FILTER (WHERE severity = 'low'), count(*) FILTER (WHERE severity = 'medium'),
           count(*) FILTER (WHERE severity = 'high'), count(*) FILTER (WHERE severity = 'critical')
    FROM fresh GROUP BY 1, 2
    ON CONFLICT (guild_id, hour) DO UPDATE
    SET low = m.low + excluded.low, medium = m.medium + excluded.medium,
        high = m.high + excluded.high, critical = m.critical + excluded.critical
), early AS (
    DELETE FROM early_actions AS e USING fresh AS f WHERE e.event_id = f.event_id AND e.ts = f.ts
    RETURNING e.event_id, e.ts, e.status, e.settled_at
)
SELECT f.event_id, e.ts AS early_ts, e.status AS early_status, e.settled_at AS early_settled_at
FROM fresh AS f LEFT JOIN early AS e USING (event_id, ts);

-- name: write_hours
INSERT INTO metrics_hourly AS m (guild_id, hour, messages, joins, leaves)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::integer[], $5::integer[])
ON CONFLICT (guild_id, hour) DO UPDATE
SET messages = m.messages + excluded.messages, joins = m.joins + excluded.joins,
    leaves = m.leaves + excluded.leaves;

-- name: write_actions
-- An action settles once: a resend of "done" finds nothing pending and changes nothing.
WITH settled AS (
    UPDATE violations AS v SET action_status = s.status, settled_at = s.settled_at
    FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::timestamptz[]) AS s (event_id, ts, status, settled_at)
    WHERE v.event_id = s.event_id AND v.ts = s.ts AND v.action_status = 'pending'
    RETURNING v.*
)
SELECT s.event_id, s.guild_id, s.channel_id, s.channel_name, s.message_id, s.user_id,
       s.detection, s.rule, s.severity, s.action, s.action_status, s.excerpt, s.ts, s.committed_at,
       u.username, u.display_name, u.avatar_url, u.deleted,
       r.verdict, r.note, r.reviewed_by, r.reviewed_at, r.version AS review_version
FROM settled AS s
     LEFT JOIN user_cache AS u ON u.user_id = s.user_id LEFT JOIN violation_reviews AS r USING (event_id, ts);

-- name: write_early_actions
-- Of actions that settled nothing: a violation that is not here yet takes its own when it comes.
INSERT INTO early_actions (event_id, ts, status, settled_at)
SELECT a.event_id, a.ts, a.status, a.settled_at
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::timestamptz[]) AS a (event_id, ts, status, settled_at)
WHERE NOT EXISTS (SELECT FROM violations AS v WHERE v.event_id = a.event_id AND v.ts = a.ts)
ON CONFLICT DO NOTHING;

-- name: ensure_months
SELECT ensure_violation_month((date_trunc('month', $1::timestamptz, 'UTC') AT TIME ZONE 'UTC'
                               + make_interval(months => m))::date)
FROM generate_series(-1, 2) AS m;
