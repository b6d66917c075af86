-- The newest life of each shard runner: what earlier ones send is not taken. And where it keeps what no host has taken
-- yet, so that its next life begins there, or what was lost is known.
CREATE TABLE runners (
    runner_id     text PRIMARY KEY,
    incarnation   bigint NOT NULL,
    spool_id      text NOT NULL,
    node_id       text NOT NULL,
    address       text NOT NULL,
    covered_until timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz NOT NULL DEFAULT now()
);
