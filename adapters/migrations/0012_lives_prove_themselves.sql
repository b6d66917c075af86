-- A database that is restored to an earlier time has no trace of what its clients remember of the time after.

-- What a host's life wrote last, at random, and when: if it is not there any more, history was taken back.
ALTER TABLE hosts ADD COLUMN token bigint NOT NULL DEFAULT 0,
                  ADD COLUMN token_at timestamptz NOT NULL DEFAULT now();
