"""Everything that lives for long is looked after: what ends or hangs is replaced under those who watch."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import aiohttp
import asyncpg
import psutil
import pytest

from guildhall.testing import DemoProcess, Person, Sim
from tests.waiting import eventually

MESSAGES = 20
ACTORS = ("Director", "Rbac", "UserResolver", "ShardRunner")
NOTICED_WITHIN_S = 15.0
DOOR_BACK_WITHIN_S = 20.0
REPLACED_WITHIN_S = 60.0
"""Noticed within 15 seconds; the rest is for processes that begin, all at once on a busy machine."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    demo = DemoProcess(tmp_path_factory.mktemp("demo"), "--guilds", "6", "--rate", "0")
    try:
        demo.wait_ready()
        yield demo
        code, said = demo.end()
        assert code == 0, said
    finally:
        demo.make_sure_it_ended()


def actors(demo: DemoProcess, kinds: tuple[str, ...] = ACTORS) -> dict[str, set[int]]:
    """Return the processes of each kind of actor."""
    found: dict[str, set[int]] = {kind: set() for kind in kinds}
    for process in demo.descendants():
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            title = " ".join(process.cmdline())
            for kind in kinds:
                if title.startswith(f"ray::{kind}"):
                    found[kind].add(process.pid)
    return found


def haproxies(demo: DemoProcess) -> set[int]:
    """Return the processes of HAProxy."""
    found = set()
    for process in demo.descendants():
        with contextlib.suppress(psutil.Error):
            if process.name() == "haproxy" and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSTOP])
async def test_what_ends_or_hangs_is_replaced(demo: DemoProcess, by: signal.Signals) -> None:
    """All at once, in parallel: then messages are judged and shown, roles are known, people have names.

    What hung and was replaced ends, whatever it still had to tell: each message counts once.
    """
    before = actors(demo)
    assert all(before.values()), before
    async with aiohttp.ClientSession() as http, Person(demo.url) as person:
        await person.log_in("owner")
        _, health = await person.ask("GET", "/health")
        assert health["network"] == "ok"  # from the moment it is ready
        sim = Sim(demo.sim_url, http)
        guild = await sim.guild(0)
        counted = await messages_counted(demo)
        for number in range(MESSAGES):
            await sim.post("messages", guild_id=guild["id"], content=f"a message, the {number}. of them")
        for pid in set[int]().union(*before.values()):
            psutil.Process(pid).send_signal(by)

        async def shown() -> bool:
            new = actors(demo)
            if not all(new[kind] - before[kind] for kind in ACTORS):
                return False
            status, _ = await person.ask("GET", f"/api/servers/{guild['id']}/violations")
            if status != 200:
                return False
            _, health = await person.ask("GET", "/health")
            return bool(health["network"] == "ok")

        async def told() -> bool:
            _, health = await person.ask("GET", "/health")
            return bool(health["network"] == "degraded")

        assert await eventually(told, within_s=NOTICED_WITHIN_S)
        assert await eventually(shown, within_s=REPLACED_WITHIN_S)
        supervised = {child["name"]: child for child in (await person.get("/api/network"))["supervised"]}
        others = {"front door", "PostgreSQL", "Redis"}
        assert supervised.keys() == {"director", "rbac", "runner r0", "users 0", "users 1"} | others
        assert supervised["runner r0"]["restarts"]  # Ray itself may be quicker with the others
        watching = await person.watch()
        assert (await watching.subscribe(guild["id"]))["op"] == "subscribed"
        await sim.post("messages", guild_id=guild["id"], content="kys")
        await watching.event("violation")
        old = set[int]().union(*before.values())
        for pid in old:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).send_signal(signal.SIGCONT)

        async def ended() -> bool:
            return not old & set[int]().union(*actors(demo).values())

        async def all_counted() -> bool:
            return await messages_counted(demo) >= counted + MESSAGES + 1

        assert await eventually(ended, within_s=NOTICED_WITHIN_S)
        assert await eventually(all_counted, within_s=NOTICED_WITHIN_S)
        assert await messages_counted(demo) == counted + MESSAGES + 1


@pytest.mark.parametrize("server", ["postgres", "valkey-server"])
async def test_a_server_that_is_killed_begins_anew(demo: DemoProcess, server: str) -> None:
    """With what it held: whoever was logged in still is, and what happened meanwhile is counted once."""
    victim = next(each for each in demo.descendants() if each.name() == server)
    async with aiohttp.ClientSession() as http, Person(demo.url) as person:
        await person.log_in("owner")
        sim = Sim(demo.sim_url, http)
        guild = await sim.guild(0)
        counted = await messages_counted(demo)
        victim.kill()
        for number in range(MESSAGES):
            await sim.post("messages", guild_id=guild["id"], content=f"a message, the {number}. of them")

        async def well() -> bool:
            status, _ = await person.ask("GET", f"/api/servers/{guild['id']}/violations")
            _, health = await person.ask("GET", "/health")
            return bool(status == 200 and health["network"] == "ok")

        async def all_counted() -> bool:
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                return await messages_counted(demo) >= counted + MESSAGES
            return False

        assert await eventually(well, within_s=NOTICED_WITHIN_S + REPLACED_WITHIN_S)
        assert await eventually(all_counted, within_s=NOTICED_WITHIN_S)
        assert await messages_counted(demo) == counted + MESSAGES


@pytest.mark.parametrize(
    ("lost", "by"),
    [("haproxy", signal.SIGKILL), ("haproxy", signal.SIGSTOP), ("manager", signal.SIGKILL)],
    ids=["ends", "hangs", "loses its manager"],
)
async def test_haproxy_begins_anew_before_the_same_replicas(
    demo: DemoProcess, lost: str, by: signal.Signals
) -> None:
    """The door is open again, by one HAProxy and no other, and the board says what was lost."""
    replicas, manager = ("ServeReplica:api", "ServeReplica:relay"), ("HAProxyManager",)
    stay = actors(demo, replicas)
    old = haproxies(demo)
    assert all(stay.values())
    assert old
    for pid in old if lost == "haproxy" else actors(demo, manager)["HAProxyManager"]:
        psutil.Process(pid).send_signal(by)
    async with Person(demo.url) as person:

        async def open_again() -> bool:
            new = haproxies(demo)
            if new & old or not new:
                return False
            with contextlib.suppress(aiohttp.ClientError):
                return (await person.ask("GET", "/api/ping"))[0] == 200
            return False

        assert await eventually(
            open_again, within_s=DOOR_BACK_WITHIN_S if lost == "haproxy" else REPLACED_WITHIN_S
        )
        assert actors(demo, replicas) == stay
        if lost == "haproxy":
            await person.log_in("owner")

            async def told() -> bool:
                children = (await person.get("/api/network"))["supervised"]
                [door] = [child for child in children if child["name"] == "front door"]
                return bool(door["restarts"] and door["error"] == "HAProxy ended, or hangs.")

            assert await eventually(told, within_s=NOTICED_WITHIN_S)  # it is written up every two seconds


async def test_a_replica_that_hangs_is_replaced(demo: DemoProcess) -> None:
    """Serve kills it and begins another: people are answered and watch again."""
    kinds = ("ServeReplica:api", "ServeReplica:relay")
    before = actors(demo, kinds)
    frozen = set[int]().union(*before.values())
    for pid in frozen:
        psutil.Process(pid).send_signal(signal.SIGSTOP)

    async def replaced() -> bool:
        new = actors(demo, kinds)
        return all(new[kind] and not new[kind] & before[kind] for kind in kinds)

    async with aiohttp.ClientSession() as http, Person(demo.url) as person:
        guild = await Sim(demo.sim_url, http).guild(0)

        async def watched_again() -> bool:
            with contextlib.suppress(aiohttp.ClientError, KeyError, TimeoutError):
                await person.log_in("owner")
                watching = await person.watch()
                return bool((await watching.subscribe(guild["id"]))["op"] == "subscribed")
            return False

        assert await eventually(replaced, within_s=NOTICED_WITHIN_S + REPLACED_WITHIN_S)
        assert await eventually(watched_again, within_s=REPLACED_WITHIN_S)


async def messages_counted(demo: DemoProcess) -> int:
    """Return how many messages there are in the database."""
    connection = await asyncpg.connect(demo.database_url)
    try:
        return int(await connection.fetchval("SELECT coalesce(sum(messages), 0) FROM metrics_hourly"))
    finally:
        await connection.close()
