-- Who does what here: Discord's roles that stand for roles of the dashboard, and which request it was.

CREATE TABLE role_mappings (
    guild_id        bigint NOT NULL,
    discord_role_id bigint NOT NULL,
    role            text NOT NULL CHECK (role IN ('owner', 'admin', 'moderator', 'viewer')),
    mapped_by       bigint,
    mapped_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (guild_id, discord_role_id)
);

ALTER TABLE audit_log ADD COLUMN request_id text;

-- Pages are in this order; without the id, rows of one transaction would have none among themselves.
CREATE INDEX audit_log_guild_newest ON audit_log (guild_id, at DESC, audit_id DESC);
DROP INDEX audit_log_guild_at;
