"""What a moderator is told of violations, and what they say of one, through all the real parts."""

from __future__ import annotations

from typing import Any

import asyncpg

from domain.ids import violation_id
from guildhall.testing import DemoProcess, Person, Sim
from tests.waiting import eventually


async def test_a_review_reaches_everybody_who_watches(
    stack: DemoProcess, sim: Sim, database: asyncpg.Connection
) -> None:
    """And every answer soon knows of it: no replica goes on telling what it remembers from before."""
    guild_id = (await sim.guild(4))["id"]
    base = f"/api/servers/{guild_id}"
    async with Person(stack.url) as owner:
        await owner.log_in("owner")
        before = {name: await owner.get(f"{base}/{name}") for name in ("health", "rule-effectiveness")}
        watching = await owner.watch()
        await watching.subscribe(guild_id)
        message = await sim.post("messages", guild_id=guild_id, content="join https://discord.gg/abcdef9 now")
        found = violation_id(int(guild_id), int(message["id"]), "invite-links")
        await watching.event("violation", id=str(found), action_status="done")

        async def judged() -> dict[str, Any] | None:
            health: dict[str, Any] = await owner.get(f"{base}/health")
            return health if health["response_ms"] is not None else None

        health = await eventually(judged)
        assert health["violations"] == before["health"]["violations"] + 1
        assert 0 <= health["response_ms"] < 30_000
        top = await owner.get(f"{base}/top-offenders")
        offender = next(row for row in top["data"] if row["user"]["id"] == message["author"]["id"])
        assert offender["user"]["username"] == message["author"]["username"]
        when = await owner.get(f"{base}/temporal-analytics?period=hour&timezone=Asia/Kolkata")
        assert sum(map(sum, when["heatmap"])) == when["violations"] > 0

        status, reviewed = await owner.ask(
            "POST",
            f"{base}/violations/{found}/review",
            json={"verdict": "false_positive", "note": "our own server", "version": 0},
            headers={"x-csrf-token": owner.csrf_token},
        )
        assert status == 200
        told = await watching.event("violation", id=str(found), review=reviewed["review"])
        assert told["data"] == reviewed == await owner.get(f"{base}/violations/{found}")
        assert [row["id"] for row in (await owner.get(f"{base}/violations?review=reviewed"))["data"]] == [
            str(found)
        ]

        async def counted() -> dict[str, Any] | None:
            rules = (await owner.get(f"{base}/rule-effectiveness"))["rules"]
            return next((rule for rule in rules if rule["false_positives"]), None)

        assert not any(rule["false_positives"] for rule in before["rule-effectiveness"]["rules"])
        rule = await eventually(counted)
        assert (rule["rule"], rule["actions"]["pending"]) == ("invite-links", 0)
    logged = await database.fetchrow("SELECT * FROM audit_log WHERE target = $1", str(found))
    assert logged is not None
    assert (logged["action"], logged["guild_id"]) == ("violation.reviewed", int(guild_id))
