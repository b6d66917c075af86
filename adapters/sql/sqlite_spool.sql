-- A runner's spool, in SQLite. One statement a name; adapters/queries.py reads this file.

-- name: create_batches
CREATE TABLE IF NOT EXISTS batches (
    position INTEGER PRIMARY KEY,
    lane TEXT NOT NULL,
    source TEXT NOT NULL,
    number INTEGER NOT NULL,
    events INTEGER NOT NULL,
    lost_events INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL,
    payload BLOB NOT NULL
);

-- name: create_life
-- One row: until when the runner heard everything, as it last said.
CREATE TABLE IF NOT EXISTS life (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    alive_ms INTEGER NOT NULL
);

-- name: create_saved
-- One row: what a later life needs to take up the sessions of this one. Written with the batches it goes with.
CREATE TABLE IF NOT EXISTS saved (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    payload BLOB NOT NULL
);

-- name: create_guilds
-- What the bot knows of its guilds: a session that is taken up again does not describe them anew.
CREATE TABLE IF NOT EXISTS guilds (
    guild_id INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
);

-- name: create_seen
-- Texts of the last minute: a later life finds what is repeated across the two. Message ids grow with time.
CREATE TABLE IF NOT EXISTS seen (
    message_id INTEGER PRIMARY KEY,
    guild_id INTEGER NOT NULL,
    author_id INTEGER NOT NULL,
    mark BLOB NOT NULL,
    ts_ms INTEGER NOT NULL
);

-- name: create_identity
-- One row: an id that tells this spool from one on another machine.
CREATE TABLE IF NOT EXISTS identity (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    spool_id TEXT NOT NULL
);

-- name: put_id
INSERT OR IGNORE INTO identity (id, spool_id) VALUES (1, ?);

-- name: load_id
SELECT spool_id FROM identity;

-- name: load_batches
SELECT position, lane, source, number, events, lost_events, since_ms, until_ms, length(payload)
FROM batches ORDER BY position;

-- name: load_alive
SELECT alive_ms FROM life;

-- name: load_saved
SELECT payload FROM saved;

-- name: load_guilds
SELECT guild_id, payload FROM guilds;

-- name: load_seen
SELECT message_id, guild_id, author_id, mark, ts_ms FROM seen;

-- name: put_seen
INSERT OR REPLACE INTO seen (message_id, guild_id, author_id, mark, ts_ms) VALUES (?, ?, ?, ?, ?);

-- name: forget_seen
-- From the oldest on, as long as they are too old: what one write adds, the next can take away.
DELETE FROM seen WHERE message_id IN (SELECT message_id FROM seen ORDER BY message_id LIMIT ?) AND ts_ms < ?;

-- name: put_saved
INSERT OR REPLACE INTO saved (id, payload) VALUES (1, ?);

-- name: put_guild
INSERT OR REPLACE INTO guilds (guild_id, payload) VALUES (?, ?);

-- name: remove_guild
DELETE FROM guilds WHERE guild_id = ?;

-- name: put_batch
INSERT OR REPLACE INTO batches
    (position, lane, source, number, events, lost_events, since_ms, until_ms, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: remove_batch
DELETE FROM batches WHERE position = ?;

-- name: put_alive
INSERT OR REPLACE INTO life (id, alive_ms) VALUES (1, ?);

-- name: read_payload
SELECT payload FROM batches WHERE position = ?;
