"""The Rbac actor killed under people who watch: who may stays, and who may no longer is out soon after."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from benchmarks.outages.people import OUTSIDER, People, Visitor, cookie_of, shown_wrong, until_whole
from benchmarks.result import part
from benchmarks.watchers import LOOK_EVERY_S, in_background, named
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Person

BACK_WITHIN_S = 60.0
OBEYED_WITHIN_S = 10.0
"""From the actor's return on: until the relays hear it again, and have looked at everybody."""
PUSHED_WITHIN_S = 1.0
"""While the relays hear the actor."""
PUSH_WORKS_WITHIN_S = 30.0
VISITS_WITHIN_S = 20.0


async def killed(demo: DemoProcess, crowd: People, kills: int) -> dict[str, Any]:
    """Kill it so many times; each time revoke somebody's role as soon as it answers again."""
    closed_before = crowd.closed()
    rounds = [await _kill_once(demo, crowd) for _ in range(kills)]
    left_s = await _leave_while_away(demo, crowd)
    whole_s = await until_whole(crowd, BACK_WITHIN_S)
    await crowd.sim.put("traffic", rate=0)
    figures = {
        "kills": kills,
        "watchers": len(crowd.visitors),
        "turned_out": crowd.turned_out(),
        "sockets_ended": dict(crowd.closed() - closed_before),
        "back_s_worst": _worst([each["back_s"] for each in rounds]),
        "revocation_after_return_s_worst": _worst([each["revoked_s"] for each in rounds]),
        "left_while_away_s": round(left_s, 2),
        "push_works_again_s_worst": _worst([each["push_s"] for each in rounds]),
        "answers_wrong": sum(each["answers_wrong"] for each in rounds),
        "whole_again_s": whole_s and round(whole_s, 1),
        **await shown_wrong(demo.database_url, crowd),
    }
    wrong = ("turned_out", "answers_wrong", *(name for name in figures if name.startswith("shown_")))
    return part(
        bound=f"nobody turned out; revoked at its return, or gone from Discord before: deaf in "
        f"{OBEYED_WITHIN_S:.0f} s; "
        f"in {PUSHED_WITHIN_S:.0f} s again {PUSH_WORKS_WITHIN_S:.0f} s after the kill at the latest",
        met=not any(figures[name] for name in wrong)
        and max(left_s, figures["revocation_after_return_s_worst"]) <= OBEYED_WITHIN_S
        and figures["push_works_again_s_worst"] <= PUSH_WORKS_WITHIN_S,
        **figures,
    )


def _worst(seconds: list[float]) -> float:
    return round(max(seconds), 2)


async def _kill_once(demo: DemoProcess, crowd: People) -> dict[str, float]:
    """Return how long it was away, how soon its next life was obeyed, and when its push worked again."""
    outsider = crowd.persons[OUTSIDER]
    async with _visit(demo, crowd, outsider) as visitor:
        began = time.monotonic()
        await _kill(demo)
        statuses = await _until_back(crowd)
        back_s = time.monotonic() - began
        revoked_s = await _revoke(crowd, outsider, visitor)
    push_s = await _until_push_works(demo, crowd, outsider, began)
    wrong = len(statuses - {200, 503})
    return {"back_s": back_s, "revoked_s": revoked_s, "push_s": push_s, "answers_wrong": wrong}


async def _leave_while_away(demo: DemoProcess, crowd: People) -> float:
    """Let somebody leave on Discord while nobody can say; return how long after the return they are deaf."""
    outsider = crowd.persons[OUTSIDER]
    member = {"guild_id": str(crowd.guild_id), "user_id": outsider.user_id}
    async with _visit(demo, crowd, outsider) as visitor:
        await _kill(demo)
        await crowd.sim.delete("members", **member)
        await _until_back(crowd)
        began = time.monotonic()
        await _until_deaf(visitor)
        lasted_s = time.monotonic() - began
    await crowd.sim.post("members", **member)
    return lasted_s


async def _kill(demo: DemoProcess) -> None:
    [process] = await named(demo, "ray::Rbac")
    process.kill()


async def _until_push_works(demo: DemoProcess, crowd: People, outsider: Person, began: float) -> float:
    while time.monotonic() - began < 2 * PUSH_WORKS_WITHIN_S:
        async with _visit(demo, crowd, outsider) as visitor:
            if await _revoke(crowd, outsider, visitor) <= PUSHED_WITHIN_S:
                return time.monotonic() - began
    return float("inf")


@contextlib.asynccontextmanager
async def _visit(demo: DemoProcess, crowd: People, person: Person) -> Any:
    """Give somebody a role, and let them watch until the block ends."""
    path = f"roles/{person.user_id}"
    async with asyncio.timeout(VISITS_WITHIN_S):
        while (await crowd.change("PUT", path, json={"role": "viewer"}))[0] != 200:  # noqa: PLR2004, ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)
        url = f"/api/servers/{crowd.guild_id}/violations"
        while (await person.ask("GET", url))[0] != 200:  # noqa: PLR2004, ASYNC110 - another process
            await asyncio.sleep(LOOK_EVERY_S)
    visitor = Visitor(demo.url, crowd.guild_id, cookie_of(person), person.http)
    async with in_background(visitor.watch()):
        async with asyncio.timeout(VISITS_WITHIN_S):
            while not visitor.live:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(LOOK_EVERY_S)
        yield visitor


async def _revoke(crowd: People, person: Person, visitor: Visitor) -> float:
    """Take the role away; return in how many seconds the socket was told, at most the limit."""
    began = time.monotonic()
    status, body = await crowd.change("DELETE", f"roles/{person.user_id}")
    if status != 204:  # noqa: PLR2004
        raise ServiceFailed(f"The role was not taken away: {body}")
    await _until_deaf(visitor)
    return time.monotonic() - began


async def _until_deaf(visitor: Visitor) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BACK_WITHIN_S):
            while visitor.turned_out != "not_allowed":  # noqa: ASYNC110 - another process says so
                await asyncio.sleep(LOOK_EVERY_S / 5)


async def _until_back(crowd: People) -> set[int]:
    """Wait until somebody can say what the roles are; return all statuses of the answers."""
    statuses: set[int] = set()
    async with asyncio.timeout(BACK_WITHIN_S):
        while True:
            status, _ = await crowd.change("GET", "roles")
            statuses.add(status)
            if status == 200 and 503 in statuses:  # noqa: PLR2004
                return statuses
            await asyncio.sleep(LOOK_EVERY_S)
