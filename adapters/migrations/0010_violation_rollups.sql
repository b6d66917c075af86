-- Counts that answers are made of, kept by the database itself in whatever transaction changes the rows: by hour and
-- rule, and by person. A release that knows nothing of them keeps them as well.
--
-- Of a row, `counted` says whether it is in these counts. What was here before is not, and is counted a little at a
-- time by whoever keeps house (adapters/rollups.py); until a month is done, answers about it come from its rows.

ALTER TABLE violations ADD COLUMN counted boolean NOT NULL DEFAULT false; -- of those that are here: no row is written
ALTER TABLE violations ALTER COLUMN counted SET DEFAULT true;             -- of those that come

CREATE TABLE violation_rule_hours (
    guild_id  bigint NOT NULL,
    hour      timestamptz NOT NULL,
    rule      text NOT NULL,
    detection text NOT NULL,
    low       integer NOT NULL,
    medium    integer NOT NULL,
    high      integer NOT NULL,
    critical  integer NOT NULL,
    -- How their actions stand; those that called for none are the rest.
    pending   integer NOT NULL,
    done      integer NOT NULL,
    failed    integer NOT NULL,
    -- In the hour's second, third and fourth quarter; those in the first are the rest.
    quarter_2 integer NOT NULL,
    quarter_3 integer NOT NULL,
    quarter_4 integer NOT NULL,
    PRIMARY KEY (guild_id, hour, rule, detection)
) PARTITION BY RANGE (hour);
CREATE TABLE violation_rule_hours_default PARTITION OF violation_rule_hours DEFAULT WITH (fillfactor = 80);

-- What is known of a person in a guild by their latest violations, so that no number changes when old ones go. Who went
-- from bad to worse since some time is told by `escalated_from`: the latest low or medium violation that another one
-- followed which was high or critical. Of whom violations came in no order, or were deleted, `late` says that their
-- rows must be asked, for all of this.
CREATE TABLE violation_people (
    -- First what is read of everybody in a guild.
    guild_id        bigint NOT NULL,
    user_id         bigint NOT NULL,
    last_ts         timestamptz NOT NULL,
    escalated_from  timestamptz,
    late            boolean NOT NULL,
    -- How many there are in the month and in the week of the last violation, and in the one before that.
    in_month        integer NOT NULL,
    in_month_before integer NOT NULL,
    in_week         integer NOT NULL,
    in_week_before  integer NOT NULL,
    month           integer NOT NULL,
    week            integer NOT NULL,
    first_ts        timestamptz NOT NULL,
    last_mild       timestamptz,
    last_grave      timestamptz,
    -- Few have so many. It hardly ever changes, so that an index of it costs nothing when numbers do.
    heavy           boolean NOT NULL GENERATED ALWAYS AS (in_month + in_month_before >= 32) STORED,
    PRIMARY KEY (guild_id, user_id)
) WITH (fillfactor = 80);
CREATE INDEX violation_people_late ON violation_people (guild_id) WHERE late;
CREATE INDEX violation_people_heavy ON violation_people (guild_id) WHERE heavy;

-- Called for each person of each commit: numbers of Postgres that count decimal digits take thirty times as long.
CREATE FUNCTION month_number(ts timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT (12 * date_part('year', ts AT TIME ZONE 'UTC') + date_part('month', ts AT TIME ZONE 'UTC'))::integer
$$;
CREATE FUNCTION week_number(ts timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
    SELECT ((ts AT TIME ZONE 'UTC')::date - date '1970-01-01') / 7
$$;

CREATE FUNCTION count_violations_in() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- In the order of their keys, as everybody who writes them: nobody waits for somebody who waits for them.
    INSERT INTO violation_rule_hours AS h (guild_id, hour, rule, detection, low, medium, high, critical,
                                           pending, done, failed, quarter_2, quarter_3, quarter_4)
    SELECT guild_id, hour, rule, detection,
           count(*) FILTER (WHERE severity = 'low'), count(*) FILTER (WHERE severity = 'medium'),
           count(*) FILTER (WHERE severity = 'high'), count(*) FILTER (WHERE severity = 'critical'),
           count(*) FILTER (WHERE action_status = 'pending'), count(*) FILTER (WHERE action_status = 'done'),
           count(*) FILTER (WHERE action_status = 'failed'),
           count(*) FILTER (WHERE quarter = 2), count(*) FILTER (WHERE quarter = 3), count(*) FILTER (WHERE quarter = 4)
    FROM (
        SELECT guild_id, rule, detection, severity, action_status, hour,
               CASE WHEN ts < hour + interval '15 min' THEN 1 WHEN ts < hour + interval '30 min' THEN 2
                    WHEN ts < hour + interval '45 min' THEN 3 ELSE 4 END AS quarter
        FROM (SELECT *, date_bin('1 hour', ts, 'epoch') AS hour FROM came WHERE counted) AS c
    ) AS placed
    GROUP BY guild_id, hour, rule, detection
    ORDER BY guild_id, hour, rule, detection
    ON CONFLICT (guild_id, hour, rule, detection) DO UPDATE
    SET low = h.low + excluded.low, medium = h.medium + excluded.medium,
        high = h.high + excluded.high, critical = h.critical + excluded.critical,
        pending = h.pending + excluded.pending, done = h.done + excluded.done, failed = h.failed + excluded.failed,
        quarter_2 = h.quarter_2 + excluded.quarter_2, quarter_3 = h.quarter_3 + excluded.quarter_3,
        quarter_4 = h.quarter_4 + excluded.quarter_4;

    INSERT INTO violation_people AS p (guild_id, user_id, month, in_month, in_month_before, week, in_week, in_week_before,
                                       late, first_ts, last_ts, last_mild, last_grave, escalated_from)
    SELECT guild_id, user_id, month, n, 0, week, n, 0,
           -- What is of several weeks, or of mild ones the last before the last grave one, is left to the rows.
           first_week < week OR first_month < month
           OR coalesce(first_mild < last_grave AND last_mild >= last_grave, false),
           first_ts, last_ts, last_mild, last_grave, CASE WHEN last_mild < last_grave THEN last_mild END
    FROM (
        SELECT *, month_number(first_ts) AS first_month, month_number(last_ts) AS month,
               week_number(first_ts) AS first_week, week_number(last_ts) AS week
        FROM (
            SELECT guild_id, user_id, count(*) AS n, min(ts) AS first_ts, max(ts) AS last_ts,
                   min(ts) FILTER (WHERE severity IN ('low', 'medium')) AS first_mild,
                   max(ts) FILTER (WHERE severity IN ('low', 'medium')) AS last_mild,
                   max(ts) FILTER (WHERE severity IN ('high', 'critical')) AS last_grave
            FROM came WHERE counted GROUP BY guild_id, user_id
        ) AS c
    ) AS people
    ORDER BY guild_id, user_id
    ON CONFLICT (guild_id, user_id) DO UPDATE
    SET month = greatest(p.month, excluded.month),
        in_month = CASE WHEN excluded.month > p.month THEN excluded.in_month
                        WHEN excluded.month = p.month THEN p.in_month + excluded.in_month ELSE p.in_month END,
        in_month_before = CASE WHEN excluded.month > p.month + 1 THEN excluded.in_month_before
                               WHEN excluded.month = p.month + 1 THEN excluded.in_month_before + p.in_month
                               WHEN excluded.month = p.month THEN p.in_month_before + excluded.in_month_before
                               ELSE p.in_month_before + excluded.in_month END,
        week = greatest(p.week, excluded.week),
        in_week = CASE WHEN excluded.week > p.week THEN excluded.in_week
                       WHEN excluded.week = p.week THEN p.in_week + excluded.in_week ELSE p.in_week END,
        in_week_before = CASE WHEN excluded.week > p.week + 1 THEN excluded.in_week_before
                              WHEN excluded.week = p.week + 1 THEN excluded.in_week_before + p.in_week
                              WHEN excluded.week = p.week THEN p.in_week_before + excluded.in_week_before
                              ELSE p.in_week_before + excluded.in_week END,
        -- What comes is younger than what there was, or it is late.
        late = p.late OR excluded.late OR excluded.first_ts <= p.last_ts,
        first_ts = least(p.first_ts, excluded.first_ts), last_ts = greatest(p.last_ts, excluded.last_ts),
        last_mild = greatest(p.last_mild, excluded.last_mild),
        last_grave = greatest(p.last_grave, excluded.last_grave),
        escalated_from = CASE WHEN excluded.last_grave IS NULL THEN p.escalated_from
                              ELSE coalesce(excluded.escalated_from, p.last_mild) END;
    RETURN NULL;
END $$;

-- What the end of an action changes is a number of its hour.
CREATE FUNCTION count_violations_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO violation_rule_hours AS h (guild_id, hour, rule, detection, low, medium, high, critical,
                                           pending, done, failed, quarter_2, quarter_3, quarter_4)
    SELECT guild_id, date_bin('1 hour', ts, 'epoch') AS hour, rule, detection, 0, 0, 0, 0,
           coalesce(sum(n) FILTER (WHERE action_status = 'pending'), 0),
           coalesce(sum(n) FILTER (WHERE action_status = 'done'), 0),
           coalesce(sum(n) FILTER (WHERE action_status = 'failed'), 0), 0, 0, 0
    FROM (
        SELECT 1 AS n, guild_id, ts, rule, detection, action_status FROM came WHERE counted
        UNION ALL
        SELECT -1, guild_id, ts, rule, detection, action_status FROM was WHERE counted
    ) AS changed
    GROUP BY guild_id, hour, rule, detection
    ORDER BY guild_id, hour, rule, detection
    ON CONFLICT (guild_id, hour, rule, detection) DO UPDATE
    SET pending = h.pending + excluded.pending, done = h.done + excluded.done, failed = h.failed + excluded.failed;
    RETURN NULL;
END $$;

CREATE FUNCTION count_violations_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO violation_rule_hours AS h (guild_id, hour, rule, detection, low, medium, high, critical,
                                           pending, done, failed, quarter_2, quarter_3, quarter_4)
    SELECT guild_id, hour, rule, detection,
           -count(*) FILTER (WHERE severity = 'low'), -count(*) FILTER (WHERE severity = 'medium'),
           -count(*) FILTER (WHERE severity = 'high'), -count(*) FILTER (WHERE severity = 'critical'),
           -count(*) FILTER (WHERE action_status = 'pending'), -count(*) FILTER (WHERE action_status = 'done'),
           -count(*) FILTER (WHERE action_status = 'failed'), -count(*) FILTER (WHERE quarter = 2),
           -count(*) FILTER (WHERE quarter = 3), -count(*) FILTER (WHERE quarter = 4)
    FROM (
        SELECT *, CASE WHEN ts < hour + interval '15 min' THEN 1 WHEN ts < hour + interval '30 min' THEN 2
                       WHEN ts < hour + interval '45 min' THEN 3 ELSE 4 END AS quarter
        FROM (SELECT *, date_bin('1 hour', ts, 'epoch') AS hour FROM went WHERE counted) AS w
    ) AS placed
    GROUP BY guild_id, hour, rule, detection
    ORDER BY guild_id, hour, rule, detection
    ON CONFLICT (guild_id, hour, rule, detection) DO UPDATE
    SET low = h.low + excluded.low, medium = h.medium + excluded.medium,
        high = h.high + excluded.high, critical = h.critical + excluded.critical,
        pending = h.pending + excluded.pending, done = h.done + excluded.done, failed = h.failed + excluded.failed,
        quarter_2 = h.quarter_2 + excluded.quarter_2, quarter_3 = h.quarter_3 + excluded.quarter_3,
        quarter_4 = h.quarter_4 + excluded.quarter_4;
    DELETE FROM violation_rule_hours AS h
    USING (SELECT DISTINCT guild_id, date_bin('1 hour', ts, 'epoch') AS hour, rule, detection FROM went) AS w
    WHERE (h.guild_id, h.hour, h.rule, h.detection) = (w.guild_id, w.hour, w.rule, w.detection)
      AND h.low = 0 AND h.medium = 0 AND h.high = 0 AND h.critical = 0;

    -- What is left of these people is asked of their rows.
    INSERT INTO violation_people AS p (guild_id, user_id, month, in_month, in_month_before, week, in_week, in_week_before,
                                       late, first_ts, last_ts)
    SELECT guild_id, user_id, month_number(max(ts)), 0, 0, week_number(max(ts)), 0, 0, true, min(ts), max(ts)
    FROM went WHERE counted GROUP BY guild_id, user_id ORDER BY guild_id, user_id
    ON CONFLICT (guild_id, user_id) DO UPDATE SET late = true;
    RETURN NULL;
END $$;

CREATE TRIGGER violations_in AFTER INSERT ON violations REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION count_violations_in();
CREATE TRIGGER violations_changed AFTER UPDATE ON violations REFERENCING OLD TABLE AS was NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION count_violations_changed();
CREATE TRIGGER violations_out AFTER DELETE ON violations REFERENCING OLD TABLE AS went
    FOR EACH STATEMENT EXECUTE FUNCTION count_violations_out();

-- Asks the rows of people whose violations came late, or went: of about so many. Returns whether there are more.
CREATE FUNCTION recount_late_people(most integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    guild  bigint := -1;
    people bigint[];
    asked  integer := 0;
BEGIN
    WHILE asked < most LOOP
        SELECT min(guild_id) INTO guild FROM violation_people WHERE late AND guild_id > guild;
        IF guild IS NULL THEN
            RETURN false;
        END IF;
        -- Locked first, counted then: what others have changed meanwhile is seen.
        SELECT array_agg(user_id) INTO people FROM (
            SELECT user_id FROM violation_people WHERE guild_id = guild AND late
            ORDER BY user_id LIMIT most FOR UPDATE SKIP LOCKED
        ) AS locked;
        asked := asked + coalesce(cardinality(people), 0);
        WITH v AS MATERIALIZED (
            SELECT user_id, ts, severity IN ('low', 'medium') AS mild
            FROM violations WHERE guild_id = guild AND user_id = ANY (people) AND counted
        ), known AS (
            SELECT user_id, min(ts) AS first_ts, max(ts) AS last_ts, month_number(max(ts)) AS month,
                   week_number(max(ts)) AS week, max(ts) FILTER (WHERE mild) AS last_mild, max(ts) FILTER (WHERE NOT mild) AS last_grave
            FROM v GROUP BY user_id
        ), more AS (
            SELECT user_id, max(ts) FILTER (WHERE mild AND ts < last_grave) AS escalated_from,
                   count(*) FILTER (WHERE month_number(ts) = month) AS in_month,
                   count(*) FILTER (WHERE month_number(ts) = month - 1) AS in_month_before,
                   count(*) FILTER (WHERE week_number(ts) = week) AS in_week,
                   count(*) FILTER (WHERE week_number(ts) = week - 1) AS in_week_before
            FROM v JOIN known USING (user_id) GROUP BY user_id
        )
        UPDATE violation_people AS p
        SET month = k.month, in_month = m.in_month, in_month_before = m.in_month_before,
            week = k.week, in_week = m.in_week, in_week_before = m.in_week_before, late = false,
            first_ts = k.first_ts, last_ts = k.last_ts, last_mild = k.last_mild, last_grave = k.last_grave,
            escalated_from = m.escalated_from
        FROM known AS k JOIN more AS m USING (user_id)
        WHERE p.guild_id = guild AND p.user_id = k.user_id;
        DELETE FROM violation_people WHERE guild_id = guild AND user_id = ANY (people) AND late;
    END LOOP;
    RETURN true;
END $$;

-- Months with rows that are not counted, and how far each has come.
CREATE TABLE violations_uncounted (
    partition  text PRIMARY KEY,
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    next_block bigint NOT NULL DEFAULT 0
);

-- Counts rows in the next blocks of the youngest month that is not done. Returns whether there is more to do.
CREATE FUNCTION count_earlier_violations(blocks integer) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    month violations_uncounted;
BEGIN
    SELECT * INTO month FROM violations_uncounted ORDER BY until DESC, partition LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF to_regclass(month.partition) IS NULL
       OR month.next_block * current_setting('block_size')::bigint >= pg_relation_size(month.partition) THEN
        DELETE FROM violations_uncounted WHERE partition = month.partition;
        RETURN true;
    END IF;
    EXECUTE format($sql$
        WITH came AS (
            UPDATE %I SET counted = true
            WHERE ctid >= %L::tid AND ctid < %L::tid AND NOT counted
            RETURNING guild_id, user_id, ts, severity, rule, detection, action_status
        ), hours AS (
            INSERT INTO violation_rule_hours AS h (guild_id, hour, rule, detection, low, medium, high, critical,
                                                   pending, done, failed, quarter_2, quarter_3, quarter_4)
            SELECT guild_id, hour, rule, detection,
                   count(*) FILTER (WHERE severity = 'low'), count(*) FILTER (WHERE severity = 'medium'),
                   count(*) FILTER (WHERE severity = 'high'), count(*) FILTER (WHERE severity = 'critical'),
                   count(*) FILTER (WHERE action_status = 'pending'), count(*) FILTER (WHERE action_status = 'done'),
                   count(*) FILTER (WHERE action_status = 'failed'), count(*) FILTER (WHERE quarter = 2),
                   count(*) FILTER (WHERE quarter = 3), count(*) FILTER (WHERE quarter = 4)
            FROM (
                SELECT *, CASE WHEN ts < hour + interval '15 min' THEN 1 WHEN ts < hour + interval '30 min' THEN 2
                               WHEN ts < hour + interval '45 min' THEN 3 ELSE 4 END AS quarter
                FROM (SELECT *, date_bin('1 hour', ts, 'epoch') AS hour FROM came) AS c
            ) AS placed
            GROUP BY guild_id, hour, rule, detection
            ORDER BY guild_id, hour, rule, detection
            ON CONFLICT (guild_id, hour, rule, detection) DO UPDATE
            SET low = h.low + excluded.low, medium = h.medium + excluded.medium,
                high = h.high + excluded.high, critical = h.critical + excluded.critical,
                pending = h.pending + excluded.pending, done = h.done + excluded.done,
                failed = h.failed + excluded.failed, quarter_2 = h.quarter_2 + excluded.quarter_2,
                quarter_3 = h.quarter_3 + excluded.quarter_3, quarter_4 = h.quarter_4 + excluded.quarter_4
        )
        INSERT INTO violation_people AS p (guild_id, user_id, month, in_month, in_month_before,
                                           week, in_week, in_week_before, late, first_ts, last_ts)
        SELECT guild_id, user_id, month_number(max(ts)), count(*), 0, week_number(max(ts)), count(*), 0, true,
               min(ts), max(ts)
        FROM came GROUP BY guild_id, user_id ORDER BY guild_id, user_id
        ON CONFLICT (guild_id, user_id) DO UPDATE
        SET month = greatest(p.month, excluded.month), week = greatest(p.week, excluded.week), late = true,
            first_ts = least(p.first_ts, excluded.first_ts), last_ts = greatest(p.last_ts, excluded.last_ts)
    $sql$, month.partition, format('(%s,0)', month.next_block), format('(%s,0)', month.next_block + blocks));
    UPDATE violations_uncounted SET next_block = next_block + blocks WHERE partition = month.partition;
    RETURN true;
END $$;

-- Makes a table's partition for a month, which takes over what lies in the default one.
CREATE FUNCTION ensure_month(parent text, key text, day date, storage text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- Bounds with their zone written out: months are UTC months whatever the session's time zone is.
    lower_bound date := date_trunc('month', day);
    upper_bound date := lower_bound + interval '1 month';
    since       text := lower_bound || ' 00:00:00+00';
    until       text := upper_bound || ' 00:00:00+00';
    partition   text := parent || '_' || to_char(lower_bound, 'YYYY_MM');
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Attaching takes this lock anyhow; taken now, no further row of the month can slip in.
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN; -- somebody else made it while we waited
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (%s)', partition, parent, storage);
    EXECUTE format(
        'WITH early AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM early',
        parent || '_default', key, since, key, until, partition
    );
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, partition, since, until);
    IF parent = 'violations' AND EXISTS (SELECT FROM violations_uncounted WHERE violations_uncounted.partition = 'violations_default') THEN
        INSERT INTO violations_uncounted VALUES (partition, since::timestamptz, until::timestamptz);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION ensure_violation_month(day date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- An index alone answers only for pages that a vacuum has seen: let it come after a twentieth of the rows is new
    -- or changed, not after a fifth. Counts change often: there is room for that on their pages.
    PERFORM ensure_month(
        'violations', 'ts', day, 'autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05'
    );
    PERFORM ensure_month('violation_rule_hours', 'hour', day, 'fillfactor = 80');
END $$;

DO $$
DECLARE
    found record;
    any_rows boolean;
BEGIN
    FOR found IN SELECT c.relname::text AS partition FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
                 WHERE i.inhparent = 'violations'::regclass LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', found.partition) INTO any_rows;
        IF found.partition ~ '^violations_\d{4,}_\d{2}$' THEN
            PERFORM ensure_violation_month(to_date(substr(found.partition, 12), 'YYYY_MM'));
            INSERT INTO violations_uncounted
            SELECT found.partition, (month || ' 00:00:00+00')::timestamptz,
                   ((month + interval '1 month')::date || ' 00:00:00+00')::timestamptz
            FROM to_date(substr(found.partition, 12), 'YYYY_MM') AS month
            WHERE any_rows;
        ELSE
            INSERT INTO violations_uncounted SELECT found.partition, '-infinity', 'infinity' WHERE any_rows;
        END IF;
    END LOOP;
END $$;

-- Before this time nothing is shown any more, and what is still there is on its way out. `next_guild` is how far the
-- hours and people of guilds have gone.
CREATE TABLE forgotten (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    horizon    timestamptz NOT NULL,
    next_guild bigint
);

-- Drops the months before the day's month, with what is counted of them; all of them or none. Returns whether there
-- were any. Whoever commits waits behind the locks: where they are not had soon, let nobody wait and try another time.
CREATE OR REPLACE FUNCTION drop_violation_months_before(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    horizon_day date := date_trunc('month', day);
    old_horizon timestamptz := (horizon_day || ' 00:00:00+00')::timestamptz;
    months      text[];
    month       text;
BEGIN
    SELECT coalesce(array_agg(c.relname::text ORDER BY c.relname), '{}') INTO months
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('violations'::regclass, 'violation_rule_hours'::regclass)
      AND c.relname ~ '_\d{4,}_\d{2}$'
      AND to_date(substring(c.relname FROM '\d{4,}_\d{2}$'), 'YYYY_MM') < horizon_day;
    IF months <> '{}' THEN
        PERFORM set_config('lock_timeout', '500ms', true);
        LOCK TABLE violations, violation_rule_hours IN ACCESS EXCLUSIVE MODE;
        FOREACH month IN ARRAY months LOOP
            EXECUTE format('DROP TABLE %I', month);
        END LOOP;
        DELETE FROM violations_uncounted WHERE partition = ANY (months);
    END IF;
    -- Who keeps more from now on begins with that when all that had to go has gone.
    INSERT INTO forgotten AS f (horizon, next_guild) VALUES (old_horizon, 0)
    ON CONFLICT (only_row) DO UPDATE
    SET horizon = excluded.horizon, next_guild = CASE WHEN f.horizon < excluded.horizon THEN 0 END
    WHERE f.horizon < excluded.horizon OR f.horizon > excluded.horizon AND f.next_guild IS NULL;
    RETURN months <> '{}';
END $$;

CREATE FUNCTION kept_since() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(horizon), '-infinity') FROM forgotten
$$;
