"""Several API replicas are as right as one: what is written at one is seen at all, though each remembers."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from adapters.queries import load_queries
from guildhall.testing import DemoProcess, Person, Sim
from tests.waiting import eventually

AT_ONCE = 12
"""Requests on as many connections, which the front door spreads over the replicas."""


async def crowd_of(person: Person, path: str) -> list[tuple[int, Any]]:
    return await asyncio.gather(*(person.ask("GET", path) for _ in range(AT_ONCE)))


async def test_what_one_replica_changes_all_of_them_show(stack: DemoProcess, sim: Sim) -> None:
    """Each replica remembers the old configuration; after a change none of them shows it any more."""
    guild_id = (await sim.guild(3))["id"]
    path = f"/api/servers/{guild_id}/config"
    async with Person(stack.url) as owner:
        await owner.log_in("owner")

        async def both_remember() -> dict[str, Any] | None:
            await crowd_of(owner, path)
            replicas = (await owner.get("/api/cache/stats"))["replicas"]
            remembering = [replica for replica in replicas if replica["caches"]["config"]["hits"] > 0]
            return {replica["id"]: replica for replica in remembering} if len(remembering) == 2 else None

        before = await eventually(both_remember)
        old = await owner.get(path)
        wanted = old["config"] | {"timezone": "Europe/Lisbon"}
        change = {"config": wanted, "version": old["version"]}
        csrf = {"X-CSRF-Token": owner.csrf_token}
        status, body = await owner.ask("PUT", path, json=change, headers=csrf)
        assert status == 200, body

        async def all_show_it() -> bool:
            return all(answer["config"] == wanted for _, answer in await crowd_of(owner, path))

        await eventually(all_show_it, within_s=3.0)

        async def both_forgot() -> bool:  # each replica tells its counts now and then
            replicas = {
                replica["id"]: replica for replica in (await owner.get("/api/cache/stats"))["replicas"]
            }
            return all(
                replicas[replica_id]["caches"]["config"]["invalidations"]
                > replica["caches"]["config"]["invalidations"]
                for replica_id, replica in before.items()
            )

        await eventually(both_forgot)


async def test_a_browser_that_leaves_leaves_nobody_untold(
    stack: DemoProcess, sim: Sim, database: asyncpg.Connection
) -> None:
    """Its connection breaks while the change is being made: Serve cancels the request, and not the change."""
    guild_id = (await sim.guild(4))["id"]
    path = f"/api/servers/{guild_id}/config"
    async with Person(stack.url) as owner, Person(stack.url) as leaver:
        await owner.log_in("owner")
        await leaver.log_in("owner")
        watching = await owner.watch()
        assert (await watching.subscribe(guild_id))["op"] == "subscribed"
        old = await owner.get(path)
        wanted = old["config"] | {"timezone": "Asia/Tokyo"}
        change = {"config": wanted, "version": old["version"]}
        csrf = {"X-CSRF-Token": leaver.csrf_token}

        async def waits() -> bool:
            query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            return bool(await database.fetchval(query))

        async with database.transaction():
            await database.execute(load_queries("settings.sql")["lock_settings"], int(guild_id))
            asking = asyncio.create_task(leaver.ask("PUT", path, json=change, headers=csrf))
            await eventually(waits)
            asking.cancel()  # closes the connection
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0.5)  # until Serve has given the request up, of which nobody is told
        told = await watching.event("config_update", what="config")
        assert told["data"]["version"] > old["version"]

        async def all_show_it() -> bool:
            return all(answer["config"] == wanted for _, answer in await crowd_of(owner, path))

        await eventually(all_show_it, within_s=3.0)


async def test_a_logout_ends_the_session_at_every_replica(stack: DemoProcess) -> None:
    """The cookie of a session that ended opens nothing, whichever replica is asked."""
    async with Person(stack.url) as person:
        await person.log_in("viewer")
        assert {status for status, _ in await crowd_of(person, "/api/auth/me")} == {200}
        cookies = {cookie.key: cookie.value for cookie in person.http.cookie_jar}
        headers = {"X-CSRF-Token": person.csrf_token}
        assert (await person.ask("POST", "/api/auth/logout", headers=headers))[0] == 204
        person.http.cookie_jar.update_cookies(cookies)
        assert {status for status, _ in await crowd_of(person, "/api/auth/me")} == {401}


async def test_a_role_that_is_revoked_opens_nothing_at_any_replica(stack: DemoProcess, sim: Sim) -> None:
    """Both replicas had let the person in."""
    guild_id = (await sim.guild(3))["id"]
    shown = f"/api/servers/{guild_id}/violations"
    async with Person(stack.url) as owner, Person(stack.url) as outsider:
        await owner.log_in("owner")
        await outsider.log_in("outsider")
        role = f"/api/servers/{guild_id}/roles/{outsider.user_id}"
        csrf = {"X-CSRF-Token": owner.csrf_token}
        assert (await owner.ask("PUT", role, json={"role": "viewer"}, headers=csrf))[0] == 200

        async def every(expected: int) -> bool:
            return {status for status, _ in await crowd_of(outsider, shown)} == {expected}

        await eventually(lambda: every(200), within_s=3.0)
        assert (await owner.ask("DELETE", role, headers=csrf))[0] == 204
        await eventually(lambda: every(403), within_s=3.0)
