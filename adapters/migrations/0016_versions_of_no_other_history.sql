-- A database that is restored to an earlier time counts on from there. What a page remembers of the time that is lost
-- must meet no version that was made since: it would replace what its reader never saw.

-- A version is milliseconds since 2026, with eleven bits of chance below them, and above the last one. So it stays one of
-- the whole numbers that JSON has for everybody (2⁵³) until 2165.
CREATE FUNCTION next_version(last bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT greatest(
        last + 1,
        ((extract(epoch FROM clock_timestamp()) - 1767225600) * 1000)::bigint * 2048 + floor(random() * 2048)::bigint
    )
$$;

-- The previous release goes on: it adds 1 to what is there, and what it shows is a whole number as before.
ALTER TABLE guild_config ALTER COLUMN version TYPE bigint, ALTER COLUMN version SET DEFAULT next_version(0);
ALTER TABLE rules ALTER COLUMN version TYPE bigint, ALTER COLUMN version SET DEFAULT next_version(0);
ALTER TABLE violation_reviews ALTER COLUMN version TYPE bigint, ALTER COLUMN version SET DEFAULT next_version(0);
ALTER TABLE deleted_rules ALTER COLUMN last_version TYPE bigint;
