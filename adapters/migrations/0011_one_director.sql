-- The Director's life, as hosts have theirs: a placement, a host's beginning and its end are written only for
-- the newest one. Whoever was taken for dead and goes on can change nothing any more.
CREATE TABLE directors (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    incarnation bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE placement ADD COLUMN director bigint NOT NULL DEFAULT 0;
