-- Hosts that come and go, guilds with a host of their own, and events that were set aside.

ALTER TABLE hosts ADD COLUMN actor_name text, ADD COLUMN retired_at timestamptz;

ALTER TABLE placement ADD COLUMN dedicated jsonb NOT NULL DEFAULT '{}';

ALTER TABLE coverage_gaps ADD COLUMN reason text NOT NULL DEFAULT 'overflow';

-- One bad event in a batch: kept with its reason, so that an operator can look at it and try it again.
CREATE TABLE poison_events (
    poison_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text NOT NULL,
    number     bigint NOT NULL,
    guild_id   bigint,
    reason     text NOT NULL,
    payload    bytea NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz
);
CREATE INDEX poison_events_open ON poison_events (at) WHERE settled_at IS NULL;
