-- What happened everywhere in the last hours, for operators. Rows lie about in the order of their hours, so
-- an index of a few kilobytes finds them, and costs the hosts' commits next to nothing.
CREATE INDEX metrics_hourly_by_hour ON metrics_hourly USING brin (hour);
