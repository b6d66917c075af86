-- A version is never used again for something else, so that nobody's change can be made from what they never saw.

-- The highest version that a deleted rule of a guild had: a rule that is made anew begins above it.
CREATE TABLE deleted_rules (
    guild_id      bigint PRIMARY KEY,
    last_version  integer NOT NULL
);

-- Of several reviews of a violation the last one stands, if it was made from the one before it.
ALTER TABLE violation_reviews ADD COLUMN version integer NOT NULL DEFAULT 1;
