"""Measures what the API costs when it remembers the answer, and that a crowd costs one query.

A demo runs in a process of its own on this machine. A moderator's browser asks for a server's numbers, over
and over on kept connections, through HAProxy and Serve to the one API replica; in the same run the same
connections ask the same replica for ``/api/ping``, a route that answers a constant, and is open to all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from statistics import median
from typing import Any, cast

import asyncpg
import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.own_demo import own_demo
from benchmarks.result import Result, percentile
from domain.errors import ServiceFailed
from guildhall.testing import CROWD_AT_ONE_ADDRESS, DemoProcess, Person

SECONDS = 4.0
ROUNDS = 5
CONNECTIONS = 16
CROWD = 1_000
WARM_UP_S, WARM_UPS = 2.0, 5

_GENEROUS = "100000 per second"
_STATISTICS_WITHIN_S = 12.0
"""Postgres tells what an idle connection did after ten seconds."""


async def run(*, seconds: float = SECONDS, rounds: int = ROUNDS, crowd: int = CROWD) -> Result:
    """Ask in turns, ``seconds`` each, so many rounds; then let a crowd ask what nobody has asked before."""
    limits = ("GUILDHALL_LIMIT_READS", "GUILDHALL_LIMIT_STRANGERS")
    async with (
        own_demo("--guilds", "200", **dict.fromkeys(limits, _GENEROUS), **CROWD_AT_ONE_ADDRESS) as demo,
        Person(demo.url) as owner,
    ):
        await owner.log_in("owner")
        servers = [server["id"] for server in (await owner.get("/api/servers"))["data"]]
        door = _Door(demo.port, owner)
        turns = await _in_turns(door, demo, servers[0], seconds, rounds)
        crowded = await _crowd(door, demo, servers[1], crowd)
    cached, constant = turns["cached"], turns["constant"]
    return Result(
        "api",
        cached.figures("cached_metrics") | crowded,
        constant.figures("constant"),
        cached.per_s / constant.per_s,
    )


class ConnectionClosed(ServiceFailed):
    """The front door closed a connection on which something was asked."""


class _Door:
    """The front door, and a person who asks there."""

    def __init__(self, port: int, person: Person) -> None:
        self.port = port
        self.person = person
        self.cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in person.http.cookie_jar)

    def request(self, path: str) -> bytes:
        """Return a request as a browser sends it."""
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nCookie: {self.cookies}\r\n"
        return f"{head}Accept: application/json\r\n\r\n".encode()

    async def counts(self) -> dict[str, float]:
        """Return what the replica's cache of numbers did so far."""
        async with self.person.http.get(f"{self.person.url}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        return {
            sample.name.removeprefix("guildhall_cache_").removesuffix("_total"): sample.value
            for family in families
            for sample in family.samples
            if sample.labels.get("cache") == "metrics"
        }


class _Connection(asyncio.Protocol):
    """A kept connection that asks one thing after the other, and costs this process next to nothing."""

    def __init__(self) -> None:
        self.took_ms: list[float] = []
        self.body = b""
        self._asking: asyncio.Future[None]
        self._request = b""
        self._until = 0.0
        self._received = bytearray()
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, until: float) -> asyncio.Future[None]:
        """Ask over and over until a time (``perf_counter``), once at least."""
        self._asking = asyncio.get_running_loop().create_future()
        self._request, self._until, self.took_ms = request, until, []
        self._send()
        return self._asking

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        _, _, after = head.lower().partition(b"content-length:")
        if len(rest) < int(after.partition(b"\r")[0]):
            return
        now = time.perf_counter()
        self.took_ms.append((now - self._asked) * 1000)
        if not head.startswith(b"HTTP/1.1 200"):
            self._asking.set_exception(ServiceFailed(bytes(head).decode()))
        elif now < self._until:
            self._send()
        else:
            self.body = bytes(rest)
            self._asking.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._asking.done():
            self._asking.set_exception(ConnectionClosed(f"The connection was closed: {error}"))

    def _send(self) -> None:
        self._received.clear()
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def close(self) -> None:
        self._transport.close()


async def _connect(port: int, count: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(_Connection, "127.0.0.1", port))[1] for _ in range(count)]


class _Turns:
    """What was asked in all turns of one kind."""

    def __init__(self) -> None:
        self._rates: list[float] = []
        self._took_ms: list[float] = []
        self._replica_ms: list[float] = []

    def add(self, took_ms: list[float], lasted_s: float, replica_s: float) -> None:
        """Note a turn: how long each request took, the whole turn, and how long the replica computed."""
        self._rates.append(len(took_ms) / lasted_s)
        self._took_ms += took_ms
        self._replica_ms.append(replica_s * 1000 / len(took_ms))

    @property
    def per_s(self) -> float:
        return median(self._rates)

    def figures(self, what: str) -> dict[str, Any]:
        return {
            f"{what}_per_s": round(self.per_s),
            f"{what}_ms_p50": round(percentile(self._took_ms, 0.5), 2),
            f"{what}_ms_p99": round(percentile(self._took_ms, 0.99), 2),
            f"{what}_replica_cpu_ms": round(median(self._replica_ms), 3),
        }


async def _in_turns(
    door: _Door, demo: DemoProcess, guild_id: str, seconds: float, rounds: int
) -> dict[str, _Turns]:
    requests = {
        "cached": door.request(f"/api/servers/{guild_id}/metrics?period=day"),
        "constant": door.request("/api/ping"),
    }
    replica = next(process for process in demo.descendants() if "ServeReplica:api:api" in _name(process))
    connections = await _warmed_up(demo.port, requests["cached"])
    turns = {name: _Turns() for name in requests}
    before = await door.counts()
    for _ in range(rounds):
        for name, request in requests.items():
            cpu_s, started = _cpu_s(replica), time.perf_counter()
            took_ms = await _together(connections, request, seconds)
            turns[name].add(took_ms, time.perf_counter() - started, _cpu_s(replica) - cpu_s)
    after = await door.counts()
    if after["misses"] > before["misses"]:
        raise ServiceFailed("The answers were not all remembered, so nothing was measured.")
    for connection in connections:
        connection.close()
    return turns


async def _warmed_up(port: int, request: bytes) -> list[_Connection]:
    """Return connections that were used for a while.

    Serve gives HAProxy a new configuration some moments after the start; it closes its kept connections then.
    """
    for attempt in itertools.count(1):
        connections = await _connect(port, CONNECTIONS)
        try:
            await _together(connections, request, WARM_UP_S)
        except ConnectionClosed:
            if attempt == WARM_UPS:
                raise
            for connection in connections:
                connection.close()
        else:
            break
    return connections


async def _together(connections: list[_Connection], request: bytes, seconds: float) -> list[float]:
    until = time.perf_counter() + seconds
    await asyncio.gather(*(connection.ask(request, until) for connection in connections))
    return [ms for connection in connections for ms in connection.took_ms]


async def _crowd(door: _Door, demo: DemoProcess, guild_id: str, crowd: int) -> dict[str, Any]:
    """Let many ask at once what nobody has asked before; count what that cost the database.

    Nothing else reads the hourly rows while nobody posts: how often they are read for one request, and for
    a crowd, says how many queries it was.
    """
    rows = await asyncpg.connect(demo.database_url)
    try:
        at_rest = await _reads(rows)
        await door.person.get(f"/api/servers/{guild_id}/metrics?period=week")
        for_one = await _reads(rows, more_than=at_rest) - at_rest
        connections = await _connect(demo.port, crowd)
        before, started = await door.counts(), time.perf_counter()
        request = door.request(f"/api/servers/{guild_id}/metrics?period=month")
        took_ms = await _together(connections, request, seconds=0.0)
        lasted_s, after = time.perf_counter() - started, await door.counts()
        bodies = {connection.body for connection in connections}
        for connection in connections:
            connection.close()
        for_all = await _reads(rows, more_than=at_rest + for_one) - at_rest - for_one
    finally:
        await rows.close()
    return {
        "crowd": len(took_ms),
        "crowd_queries": round(for_all / for_one, 2),
        "crowd_loads": round(after["misses"] - before["misses"]),
        "crowd_shared_a_load": round(after["shared"] - before["shared"]),
        "crowd_different_answers": len(bodies),
        "crowd_answered_after_ms": round(lasted_s * 1000),
        "crowd_ms_p50": round(percentile(took_ms, 0.5)),
    }


async def _reads(rows: Any, more_than: int = -1) -> int:
    """Return how often the hourly rows were read, once everything that was done is told."""
    deadline = time.perf_counter() + _STATISTICS_WITHIN_S
    found = -1
    while time.perf_counter() < deadline or found <= more_than:
        found = await rows.fetchval(
            "SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) FROM pg_stat_user_tables"
            " WHERE relname LIKE 'metrics\\_hourly%'"
        )
        await asyncio.sleep(0.5)
        if time.perf_counter() > deadline + _STATISTICS_WITHIN_S:
            raise ServiceFailed("Postgres does not tell how often the hourly rows were read.")
    return int(found)


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
