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

-- name: load_batches
SELECT position, lane, source, number, events, lost_events, since_ms, until_ms, length(payload)
FROM batches ORDER BY position;

-- name: load_alive
SELECT alive_ms FROM life;

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
