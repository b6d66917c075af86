"""Holds what is stored against what the local Discord sent: what is missing must be told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg


class Posted(NamedTuple):
    """A message that somebody wrote, and the label of its offence."""

    message_id: int
    ts_ms: int
    label: str | None


DELIVERY_MS = 250
"""A gap begins when the last event was heard; one that was posted before that may have been on its way."""


class Told(NamedTuple):
    """A time for which the database says that something may be missing."""

    reason: str
    since_ms: int
    until_ms: int

    def covers(self, ts_ms: int) -> bool:
        """Return whether something that happened then is told as missing."""
        return self.since_ms - DELIVERY_MS <= ts_ms <= self.until_ms


class Stored(NamedTuple):
    """What the database has."""

    detections: Sequence[tuple[int, str]]
    """By row: the message and what it was found to be."""
    messages: int
    gaps: Sequence[Told]


def hold(posted: Collection[Posted], stored: Stored) -> dict[str, Any]:
    """Return the figures of a run; all but those of what was posted, stored and told must be zero.

    What is missing within a gap is told; what is missing outside all of them is lost. Within a gap a message
    may be counted or not: outside of them each is counted once.
    """
    offences = {message.message_id: message for message in posted if message.label}
    rows: Mapping[int, str] = dict(stored.detections)
    missing = [message for key, message in offences.items() if key not in rows]
    in_gaps = [message for message in posted if any(gap.covers(message.ts_ms) for gap in stored.gaps)]
    told = {message.message_id for message in in_gaps}
    least, most = len(posted) - len(in_gaps), len(posted)
    return {
        "messages_posted": len(posted),
        "messages_counted": stored.messages,
        "messages_posted_in_gaps": len(in_gaps),
        "offences_posted": len(offences),
        "violations_stored": len(stored.detections),
        "missing_and_told": sum(message.message_id in told for message in missing),
        "lost_and_not_told": sum(message.message_id not in told for message in missing),
        "doubled": len(stored.detections) - len(rows),
        "not_an_offence": len(rows.keys() - offences.keys()),
        "wrong_kind": sum(rows[key] != offences[key].label for key in rows.keys() & offences.keys()),
        "counts_wrong_by": min(0, stored.messages - least) + max(0, stored.messages - most),
        "gaps": len(stored.gaps),
        "longest_gap_s": round(
            max(((gap.until_ms - gap.since_ms) / 1000 for gap in stored.gaps), default=0.0), 1
        ),
    }


WRONG = ("lost_and_not_told", "doubled", "not_an_offence", "wrong_kind", "counts_wrong_by")
"""Figures of ``hold`` that must be zero."""


def parse(entries: list[dict[str, Any]]) -> list[Posted]:
    """Take the local Discord's ledger."""
    return [Posted(int(each["message_id"]), int(each["ts"]), each["label"]) for each in entries]


async def read(database_url: str) -> Stored:
    """Read what the database has."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT message_id, detection FROM violations")
        messages = await connection.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly")
        gaps = await connection.fetch("SELECT reason, since, until FROM coverage_gaps")
    finally:
        await connection.close()
    return Stored(
        [(row["message_id"], row["detection"]) for row in rows],
        int(messages),
        [
            Told(
                gap["reason"], int(gap["since"].timestamp() * 1000), int(gap["until"].timestamp() * 1000) + 1
            )
            for gap in gaps
        ],
    )
