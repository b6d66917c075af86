-- The whole of the first schema. Discord ids are bigint, times are timestamptz.
-- A migration is never edited once it has landed: what changes, changes in the next one.

CREATE TABLE guilds (
    guild_id     bigint PRIMARY KEY,
    name         text,
    owner_id     bigint,
    icon_url     text,
    member_count integer,
    bot_present  boolean NOT NULL DEFAULT false,
    bot_online   boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE guild_config (
    guild_id   bigint PRIMARY KEY,
    version    integer NOT NULL DEFAULT 1,
    config     jsonb NOT NULL DEFAULT '{}',
    updated_by bigint,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rules (
    guild_id   bigint NOT NULL,
    rule       text NOT NULL,
    version    integer NOT NULL DEFAULT 1,
    body       jsonb NOT NULL,
    enabled    boolean NOT NULL DEFAULT true,
    updated_by bigint,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guild_id, rule)
);

-- One row per message and rule. The id is derived from the Discord event and the time is Discord's,
-- so a resend meets its own row: in the same partition, under the same key.
CREATE TABLE violations (
    event_id      uuid NOT NULL,
    ts            timestamptz NOT NULL,
    guild_id      bigint NOT NULL,
    channel_id    bigint NOT NULL,
    channel_name  text,
    message_id    bigint NOT NULL,
    user_id       bigint NOT NULL,
    detection     text NOT NULL,
    rule          text NOT NULL,
    severity      text NOT NULL CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    action        text NOT NULL,
    action_status text NOT NULL CHECK (action_status IN ('none', 'pending', 'done', 'failed')),
    excerpt       text NOT NULL,
    content_hash  bytea NOT NULL,
    committed_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, ts)
) PARTITION BY RANGE (ts);
CREATE INDEX violations_guild_ts ON violations (guild_id, ts DESC);
CREATE INDEX violations_user_guild ON violations (user_id, guild_id);
CREATE INDEX violations_severity ON violations (severity);
CREATE INDEX violations_detection ON violations (detection);

-- Whatever no month was made for: nothing is refused because a clock or a timer was wrong.
CREATE TABLE violations_default PARTITION OF violations DEFAULT;

CREATE FUNCTION ensure_violation_month(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- Bounds with their zone written out: months are UTC months whatever the session's time zone is.
    lower_bound date := date_trunc('month', day);
    upper_bound date := lower_bound + interval '1 month';
    partition   text := 'violations_' || to_char(lower_bound, 'YYYY_MM');
BEGIN
    IF to_regclass(partition) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF violations FOR VALUES FROM (%L) TO (%L)',
            partition, lower_bound || ' 00:00:00+00', upper_bound || ' 00:00:00+00'
        );
    END IF;
END $$;

CREATE TABLE user_warnings (
    guild_id   bigint NOT NULL,
    user_id    bigint NOT NULL,
    count      integer NOT NULL DEFAULT 0,
    last_at    timestamptz NOT NULL DEFAULT now(),
    cleared_by bigint,
    cleared_at timestamptz,
    PRIMARY KEY (guild_id, user_id)
);
CREATE INDEX user_warnings_guild ON user_warnings (guild_id);

CREATE TABLE metrics_hourly (
    guild_id bigint NOT NULL,
    hour     timestamptz NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    low      integer NOT NULL DEFAULT 0,
    medium   integer NOT NULL DEFAULT 0,
    high     integer NOT NULL DEFAULT 0,
    critical integer NOT NULL DEFAULT 0,
    joins    integer NOT NULL DEFAULT 0,
    leaves   integer NOT NULL DEFAULT 0,
    PRIMARY KEY (guild_id, hour)
) WITH (fillfactor = 70); -- room on the page for the running hour's many updates
CREATE INDEX metrics_hourly_guild_hour ON metrics_hourly (guild_id, hour DESC);

CREATE TABLE user_cache (
    user_id      bigint PRIMARY KEY,
    username     text NOT NULL,
    display_name text NOT NULL,
    avatar_url   text,
    deleted      boolean NOT NULL DEFAULT false,
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_cache_updated ON user_cache (updated_at);

CREATE TABLE role_assignments (
    guild_id    bigint NOT NULL,
    user_id     bigint NOT NULL,
    role        text NOT NULL CHECK (role IN ('owner', 'admin', 'moderator', 'viewer')),
    assigned_by bigint,
    assigned_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (guild_id, user_id)
);
CREATE INDEX role_assignments_guild ON role_assignments (guild_id);
CREATE INDEX role_assignments_user ON role_assignments (user_id);

CREATE TABLE notification_preferences (
    guild_id    bigint NOT NULL,
    user_id     bigint NOT NULL,
    preferences jsonb NOT NULL DEFAULT '{}',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guild_id, user_id)
);

CREATE TABLE notifications (
    notification_id uuid PRIMARY KEY,
    guild_id        bigint NOT NULL,
    user_id         bigint NOT NULL,
    kind            text NOT NULL,
    body            jsonb NOT NULL DEFAULT '{}',
    read            boolean NOT NULL DEFAULT false,
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notifications_reader ON notifications (guild_id, user_id, read);

CREATE TABLE export_history (
    export_id    uuid PRIMARY KEY,
    guild_id     bigint NOT NULL,
    requested_by bigint NOT NULL,
    format       text NOT NULL,
    status       text NOT NULL,
    rows         bigint,
    path         text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE INDEX export_history_guild ON export_history (guild_id, created_at DESC);

CREATE TABLE audit_log (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    guild_id bigint,
    actor_id bigint,
    action   text NOT NULL,
    target   text,
    details  jsonb NOT NULL DEFAULT '{}',
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_guild_at ON audit_log (guild_id, at DESC);

-- A host's life has an incarnation, higher in every life. A commit locks and checks this row: whoever
-- holds an older number can write nothing any more.
CREATE SEQUENCE incarnations;
CREATE TABLE hosts (
    host_id     text PRIMARY KEY,
    incarnation bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE placement (
    version    bigint PRIMARY KEY,
    owners     text[] NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

-- The highest batch number taken per source: what makes a resent batch of counts change nothing.
CREATE TABLE ingest_sources (
    source     text PRIMARY KEY,
    number     bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE coverage_gaps (
    gap_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source      text NOT NULL,
    guild_id    bigint,
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    lost_events bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
