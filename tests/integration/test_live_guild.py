"""From a message on Discord to a moderator's socket, through all the real parts."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from domain.ids import violation_id
from guildhall.testing import DemoProcess, Person, Sim
from tests.waiting import eventually

OFFENCES = {
    "invite-links": "join us at https://discord.gg/abcdef1 now",
    "phishing-links": "free gift https://dlscord-gifts.com/nitro",
    "banned-words": "what a SCUMBAG you are",
}


async def settled(database: asyncpg.Connection, event_id: UUID) -> asyncpg.Record:
    """Return a violation's row once its action has ended."""
    return await eventually(
        lambda: database.fetchrow(
            "SELECT * FROM violations WHERE event_id = $1 AND action_status <> 'pending'", event_id
        )
    )


async def test_each_offence_is_seen_stored_deleted_and_listed(
    stack: DemoProcess, sim: Sim, database: asyncpg.Connection
) -> None:
    """A bad message reaches a watching moderator, is in Postgres once, and is gone from Discord."""
    guild = await sim.guild(0)
    guild_id = guild["id"]
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        watching = await owner.watch()
        assert (await watching.subscribe(guild_id))["recovered"] is True
        for rule, content in OFFENCES.items():
            message = await sim.post("messages", guild_id=guild_id, content=content)
            event_id = violation_id(int(guild_id), int(message["id"]), rule)
            event = await watching.event("violation", id=str(event_id))
            assert event["data"]["user"]["username"] == message["author"]["username"]
            row = await settled(database, event_id)
            assert row["action_status"] == "done"
            await watching.event("violation", id=str(event_id), action_status="done")
            deleted = await sim.get("deleted", guild_id=guild_id)
            assert message["id"] in {gone["message_id"] for gone in deleted["deleted"]}
        listed = await owner.get(f"/api/servers/{guild_id}/violations?per_page=3")
        assert [row["rule"] for row in listed["data"]] == list(reversed(OFFENCES))
    offsets = [event["offset"] for event in watching.events]
    assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


async def test_a_mention_flood_and_a_repeat_are_found(sim: Sim, database: asyncpg.Connection) -> None:
    """Six people mentioned at once is one violation; the third of the same text is the first of its kind."""
    guild_id = (await sim.guild(1))["id"]
    people = list((await sim.get("world"))["people"])
    members = [await sim.post("members", guild_id=guild_id, name=f"witness{n}") for n in range(6)]
    flood = await sim.post(
        "messages",
        guild_id=guild_id,
        content="look here",
        mentions=[member["user"]["id"] for member in members],
    )
    assert len(people) == 5
    row = await settled(database, violation_id(int(guild_id), int(flood["id"]), "mention-flood"))
    assert row["severity"] == "high"
    author = members[0]["user"]["id"]
    posts = [
        await sim.post("messages", guild_id=guild_id, author=author, content="buy my   Course")
        for _ in range(3)
    ]
    last = violation_id(int(guild_id), int(posts[2]["id"]), "repeats")
    assert (await settled(database, last))["detection"] == "repeated_message"
    first = [violation_id(int(guild_id), int(post["id"]), "repeats") for post in posts[:2]]
    assert await database.fetchval("SELECT count(*) FROM violations WHERE event_id = ANY($1)", first) == 0


async def test_counters_follow_messages_and_members(stack: DemoProcess, sim: Sim) -> None:
    """Messages and joins move the live counters, and HTTP says the same as the stream."""
    guild_id = (await sim.guild(2))["id"]
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        before = await owner.get(f"/api/servers/{guild_id}/metrics")
        watching = await owner.watch()
        await watching.subscribe(guild_id)
        for number in range(5):
            await sim.post("messages", guild_id=guild_id, content=f"good morning number {number}")
        await sim.post("members", guild_id=guild_id, name="newcomer")
        wanted = {
            "messages": before["messages"] + 5,
            "joins": before["joins"] + 1,
            "member_count": before["member_count"] + 1,
        }
        await watching.event("metrics_update", **wanted)
        after = await owner.get(f"/api/servers/{guild_id}/metrics")
        assert wanted.items() <= after.items()
        assert after["bot_online"] is True
        assert sum(bucket["messages"] for bucket in after["series"]) == after["messages"]


async def test_a_dropped_gateway_resumes_and_misses_nothing(sim: Sim, database: asyncpg.Connection) -> None:
    """What is posted while both shards are cut off arrives by RESUME, each once, without identifying anew."""
    guilds = (await sim.get("world"))["guilds"][:10]
    before = await sim.get("stats")
    cut = await sim.post("faults", kind="drop_gateway", hold_ms=700)
    assert cut["affected"] == 2
    expected: set[UUID] = set()
    for guild in guilds:
        message = await sim.post("messages", guild_id=guild["id"], content="nitro at steamcommunlty.com/x")
        expected.add(violation_id(int(guild["id"]), int(message["id"]), "phishing-links"))

    async def all_arrived() -> bool:
        rows = await database.fetch(
            "SELECT event_id FROM violations WHERE event_id = ANY($1)", list(expected)
        )
        return {row["event_id"] for row in rows} == expected

    assert await eventually(all_arrived, within_s=60)
    after = await sim.get("stats")
    assert after["identifies"] == before["identifies"]
    assert after["resumes"] >= before["resumes"] + 2


async def test_every_message_of_a_burst_counts_once(sim: Sim, database: asyncpg.Connection) -> None:
    """After hundreds of messages a second, Postgres holds every labelled offence once, and nothing else."""
    start = (await sim.get("stats"))["ledger_seq"]
    known = {row["event_id"] for row in await database.fetch("SELECT event_id FROM violations")}
    counted_before = await database.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly")
    await sim.put("traffic", rate=250)

    async def enough() -> bool:
        return (await sim.get("stats"))["ledger_seq"] - start > 2_000

    await eventually(enough, within_s=60)
    await sim.put("traffic", rate=0)
    entries = await sim.posted_since(start)
    offences = {int(e["message_id"]): e["label"] for e in entries if e["label"]}
    assert len(entries) > 2_000
    assert len(set(offences.values())) >= 4

    async def all_counted() -> bool:
        counted = await database.fetchval("SELECT sum(messages) FROM metrics_hourly")
        return bool(counted - counted_before == len(entries))

    assert await eventually(all_counted, within_s=60)
    rows = await database.fetch("SELECT event_id, message_id, detection FROM violations")
    new = [row for row in rows if row["event_id"] not in known]
    assert {row["message_id"]: row["detection"] for row in new} == offences
    assert len(new) == len(offences)
    per_hour = await database.fetchval("SELECT sum(low + medium + high + critical) FROM metrics_hourly")
    assert per_hour == len(rows)
