-- A retry is a source of its own; whether its event was set aside again is asked by that source.

CREATE INDEX poison_events_open_source ON poison_events (source) WHERE settled_at IS NULL;
