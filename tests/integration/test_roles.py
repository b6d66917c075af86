"""Roles on the real stack: given, mapped, taken away, and what happens while nobody can say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Person, Sim, Watching
from tests.waiting import eventually

GONE_WITHIN_S = 3.0
"""A second, and two for a busy machine."""

OBEYED_WITHIN_S = 10.0
"""From a restart on: until the relays hear the actor again, and have looked at everybody."""


class Owner:
    """Whom the guild belongs to."""

    def __init__(self, person: Person, guild_id: str) -> None:
        self.person, self.guild_id = person, guild_id

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        url = f"/api/servers/{self.guild_id}/{path}"
        return await self.person.ask(method, url, headers={"X-CSRF-Token": self.person.csrf_token}, **options)

    @asynccontextmanager
    async def given(self, path: str, role: str) -> AsyncIterator[None]:
        """Give somebody a role, or map one; take it away in the end if it is still there."""
        status, body = await self.ask("PUT", path, json={"role": role})
        assert status == 200, body
        try:
            yield
        finally:
            await self.ask("DELETE", path)


@pytest.fixture(scope="module")
async def owner(stack: DemoProcess) -> AsyncIterator[Owner]:
    async with aiohttp.ClientSession() as http:
        guild_id = (await Sim(stack.sim_url, http).guild(2))["id"]
    async with Person(stack.url) as person:
        yield Owner(await person.log_in("owner"), guild_id)


@pytest.fixture(scope="module")
async def outsider(stack: DemoProcess) -> AsyncIterator[Person]:
    async with Person(stack.url) as person:
        yield await person.log_in("outsider")


async def status_of(person: Person, guild_id: str) -> int:
    return (await person.ask("GET", f"/api/servers/{guild_id}/violations"))[0]


async def test_a_role_that_is_revoked_stops_working_everywhere(owner: Owner, outsider: Person) -> None:
    """Within moments: over HTTP, for new sockets, and on a socket that was open all the time."""
    path = f"roles/{outsider.user_id}"
    async with owner.given(path, "moderator"):
        watching = await outsider.watch()

        async def watches() -> bool:
            return (await watching.subscribe(owner.guild_id))["op"] == "subscribed"

        await eventually(watches, within_s=GONE_WITHIN_S)
        assert await status_of(outsider, owner.guild_id) == 200
        assert (await owner.ask("DELETE", path))[0] == 204
        began = time.monotonic()
        while (frame := await watching.hear())["op"] != "error":
            pass
        assert (frame["code"], frame["guild_id"]) == ("not_allowed", owner.guild_id)
        assert time.monotonic() - began < GONE_WITHIN_S

        async def closed() -> bool:  # the replica that made the change knows at once, the other in a moment
            return await status_of(outsider, owner.guild_id) == 403

        await eventually(closed, within_s=GONE_WITHIN_S)
        another = await outsider.watch()
        assert (await another.subscribe(owner.guild_id))["code"] == "not_allowed"


async def refused(watching: Watching, guild_id: str) -> float:
    """Hear until the socket is told that it may watch no longer; return how long that took."""
    began = time.monotonic()
    while (frame := await watching.hear())["op"] != "error":
        pass
    assert (frame["code"], frame["guild_id"]) == ("not_allowed", guild_id)
    return time.monotonic() - began


async def test_who_leaves_discord_is_deaf_within_a_second(
    owner: Owner, outsider: Person, sim: Sim, stack: DemoProcess
) -> None:
    """Though their role was given here, and their session's list still has the server; back, they are in."""
    member = {"guild_id": owner.guild_id, "user_id": outsider.user_id}

    watching = await outsider.watch()

    async def watches() -> bool:
        return (await watching.subscribe(owner.guild_id))["op"] == "subscribed"

    async def closed() -> bool:
        return await status_of(outsider, owner.guild_id) == 403

    async def slowest() -> float:
        async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/metrics") as answer:
            families = {each.name: each for each in text_string_to_metric_families(await answer.text())}
        found = families["guildhall_relay_revocation_slowest_seconds"].samples
        return max(sample.value for sample in found)

    async with owner.given(f"roles/{outsider.user_id}", "moderator"):
        await eventually(watches, within_s=GONE_WITHIN_S)
        try:
            for method, path in ((sim.delete, "members"), (sim.post, "bans")):
                await method(path, **member)
                assert await refused(watching, owner.guild_id) < GONE_WITHIN_S
                await eventually(closed, within_s=GONE_WITHIN_S)
                await sim.post("members", **member)
                await eventually(watches, within_s=GONE_WITHIN_S)
        except BaseException:
            with contextlib.suppress(ServiceFailed):  # is a member
                await sim.post("members", **member)
            raise
    assert await eventually(slowest) < GONE_WITHIN_S


async def test_a_role_that_discord_takes_away_is_gone_within_a_second(
    owner: Owner, outsider: Person, sim: Sim
) -> None:
    """One that is mapped here, from a member, and by its deletion; and ADMINISTRATOR, from a role."""
    guild_id = owner.guild_id
    mapped = (await sim.put("roles", guild_id=guild_id, name="Watchers"))["id"]
    member = {"guild_id": guild_id, "user_id": outsider.user_id}

    watching = await outsider.watch()

    async def watches() -> bool:
        return (await watching.subscribe(guild_id))["op"] == "subscribed"

    async with owner.given(f"role-mappings/{mapped}", "viewer"):
        await sim.put("members", **member, role_ids=[mapped])
        await eventually(watches, within_s=GONE_WITHIN_S)
        await sim.put("members", **member, role_ids=[])
        assert await refused(watching, guild_id) < GONE_WITHIN_S
        await sim.put("members", **member, role_ids=[mapped])
        await eventually(watches, within_s=GONE_WITHIN_S)
        await sim.delete("roles", guild_id=guild_id, role_id=mapped)
        assert await refused(watching, guild_id) < GONE_WITHIN_S

    admins = (await sim.put("roles", guild_id=guild_id, name="Boss", permissions=8))["id"]
    await sim.put("members", **member, role_ids=[admins])
    await eventually(watches, within_s=GONE_WITHIN_S)
    await sim.put("roles", guild_id=guild_id, role_id=admins, permissions=0)
    assert await refused(watching, guild_id) < GONE_WITHIN_S
    await sim.delete("roles", guild_id=guild_id, role_id=admins)


async def test_a_change_is_told_to_those_who_watch(owner: Owner, outsider: Person) -> None:
    """On the guild's stream; and it stands in the audit log, as the denials do."""
    watching = await owner.person.watch()
    await watching.subscribe(owner.guild_id)
    async with owner.given(f"roles/{outsider.user_id}", "viewer"):
        await watching.event("config_update", what="roles")
        _, rows = await owner.ask("GET", "roles")
        [row] = [row for row in rows["data"] if row["user"]["id"] == outsider.user_id]
        assert (row["role"], row["assigned_by"]["id"]) == ("viewer", owner.person.user_id)
        assert (await outsider.ask("GET", f"/api/servers/{owner.guild_id}/roles"))[0] == 403

    async def noted() -> Any:
        query = f"audit-log?actor_id={outsider.user_id}&action=access.denied"
        _, log = await owner.ask("GET", query)
        return [row for row in log["data"] if row["details"]["permission"] == "manage_roles"]

    [denial] = await eventually(noted)
    assert denial["details"]["route"] == "/api/servers/{guild_id}/roles"
    _, log = await owner.ask("GET", f"audit-log?actor_id={owner.person.user_id}")
    assert [row["action"] for row in log["data"][:2]] == ["role.revoked", "role.assigned"]


async def test_a_role_of_discord_opens_a_server(owner: Owner, outsider: Person, sim: Sim) -> None:
    """Discord is asked about the member, once; unmapped, it opens nothing any more."""

    async def asked() -> int:
        calls: dict[str, int] = (await sim.get("stats"))["rest_calls"]
        return calls.get("GET /guilds/{guild_id}/members/{user_id}", 0)

    async def opened() -> bool:
        return await status_of(outsider, owner.guild_id) == 200

    async def closed() -> bool:
        return await status_of(outsider, owner.guild_id) == 403

    await eventually(closed, within_s=GONE_WITHIN_S)
    before = await asked()
    async with owner.given(f"role-mappings/{owner.guild_id}", "viewer"):  # @everyone
        for _ in range(10):  # at either replica
            await eventually(opened, within_s=GONE_WITHIN_S)
        assert await asked() <= before + 1  # not at all if it was asked before

        async def listed() -> Any:
            return (await outsider.get("/api/servers"))["data"]

        servers = await eventually(listed, within_s=GONE_WITHIN_S)
        assert [(server["id"], server["role"]) for server in servers] == [(owner.guild_id, "viewer")]
        assert "view_config" in servers[0]["permissions"]
    await eventually(closed, within_s=GONE_WITHIN_S)


DISCORD_OWNER = "This person owns the server on Discord, and is owner here for as long as that is so."
NO_SUCH_ROLE = "There is no such role to take away."


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("PUT", "roles/{owner}", (409, "discord_owner", DISCORD_OWNER)),
        ("DELETE", "roles/{owner}", (409, "discord_owner", DISCORD_OWNER)),
        ("DELETE", "roles/1234567890", (404, "no_such_role", NO_SUCH_ROLE)),
        ("DELETE", "role-mappings/1234567890", (404, "no_such_role", NO_SUCH_ROLE)),
    ],
)
async def test_what_the_rbac_actor_refuses_is_told_in_one_sentence(
    owner: Owner, method: str, path: str, told: tuple[int, str, str]
) -> None:
    """Nothing of where it was refused: no process, no address, no path, no source."""
    body = {"role": "viewer"} if method == "PUT" else None
    status, answer = await owner.ask(method, path.format(owner=owner.person.user_id), json=body)
    assert (status, answer["error_code"], answer["error"]) == told
    assert answer["details"] is None


async def test_the_demos_owner_operates_it(owner: Owner, outsider: Person) -> None:
    """And nobody else does."""
    assert (await owner.person.get("/api/auth/me"))["operator"] is True
    assert (await outsider.get("/api/auth/me"))["operator"] is False


def rbac_process(stack: DemoProcess) -> psutil.Process:
    [found] = [process for process in stack.descendants() if "ray::Rbac" in " ".join(process.cmdline())]
    return found


async def test_a_frozen_rbac_actor_opens_nothing(stack: DemoProcess, owner: Owner) -> None:
    """Who asks is told after a while that roles cannot be checked; afterwards it goes on."""
    process = rbac_process(stack)
    process.suspend()
    try:

        async def unavailable() -> Any:
            status, body = await owner.ask("GET", "roles")
            return body if status == 503 else None

        assert (await eventually(unavailable, within_s=30))["error_code"] == "roles_unavailable"
    finally:
        process.resume()

    async def answered() -> bool:
        return (await owner.ask("GET", "roles"))[0] == 200

    await eventually(answered, within_s=30)


async def test_an_rbac_actor_that_was_killed_comes_back(
    stack: DemoProcess, owner: Owner, outsider: Person, sim: Sim
) -> None:
    """Ray restarts it; nobody gets more than they may, who watches goes on, and its next life is obeyed."""
    watching, outsiders = await owner.person.watch(), await outsider.watch()
    await watching.subscribe(owner.guild_id)
    path = f"roles/{outsider.user_id}"
    async with owner.given("roles/4711", "viewer"), owner.given(path, "viewer"):

        async def watches() -> bool:
            return (await outsiders.subscribe(owner.guild_id))["op"] == "subscribed"

        await eventually(watches, within_s=GONE_WITHIN_S)
        os.kill(rbac_process(stack).pid, signal.SIGKILL)
        statuses = set()

        async def back() -> Any:
            status, body = await owner.ask("GET", "roles")
            statuses.add(status)
            return body["data"] if status == 200 else None

        await asyncio.sleep(1.1)  # what the replica remembers is older than it may be then
        rows = await eventually(back, within_s=60)
        assert statuses <= {200, 503}
        assert "4711" in {row["user"]["id"] for row in rows}
        message = await sim.post("messages", guild_id=owner.guild_id, content="kys")
        for each in (watching, outsiders):  # nobody lost their view by it
            assert await each.event("violation", message_id=message["id"])
        assert (await owner.ask("DELETE", path))[0] == 204
        assert await refused(outsiders, owner.guild_id) < OBEYED_WITHIN_S
