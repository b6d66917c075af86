-- Indexes by severity and by kind of which a list can be read: within a guild, in its order, without a row's own page.
-- Alone, these columns are too coarse for anybody to look by them. Months that are there get theirs one by one
-- (build_list_indexes, called by adapters/rollups.py); until then lists are read from violations_guild_ts, as before.

ALTER INDEX violations_severity RENAME TO violations_severity_alone;
ALTER INDEX violations_detection RENAME TO violations_detection_alone;
CREATE INDEX violations_severity ON ONLY violations (severity, guild_id, ts DESC, message_id DESC, event_id);
CREATE INDEX violations_detection ON ONLY violations (detection, guild_id, ts DESC, message_id DESC, event_id);

-- The key of the hours is an index by (guild_id, hour), which is read backwards as well as forwards. There were two.
DROP INDEX metrics_hourly_guild_hour;
ALTER TABLE metrics_hourly RENAME CONSTRAINT metrics_hourly_pkey TO metrics_hourly_guild_hour;

-- Makes an index of lists for one month that has none, which keeps writers of this month waiting meanwhile; in the end
-- drops those that were there before. Returns whether there is more to do.
CREATE FUNCTION build_list_indexes() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    missing record;
BEGIN
    SELECT list.oid::regclass AS index, part.inhrelid::regclass AS month,
           c.relname || substr(list.relname, length('violations') + 1) || '_list' AS name,
           pg_get_indexdef(list.oid) AS definition INTO missing
    FROM pg_class AS list CROSS JOIN pg_inherits AS part JOIN pg_class AS c ON c.oid = part.inhrelid
    WHERE list.oid IN ('violations_severity'::regclass, 'violations_detection'::regclass)
      AND part.inhparent = 'violations'::regclass
      AND NOT EXISTS (
          SELECT FROM pg_inherits AS i JOIN pg_index AS x ON x.indexrelid = i.inhrelid
          WHERE i.inhparent = list.oid AND x.indrelid = part.inhrelid
      )
    ORDER BY c.relname DESC, list.relname LIMIT 1;
    IF FOUND THEN
        EXECUTE format(
            'CREATE INDEX %I ON %s %s', missing.name, missing.month, substring(missing.definition FROM 'USING .*$')
        );
        EXECUTE format('ALTER INDEX %s ATTACH PARTITION %I', missing.index, missing.name);
        RETURN true;
    END IF;
    IF to_regclass('violations_severity_alone') IS NOT NULL THEN
        PERFORM set_config('lock_timeout', '500ms', true);
        DROP INDEX violations_severity_alone, violations_detection_alone;
    END IF;
    RETURN false;
END $$;
