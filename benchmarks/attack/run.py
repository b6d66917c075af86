"""Attacks a demo while people go on working in it: ``guildhall bench attack``.

Everything is on loopback, with the limits as they are by default. Three people read over HTTP and three
watch a server in which something happens all the time. What they see is measured in quiet times and, between
these, under each attack; the ratio is the worst p99 under attack to the p99 of the quiet times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil

from benchmarks.attack.attackers import ATTACKS, Target
from benchmarks.own_demo import own_demo
from benchmarks.result import Result, percentile
from domain.errors import ServiceFailed
from guildhall.testing import DemoProcess, Person, Sim

SECONDS = 20.0
QUIET_SHARE = 0.25
"""A quiet time lasts so long, of an attack; there is one more of them than of attacks."""
READERS = ("owner", "admin", "moderator")
ATTACKER = "viewer"
READS_PER_S = 10.0
"""Of each reader: within what one person may."""
EVENTS_PER_S = 20.0
WARM_UP_S = 5.0
OVER_WITHIN_S = 60.0
"""When an attack is over, its connections are gone within so long."""


PROCESSES = {"api": "ServeReplica:api", "relay": "ServeReplica:relay", "haproxy": "haproxy"}
"""What attacks could make grow, by how the commands begin."""


class Seen(msgspec.Struct):
    """What those who work have seen since it was last asked."""

    http_ms: list[float]
    socket_ms: list[float]
    failed: dict[str, int]

    def take(self) -> Seen:
        """Return it, and begin anew."""
        taken = Seen(self.http_ms, self.socket_ms, self.failed)
        self.http_ms, self.socket_ms, self.failed = [], [], {}
        return taken

    def figures(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "reads": len(self.http_ms),
            "http_p50_ms": round(percentile(self.http_ms, 0.5), 1),
            "http_p99_ms": round(percentile(self.http_ms, 0.99), 1),
            "events": len(self.socket_ms),
            "socket_p50_ms": round(percentile(self.socket_ms, 0.5), 1),
            "socket_p99_ms": round(percentile(self.socket_ms, 0.99), 1),
            "failed": self.failed,
        }


async def run(*, seconds: float = SECONDS) -> Result:
    """Attack in each way for so long, with quiet times before, between and after."""
    async with own_demo("--guilds", "20") as demo:
        return await attack(demo, seconds)


async def attack(demo: DemoProcess, seconds: float) -> Result:
    """Attack a demo in each way for so long, while people read and watch."""
    async with contextlib.AsyncExitStack() as stack:
        control = await stack.enter_async_context(aiohttp.ClientSession())
        sim = Sim(demo.sim_url, control)
        guild_id = str((await sim.guild(0))["id"])
        people = [await stack.enter_async_context(Person(demo.url)) for _ in READERS]
        for person, name in zip(people, READERS, strict=True):
            await person.log_in(name)
        attacker = await stack.enter_async_context(Person(demo.url))
        await attacker.log_in(ATTACKER)
        seen = Seen([], [], {})
        watching = [await person.watch() for person in people]
        positions = [await socket.subscribe(guild_id) for socket in watching]
        target = Target(_cookie_of(attacker), guild_id, positions[0]["epoch"])
        works = [_read(person, guild_id, seen) for person in people]
        works += [_watch(socket.socket, seen) for socket in watching]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in [*works, _post(sim, guild_id)]]
            await asyncio.sleep(WARM_UP_S)
            before = await _held(demo)
            calm, attacks = await _in_turn(demo, target, seen, seconds)
            after = await _settled(demo, before)
            for task in tasks:
                task.cancel()
    return _result(calm, attacks, before, after)


async def _in_turn(
    demo: DemoProcess, target: Target, seen: Seen, seconds: float
) -> tuple[Seen, dict[str, dict[str, Any]]]:
    calm = Seen([], [], {})
    attacks: dict[str, dict[str, Any]] = {}
    seen.take()
    for name in ATTACKS:
        await asyncio.sleep(seconds * QUIET_SHARE)
        _add(calm, seen.take())
        told = await _attack(name, demo.port, seconds, target)
        attacks[name] = seen.take().figures() | told
        await asyncio.sleep(min(seconds * QUIET_SHARE, 1.0))
        seen.take()  # what an attack leaves behind is neither the one nor the other
    await asyncio.sleep(seconds * QUIET_SHARE)
    _add(calm, seen.take())
    return calm, attacks


async def _attack(name: str, port: int, seconds: float, target: Target) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.attack.attackers", name, str(port), str(seconds)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        said, _ = await process.communicate(msgspec.json.encode(target))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ServiceFailed(f"The attackers of {name} broke.")
    told: dict[str, Any] = json.loads(said)
    return told


def _result(
    calm: Seen, attacks: dict[str, dict[str, Any]], before: dict[str, Any], after: dict[str, Any]
) -> Result:
    baseline = calm.figures()
    worst = max(
        max(figures[name] / max(baseline[name], 1.0) for name in ("http_p99_ms", "socket_p99_ms"))
        for figures in attacks.values()
    )
    grown = {name: round(after[name] - before[name], 1) for name in before}
    figures = {"attacks": attacks, "held_before": before, "held_after": after, "grown": grown}
    return Result("attack", figures, baseline, round(worst, 2))


def _add(whole: Seen, part: Seen) -> None:
    whole.http_ms += part.http_ms
    whole.socket_ms += part.socket_ms
    for name, count in part.failed.items():
        whole.failed[name] = whole.failed.get(name, 0) + count


async def _read(person: Person, guild_id: str, seen: Seen) -> None:
    """Read what a dashboard reads, at a steady pace; how long it took counts from when it was due."""
    paths = ["/api/servers", f"/api/servers/{guild_id}/metrics", f"/api/servers/{guild_id}/violations"]
    due = time.perf_counter()
    for number in range(sys.maxsize):
        due += 1 / READS_PER_S
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            status, _ = await person.ask("GET", paths[number % len(paths)])
            outcome = str(status)
        except aiohttp.ClientError as problem:
            outcome = type(problem).__name__
        seen.http_ms.append((time.perf_counter() - due) * 1000)
        if outcome != "200":
            seen.failed[outcome] = seen.failed.get(outcome, 0) + 1


async def _watch(socket: aiohttp.ClientWebSocketResponse, seen: Seen) -> None:
    while True:
        frame = await socket.receive_json()
        now_ms = time.time() * 1000
        seen.socket_ms += [
            now_ms - event["data"]["committed_at"]
            for event in frame.get("events", [])
            if event["type"] == "violation" and event["data"]["action_status"] == "pending"
        ]


async def _post(sim: Sim, guild_id: str) -> None:
    for number in range(sys.maxsize):
        await sim.post("messages", guild_id=guild_id, content=f"kys {number}")
        await asyncio.sleep(1 / EVENTS_PER_S)


def _cookie_of(person: Person) -> str:
    return "; ".join(f"{cookie.key}={cookie.value}" for cookie in person.http.cookie_jar)


async def _settled(demo: DemoProcess, before: dict[str, Any]) -> dict[str, Any]:
    """Return what is held when the attackers' connections are gone, or after a while if they never are."""
    until = time.monotonic() + OVER_WITHIN_S
    while True:
        held = await _held(demo)
        if time.monotonic() > until or held["haproxy_connections"] <= before["haproxy_connections"]:
            return held
        await asyncio.sleep(1.0)


async def _held(demo: DemoProcess) -> dict[str, Any]:
    """Return what attacks could make grow: memory of the replicas and HAProxy, and its connections."""
    memory: dict[str, float] = {}
    for process in await asyncio.to_thread(demo.descendants):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline()[:1])
            for kind, name in PROCESSES.items():
                if name in command:
                    rss_mb = process.memory_info().rss / 1e6
                    memory[f"{kind}_mb"] = round(memory.get(f"{kind}_mb", 0.0) + rss_mb, 1)
    return memory | {"haproxy_connections": await _connections(demo)}


async def _connections(demo: DemoProcess) -> int:
    """Return how many connections HAProxy holds, as it says itself."""
    reader, writer = await asyncio.open_unix_connection(await asyncio.to_thread(_admin_socket, demo))
    writer.write(b"show info\n")
    info = dict(line.split(": ", 1) for line in (await reader.read()).decode().splitlines() if ": " in line)
    writer.close()
    await writer.wait_closed()
    return int(info["CurrConns"])


def _admin_socket(demo: DemoProcess) -> str:
    """Return where HAProxy takes commands, as its configuration says."""
    for process in demo.descendants():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command and Path(command[0]).name == "haproxy" and "-f" in command:
                configuration = Path(command[command.index("-f") + 1]).read_text(encoding="utf-8")
                if found := re.search(r"^ *stats socket (\S+)", configuration, re.MULTILINE):
                    return found[1]
    raise ServiceFailed("HAProxy does not run.")
