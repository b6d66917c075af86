-- A month can be made after rows of it came, which then lie in the default partition: CREATE … PARTITION OF
-- refuses that, and one row with an odd time kept the Director from starting. The month now takes them over.

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
    EXECUTE format('CREATE TABLE %I (LIKE violations INCLUDING ALL)', partition);
    EXECUTE format(
        'WITH early AS (DELETE FROM violations_default WHERE ts >= %L AND ts < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM early', since, until, partition
    );
    EXECUTE format('ALTER TABLE violations ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, since, until);
END $$;
