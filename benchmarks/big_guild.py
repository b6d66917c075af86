"""A guild with very many violations in 60 days, and others on the same pages; the same in every run."""

from __future__ import annotations

from typing import Any

from adapters.memory import MemoryDashboardStore, MemoryDatabase, MemoryInsightStore
from adapters.memory.database import Row
from adapters.postgres import to_datetime, to_ms
from benchmarks.one_host import connected
from domain.events import UserRef, ViolationDetected
from domain.guild import HourCounts, one_violation
from domain.ids import hour_start
from domain.views import ReviewView

GUILD = 9 * 10**17
WORST_PERSON = 3 * 10**17
DAYS = 60
MESSAGES_A_VIOLATION = 40

_GENERATE = """
INSERT INTO violations (event_id, ts, guild_id, channel_id, channel_name, message_id, user_id, detection,
                        rule, severity, action, action_status, excerpt, content_hash, settled_at)
SELECT md5(n::text)::uuid, ts, guild_id, guild_id + 1 + n % 40, 'general', 500000000000000000 + n, user_id,
       (ARRAY['invite_link', 'repeated_message', 'banned_word', 'mention_flood', 'phishing_link'])[kind],
       'rule-number-' || rule, (ARRAY['medium', 'low', 'medium', 'high', 'critical'])[kind],
       'delete', CASE WHEN luck < 0.03 THEN 'pending' WHEN luck < 0.08 THEN 'failed' ELSE 'done' END,
       'come over to discord.gg/somewhere, everybody is there already', decode(md5(n::text), 'hex'),
       CASE WHEN luck >= 0.03 THEN date_trunc('milliseconds', ts + interval '120 ms' / luck) END
FROM (
    SELECT n, guild_id, user_id, rule, 1 + rule % 5 AS kind, luck,
           date_trunc('milliseconds', moment - CASE WHEN moment > now THEN interval '1 day' ELSE '0' END)
           AS ts
    FROM (
        SELECT n, now,
               CASE WHEN n <= $1::int THEN $2::bigint
                    ELSE $2::bigint + 1 + floor(300 * power(random(), 2))::bigint END AS guild_id,
               -- A few people do most of it.
               300000000000000000 + floor((10 + $1::int / 16) * power(random(), 3))::bigint AS user_id,
               floor(12 * power(random(), 1.5))::int AS rule,
               random() AS luck,
               CASE WHEN n % 97 = 0 THEN now - interval '9 days' + random() * interval '40 minutes' -- a raid
               ELSE date_trunc('day', now) - floor(60 * random()) * interval '1 day'
                    + random() * interval '1 hour' + interval '1 hour' * hours[1 + floor(24 * random())::int]
               END AS moment
        FROM generate_series(1, 2 * $1::int) AS n,
             -- Evenings are loud, nights are quiet.
             (SELECT $3::timestamptz AS now, ARRAY[0, 1, 6, 8, 10, 11, 12, 13, 14, 15, 16, 16, 17, 17, 18, 18,
                                                   18, 19, 19, 19, 20, 20, 21, 22] AS hours) AS constants
    ) AS drawn
) AS placed
ORDER BY ts
"""
_COUNT_HOURS = """
INSERT INTO metrics_hourly (guild_id, hour, messages, low, medium, high, critical)
SELECT guild_id, date_trunc('hour', ts, 'UTC'), $1 * count(*),
       count(*) FILTER (WHERE severity = 'low'), count(*) FILTER (WHERE severity = 'medium'),
       count(*) FILTER (WHERE severity = 'high'), count(*) FILTER (WHERE severity = 'critical')
FROM violations GROUP BY 1, 2
"""
_REVIEW = """
INSERT INTO violation_reviews (event_id, ts, guild_id, message_id, user_id, severity, detection, rule,
                               verdict, reviewed_by)
SELECT event_id, ts, guild_id, message_id, user_id, severity, detection, rule,
       (ARRAY['confirmed', 'false_positive', 'dismissed'])[1 + message_id / 100 % 3], 1
FROM violations WHERE message_id % 100 = 0
"""
_KNOW_PEOPLE = """
INSERT INTO user_cache (user_id, username, display_name)
SELECT user_id, 'user' || user_id, 'User ' || user_id FROM (SELECT DISTINCT user_id FROM violations) AS people
"""

_RECOUNT = "SELECT recount_late_people(1000000000)"
"""They all came at once, so in no order; in life few do so, and the Director counts them anew."""

_SIZES = """
SELECT 'violations' AS name, sum(pg_relation_size(relid))::bigint AS size
FROM pg_partition_tree('violations')
UNION ALL
SELECT parent.relname, sum(pg_relation_size(i.inhrelid))::bigint
FROM pg_index AS x JOIN pg_class AS parent ON parent.oid = x.indexrelid
     JOIN pg_inherits AS i ON i.inhparent = parent.oid
WHERE x.indrelid = 'violations'::regclass
GROUP BY 1
UNION ALL
SELECT 'violation_rule_hours', sum(pg_total_relation_size(relid))::bigint
FROM pg_partition_tree('violation_rule_hours')
UNION ALL
SELECT name, pg_total_relation_size(name)
FROM (VALUES ('violation_people'), ('violation_people_hours')) AS v (name)
"""


async def make(database_url: str, violations: int, now_ms: int) -> None:
    """Fill an empty database: so many violations in the guild, and as many in 300 others."""
    now = to_datetime(now_ms)
    async with connected(database_url) as connection:
        await connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'; SELECT setseed(0.5)")
        for days in range(0, DAYS + 32, 28):
            await connection.execute(
                "SELECT ensure_violation_month(($1::timestamptz - make_interval(days => $2))::date)",
                now,
                days,
            )
        await connection.execute(_GENERATE, violations, GUILD, now, timeout=3_600)
        await connection.execute(_COUNT_HOURS, MESSAGES_A_VIOLATION, timeout=3_600)
        await connection.execute(_RECOUNT, timeout=3_600)
        for statement in (_REVIEW, _KNOW_PEOPLE, "VACUUM (ANALYZE)"):
            await connection.execute(statement, timeout=3_600)


async def megabytes(database_url: str) -> dict[str, int]:
    """Return the size of all violations: their rows, and the indexes by name."""
    async with connected(database_url) as connection:
        rows = await connection.fetch(_SIZES)
    return {f"{row['name']}_mb": round(row["size"] / 1e6) for row in rows}


async def counted_in_python(
    database_url: str, now_ms: int
) -> tuple[MemoryInsightStore, MemoryDashboardStore]:
    """Read the guild's rows as they are, for stores that answer by plain counting."""
    rows = MemoryDatabase(lambda: now_ms)
    async with connected(database_url) as connection:
        for found in await connection.fetch("SELECT * FROM violations WHERE guild_id = $1", GUILD):
            row = _row(dict(found))
            one = row.violation
            rows.violations[row.key] = row
            rows.users[one.user.user_id] = one.user
            hour_ms = hour_start(one.ts_ms)
            rows.add_hour(GUILD, one_violation(hour_ms, one.severity))
            rows.add_hour(GUILD, HourCounts(hour_ms, messages=MESSAGES_A_VIOLATION))
        for found in await connection.fetch("SELECT * FROM violation_reviews WHERE guild_id = $1", GUILD):
            rows.reviews[found["event_id"], to_ms(found["ts"])] = ReviewView(
                verdict=found["verdict"],
                by=str(found["reviewed_by"]),
                at=to_ms(found["reviewed_at"]),
                version=found["version"],
                note=found["note"],
            )
    return MemoryInsightStore(rows), MemoryDashboardStore(rows)


def _row(found: dict[str, Any]) -> Row:
    user_id, settled_at = found["user_id"], found["settled_at"]
    one = ViolationDetected(
        user=UserRef(user_id, f"user{user_id}", f"User {user_id}"),
        ts_ms=to_ms(found["ts"]),
        **{name: found[name] for name in ViolationDetected.__struct_fields__ if name in found},
    )
    return Row(
        one, one.action_status, to_ms(found["committed_at"]), to_ms(settled_at) if settled_at else None
    )
