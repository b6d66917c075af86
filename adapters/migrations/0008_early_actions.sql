-- How an action ended can become durable before its violation: a guild that moves between hosts and back may be told
-- out of order. What was acknowledged must not be lost, or the violation would stay pending for ever; so it waits here.
-- The time comes first in the key: what nobody ever claims, because its violation was lost, goes by age.

CREATE TABLE early_actions (
    event_id   uuid NOT NULL,
    ts         timestamptz NOT NULL,
    status     text NOT NULL CHECK (status IN ('none', 'pending', 'done', 'failed')),
    settled_at timestamptz,
    PRIMARY KEY (ts, event_id)
);
