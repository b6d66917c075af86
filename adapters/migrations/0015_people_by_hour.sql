-- How many people of a guild had their last violation in an hour, and for how many `escalated_from` lies in it, so that
-- a period's people are a sum of its hours and nobody is read who is not shown. Of those who are `late`, who are asked
-- for by their rows, it counts none. Triggers of the table keep it, whoever writes there.

CREATE TABLE violation_people_hours (
    guild_id  bigint NOT NULL,
    hour      timestamptz NOT NULL,
    -- What updates, inserts and deletes did is counted apart, and the sum is what is so: a transaction locks the rows of
    -- one kind after those of another, each in the order of their keys, so nobody waits for somebody who waits for them.
    change    smallint NOT NULL,
    people    integer NOT NULL,
    escalated integer NOT NULL,
    PRIMARY KEY (guild_id, hour, change)
) WITH (fillfactor = 70);

CREATE FUNCTION count_people_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO violation_people_hours AS h (guild_id, hour, change, people, escalated)
    SELECT guild_id, hour, 0, sum(people), sum(escalated)
    FROM (
        SELECT guild_id, date_bin('1 hour', last_ts, 'epoch') AS hour, 1 AS people, 0 AS escalated
        FROM came WHERE NOT late
        UNION ALL
        SELECT guild_id, date_bin('1 hour', last_ts, 'epoch'), -1, 0 FROM was WHERE NOT late
        UNION ALL
        SELECT guild_id, date_bin('1 hour', escalated_from, 'epoch'), 0, 1
        FROM came WHERE NOT late AND escalated_from IS NOT NULL
        UNION ALL
        SELECT guild_id, date_bin('1 hour', escalated_from, 'epoch'), 0, -1
        FROM was WHERE NOT late AND escalated_from IS NOT NULL
    ) AS changed
    GROUP BY guild_id, hour HAVING sum(people) <> 0 OR sum(escalated) <> 0
    ORDER BY guild_id, hour
    ON CONFLICT (guild_id, hour, change) DO UPDATE
    SET people = h.people + excluded.people, escalated = h.escalated + excluded.escalated;
    RETURN NULL;
END $$;

CREATE FUNCTION count_people_in_or_out() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sign integer := CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END;
BEGIN
    INSERT INTO violation_people_hours AS h (guild_id, hour, change, people, escalated)
    SELECT guild_id, hour, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE 2 END, sign * sum(people), sign * sum(escalated)
    FROM (
        SELECT guild_id, date_bin('1 hour', last_ts, 'epoch') AS hour, 1 AS people, 0 AS escalated
        FROM people WHERE NOT late
        UNION ALL
        SELECT guild_id, date_bin('1 hour', escalated_from, 'epoch'), 0, 1
        FROM people WHERE NOT late AND escalated_from IS NOT NULL
    ) AS p
    GROUP BY guild_id, hour
    ORDER BY guild_id, hour
    ON CONFLICT (guild_id, hour, change) DO UPDATE
    SET people = h.people + excluded.people, escalated = h.escalated + excluded.escalated;
    RETURN NULL;
END $$;

CREATE TRIGGER violation_people_changed AFTER UPDATE ON violation_people REFERENCING OLD TABLE AS was NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION count_people_changed();
CREATE TRIGGER violation_people_in AFTER INSERT ON violation_people REFERENCING NEW TABLE AS people
    FOR EACH STATEMENT EXECUTE FUNCTION count_people_in_or_out();
CREATE TRIGGER violation_people_out AFTER DELETE ON violation_people REFERENCING OLD TABLE AS people
    FOR EACH STATEMENT EXECUTE FUNCTION count_people_in_or_out();

-- Those who are there. The triggers have locked them until this is done.
INSERT INTO violation_people_hours (guild_id, hour, change, people, escalated)
SELECT guild_id, hour, 1, sum(people), sum(escalated)
FROM violation_people AS p CROSS JOIN LATERAL (
    VALUES (date_bin('1 hour', last_ts, 'epoch'), 1, 0), (date_bin('1 hour', escalated_from, 'epoch'), 0, 1)
) AS v (hour, people, escalated)
WHERE hour IS NOT NULL AND NOT late
GROUP BY guild_id, hour;

-- Removes the hours of a guild before the time from which on violations are kept in which there is nobody any more.
-- Locked first, counted then: of what others have changed meanwhile nothing is lost.
CREATE FUNCTION delete_empty_people_hours(guild bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    locked tid[];
BEGIN
    SELECT array_agg(row_id) INTO locked FROM (
        SELECT ctid AS row_id FROM violation_people_hours WHERE guild_id = guild AND hour < kept_since()
        FOR UPDATE SKIP LOCKED
    ) AS old;
    DELETE FROM violation_people_hours AS h
    USING (
        SELECT hour FROM violation_people_hours WHERE ctid = ANY (locked)
        GROUP BY hour HAVING sum(people) = 0 AND sum(escalated) = 0
    ) AS empty
    WHERE h.ctid = ANY (locked) AND h.hour = empty.hour;
END $$;
