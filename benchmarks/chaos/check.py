"""Holds the database against the histories: nothing acknowledged lost, nothing twice, counts equal rows."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from adapters.queries import load_queries


class Sent(NamedTuple):
    """A batch as it went."""

    messages: int
    ids: frozenset[str]


class History(NamedTuple):
    """What the shards wrote down, together."""

    sent: dict[tuple[str, int], Sent]
    accepted: dict[tuple[str, int], tuple[str, float]]
    """By batch: the host that took it, and when (Unix seconds)."""
    refused: set[tuple[str, int]]


def read(folder: Path) -> History:
    """Read all histories of a run. A last line that the kill cut off is none."""
    sent: dict[tuple[str, int], Sent] = {}
    accepted: dict[tuple[str, int], tuple[str, float]] = {}
    refused: set[tuple[str, int]] = set()
    for path in folder.glob("*.history"):
        for line in path.read_text(encoding="ascii").splitlines(keepends=True):
            if not line.endswith("\n"):
                continue
            kind, source, number, *rest = line.split()
            batch = (source, int(number))
            if kind == "S":
                ids = frozenset() if rest[1] == "-" else frozenset(rest[1].split(","))
                sent.setdefault(batch, Sent(int(rest[0]), ids))
            elif kind == "A":
                accepted.setdefault(batch, (rest[0], float(rest[1])))
            else:
                refused.add(batch)
    return History(sent, accepted, refused)


async def check(database_url: str, history: History) -> dict[str, Any]:
    """Return the figures of a run; all that name a fault must be zero."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT event_id, guild_id, writer FROM chaos_rows ORDER BY n")
        stored = {row["event_id"].hex for row in rows}
        taken = {
            row["source"]: row["number"]
            for row in await connection.fetch("SELECT source, number FROM ingest_sources")
        }
        counted = await connection.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly")
        in_rollup = await connection.fetchval(
            "SELECT coalesce(sum(low+medium+high+critical), 0) FROM metrics_hourly"
        )
        in_rows = await connection.fetchval("SELECT count(*) FROM violations")
        distinct = await connection.fetchval("SELECT count(DISTINCT event_id) FROM violations")
        wrong_hours = await connection.fetchval(
            "SELECT count(*) FROM (SELECT guild_id, date_trunc('hour', ts, 'UTC') AS hour, count(*) AS n "
            "FROM violations GROUP BY 1, 2) v FULL JOIN "
            "(SELECT guild_id, hour, low + medium + high + critical AS n FROM metrics_hourly) m "
            "USING (guild_id, hour) WHERE coalesce(v.n, 0) <> coalesce(m.n, 0)"
        )
        takeovers = await connection.fetchval(
            "SELECT count(*) FROM (SELECT director, max(director) OVER (ORDER BY version) AS newest "
            "FROM placement) p WHERE director < newest"
        )
        differences = await connection.fetch(load_queries("rollups.sql")["differences"])
    finally:
        await connection.close()
    acknowledged = {event_id for batch in history.accepted for event_id in history.sent[batch].ids}
    # What a kill left without an answer was taken if its number was, unless the host had said no.
    durable = {
        batch
        for batch in history.sent
        if batch in history.accepted or (batch[1] <= taken.get(batch[0], 0) and batch not in history.refused)
    }
    return {
        "batches_sent": len(history.sent),
        "events_acknowledged": sum(
            history.sent[batch].messages + len(history.sent[batch].ids) for batch in history.accepted
        ),
        "violations_stored": in_rows,
        "acknowledged_lost": len(acknowledged - stored),
        "stored_twice": in_rows - distinct,
        "messages_expected": sum(history.sent[batch].messages for batch in durable),
        "messages_counted": int(counted),
        "counts_wrong_by": int(counted) - sum(history.sent[batch].messages for batch in durable),
        "rollup_minus_rows": int(in_rollup) - in_rows,
        "hours_wrong": wrong_hours,
        "rollups_wrong": len(differences),
        "guilds_with_two_writers": _interleaved(rows),
        "placements_by_an_older_director": takeovers,
    }


def _interleaved(rows: list[Any]) -> int:
    """Count guilds into which a writer wrote again after another had begun: rows are in commit order."""
    last: dict[int, str] = {}
    gone: defaultdict[int, set[str]] = defaultdict(set)
    wrong: set[int] = set()
    for row in rows:
        guild_id, writer = row["guild_id"], row["writer"]
        if writer in gone[guild_id]:
            wrong.add(guild_id)
        if guild_id in last and last[guild_id] != writer:
            gone[guild_id].add(last[guild_id])
        last[guild_id] = writer
    return len(wrong)


RECORD_WRITERS = """
CREATE TABLE IF NOT EXISTS chaos_rows (
    n bigint GENERATED ALWAYS AS IDENTITY, event_id uuid, guild_id bigint, writer text
);
CREATE OR REPLACE FUNCTION chaos_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_rows (event_id, guild_id, writer)
    VALUES (NEW.event_id, NEW.guild_id, current_setting('application_name'));
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER chaos_note AFTER INSERT ON violations FOR EACH ROW EXECUTE FUNCTION chaos_note();
"""
"""Every row notes which host's life wrote it. Writers of one guild exclude each other by the host's row
and the handover, so the order of the notes is the order of their commits."""
