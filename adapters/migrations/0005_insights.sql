-- Reviews, response times, analytics that read indexes alone, and months that go when they are old enough.

-- With what lists are filtered by, copied from the violation, where it never changes: few violations have a review,
-- and those that do are found here without a look at the others.
CREATE TABLE violation_reviews (
    event_id    uuid NOT NULL,
    ts          timestamptz NOT NULL,
    guild_id    bigint NOT NULL,
    message_id  bigint NOT NULL,
    user_id     bigint NOT NULL,
    severity    text NOT NULL,
    detection   text NOT NULL,
    rule        text NOT NULL,
    verdict     text NOT NULL CHECK (verdict IN ('confirmed', 'false_positive', 'dismissed')),
    note        text,
    reviewed_by bigint NOT NULL,
    reviewed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (event_id, ts)
);
CREATE INDEX violation_reviews_guild_ts ON violation_reviews (guild_id, ts DESC);

-- When it was known how the action ended.
ALTER TABLE violations ADD COLUMN settled_at timestamptz;

-- Questions about a guild's violations are answered from this index; rows are fetched for a page alone. Texts come
-- last, so that nothing has to be aligned after them.
DROP INDEX violations_guild_ts;
CREATE INDEX violations_guild_ts ON violations (guild_id, ts DESC)
    INCLUDE (user_id, message_id, event_id, severity, detection, rule, action_status);
-- A person's violations in order, and how grave they were.
DROP INDEX violations_user_guild;
CREATE INDEX violations_user_guild ON violations (user_id, guild_id, ts DESC) INCLUDE (severity);

-- An index alone answers only for pages that a vacuum has seen: let it come after a twentieth of the rows is
-- new or changed, not after a fifth.
CREATE OR REPLACE FUNCTION ensure_violation_month(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- Bounds with their zone written out: months are UTC months whatever the session's time zone is.
    lower_bound date := date_trunc('month', day);
    upper_bound date := lower_bound + interval '1 month';
    since       text := lower_bound || ' 00:00:00+00';
    until       text := upper_bound || ' 00:00:00+00';
    partition   text := 'violations_' || to_char(lower_bound, 'YYYY_MM');
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Attaching takes this lock anyhow; taken now, no further row of the month can slip in.
    LOCK TABLE violations_default IN ACCESS EXCLUSIVE MODE;
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN; -- somebody else made it while we waited
    END IF;
    EXECUTE format(
        'CREATE TABLE %I (LIKE violations INCLUDING ALL) '
        'WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05)', partition
    );
    EXECUTE format(
        'WITH early AS (DELETE FROM violations_default WHERE ts >= %L AND ts < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM early', since, until, partition
    );
    EXECUTE format('ALTER TABLE violations ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, since, until);
END $$;

DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'violations'::regclass LOOP
        EXECUTE format(
            'ALTER TABLE %s SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05)',
            partition
        );
    END LOOP;
END $$;

-- Removes all that is older than the day's month: months as a whole, with the hours and reviews of that time, so
-- that hours always count the rows that there are. Returns whether there was anything.
CREATE FUNCTION drop_violation_months_before(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    horizon_day date := date_trunc('month', day);
    horizon     timestamptz := (horizon_day || ' 00:00:00+00')::timestamptz;
    months      regclass[];
    month       regclass;
    stray       bigint;
BEGIN
    SELECT coalesce(array_agg(c.oid::regclass), '{}') INTO months
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'violations'::regclass AND c.relname ~ '^violations_\d{4,}_\d{2}$'
      AND to_date(substr(c.relname, 12), 'YYYY_MM') < horizon_day;
    DELETE FROM violations_default WHERE ts < horizon;
    GET DIAGNOSTICS stray = ROW_COUNT;
    IF months = '{}' AND stray = 0 THEN
        RETURN false;
    END IF;
    DELETE FROM metrics_hourly WHERE hour < horizon;
    DELETE FROM violation_reviews WHERE ts < horizon;
    -- Whoever commits waits behind this lock. Where it is not had soon, let nobody wait and try another time.
    PERFORM set_config('lock_timeout', '500ms', true);
    FOREACH month IN ARRAY months LOOP
        EXECUTE format('DROP TABLE %s', month);
    END LOOP;
    RETURN true;
END $$;
