"""The front door: HAProxy with Ray's configuration and our rules. What it refuses comes to no replica."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import aiohttp
import msgspec
import psutil
import pytest
from aiohttp import web
from yarl import URL

from guildhall.front_door import front_door
from guildhall.haproxy_rules import DoorLimits
from guildhall.settings import free_port
from guildhall.testing import DemoProcess
from serve_app.middleware import SECURITY_HEADERS
from tests.waiting import eventually

LIMITS = DoorLimits(
    connections=5,
    requests="20 per 10 seconds",
    burst="100 per second",
    at_once=3,
    refusals="6 per 10 seconds",
    probes="30 per 10 seconds",
    request_timeout_s=1,
    client_timeout_s=2,
    keep_alive_timeout_s=4,
    socket_timeout_s=2,
    trusted_proxies=("127.0.0.1", "10.0.0.0/8"),
    behind_tls=True,
)

_RENDER = """
import sys
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

folder, port, *ports = sys.argv[1:]
servers = [ServerConfig(name=f"replica{one}", host="127.0.0.1", port=int(one)) for one in ports[3:]]
HAProxyApi(
    HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=int(port)),
        socket_path=f"{folder}/admin.sock",
        server_state_base=folder,
        server_state_file=f"{folder}/state",
        metrics_socket_path=f"{folder}/metrics.sock",
        metrics_port=int(ports[0]),
        stats_port=int(ports[1]),
        has_received_routes=True,
        has_received_servers=True,
    ),
    {"api": BackendConfig(name="api", path_prefix="/", app_name="api", servers=servers)},
    config_file_path=f"{folder}/haproxy.cfg",
)._generate_config_file_internal()
"""


class Door:
    """HAProxy before two replicas that tell what came to them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.came: list[str] = []
        """The requests that got through, by method and path."""
        self.hold = asyncio.Event()
        """Until then requests to ``/api/held`` get no answer."""
        self.deaths = 0
        """So many more requests to ``/api/dies`` end without a word."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Say which headers came."""
        if request.path == "/-/healthz":  # HAProxy's own question
            return web.Response()
        self.came.append(f"{request.method} {request.path}")
        if request.path == "/api/dies" and self.deaths:
            self.deaths -= 1
            assert request.transport is not None
            request.transport.abort()
        if request.path == "/api/held":
            await self.hold.wait()
        if request.path.startswith("/api/refused"):
            return web.Response(status=404)
        if request.path == "/ws":
            socket = web.WebSocketResponse(heartbeat=None)
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data)
            return socket
        if request.can_read_body:
            await request.read()
        headers = {"Server": "uvicorn", "X-Frame-Options": "SAMEORIGIN"}
        headers["X-Request-ID"] = request.headers["X-Request-ID"]
        if request.path.startswith("/assets/"):
            headers |= {"Cache-Control": "public, max-age=31536000", "Vary": "Accept-Encoding"}
        if request.path == "/api/secret":
            headers["Cache-Control"] = "no-store, no-transform"
        text = json.dumps({name.lower(): value for name, value in request.headers.items()})
        return web.Response(text=text, content_type="application/json", headers=headers)


@pytest.fixture
async def door(rendered: tuple[Path, int, list[int]], request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    """Start HAProxy anew, so that nothing is counted yet; a test may have limits of its own."""
    folder, port, replicas = rendered
    front_door(folder, getattr(request, "param", LIMITS))
    (folder / "haproxy.cfg").write_bytes((folder / "by-ray.cfg").read_bytes())
    door = Door(port)
    async with contextlib.AsyncExitStack() as stack:
        for replica in replicas:
            application = web.Application(client_max_size=1 << 20)
            application.router.add_route("*", "/{path:.*}", door.answer)
            runner = web.AppRunner(application, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", replica, reuse_address=True).start()
        haproxy = await asyncio.create_subprocess_exec(
            folder / "haproxy",
            *("-db", "-f", folder / "haproxy.cfg"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.push_async_callback(haproxy.wait)
        stack.callback(haproxy.kill)
        async with aiohttp.ClientSession() as http:

            async def up() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{door.url}/health") as answer:
                        return answer.status == 200
                return False

            await eventually(up)
        door.came.clear()
        stack.callback(door.hold.set)
        yield door


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int, list[int]]]:
    """Let Ray write a configuration, and our program beside it."""
    folder = tmp_path_factory.mktemp("h")
    ports = [free_port() for _ in range(5)]
    command = [sys.executable, "-c", _RENDER, str(folder), *map(str, [ports[0], *ports[1:3], 0, *ports[3:]])]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "haproxy.cfg").rename(folder / "by-ray.cfg")
    return folder, ports[0], ports[3:]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


def from_address(address: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0)))


async def check_refusal(answer: aiohttp.ClientResponse, status: int, code: str) -> None:
    """Check that an answer of the door's own has the one form of errors, and its headers."""
    body = await answer.json()
    assert (answer.status, body["error_code"]) == (status, code)
    assert body.keys() == {"error", "error_code", "details", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert SECURITY_HEADERS.items() <= {k.lower(): v for k, v in answer.headers.items()}.items()
    assert answer.headers["cache-control"] == "no-store"
    assert "includeSubDomains" in answer.headers["strict-transport-security"]


def check_error_file(said: bytes, code: str) -> None:
    """Check that an answer of HAProxy's own to a request has the one form of errors, and its headers."""
    head, _, body = said.decode().partition("\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:])
    assert json.loads(body)["error_code"] == code
    assert SECURITY_HEADERS.keys() | {"strict-transport-security"} <= headers.keys()
    assert headers["cache-control"] == "no-store"


async def raw(port: int, data: bytes) -> tuple[bytes, float]:
    """Send bytes and nothing more; return what came until the door closed, and after how many seconds."""
    began, said = time.monotonic(), b""
    async with connection(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            async with asyncio.timeout(20):
                while part := await reader.read(1 << 16):
                    said += part
    return said, time.monotonic() - began


@contextlib.asynccontextmanager
async def connection(
    port: int, address: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_an_address_may_ask_so_often(door: Door) -> None:
    """For whatever it is; then 429 before any replica. Whoever watches over us is never refused."""
    async with from_address("127.0.0.2") as flood, from_address("127.0.0.3") as other:
        for number in range(20):
            async with flood.get(f"{door.url}/nothing/{number}") as answer:
                assert answer.status == 200
        door.came.clear()
        for path in ("/", "/api/ping", "/assets/a.js"):
            async with flood.get(door.url + path) as answer:
                await check_refusal(answer, 429, "too_many_requests")
                assert answer.headers["retry-after"] == "10"
        assert door.came == []
        for path in ("/health", "/metrics"):
            for method in ("GET", "HEAD"):
                async with flood.request(method, door.url + path) as answer:
                    assert answer.status == 200
        async with other.get(door.url) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("chains", "same"),
    [
        (["9.9.9.1", "9.9.9.1"], True),
        (["9.9.9.1", "9.9.9.2"], False),
        (["1.1.1.1, 9.9.9.1", "2.2.2.2, 9.9.9.1"], True),
        (["9.9.9.1, 10.1.2.3", "9.9.9.1, 10.9.9.9, 10.1.1.1"], True),
        (["9.9.9.1, 10.1.2.3", "9.9.9.2, 10.1.2.3"], False),
        (["2001:db8::1", "2001:db8::ffff:1"], True),
        (["2001:db8::1", "2001:db8:0:1::1"], False),
        (["::ffff:9.9.9.1", "::ffff:9.9.9.2"], False),
        (["nonsense", "10.1.1.1, nonsense"], True),
    ],
)
async def test_a_trusted_proxy_says_who_asks(
    door: Door, http: aiohttp.ClientSession, chains: list[str], *, same: bool
) -> None:
    """From the right, the first that is no proxy of ours; an IPv6 network is one household."""
    for _ in range(20):
        async with http.get(door.url, headers={"X-Forwarded-For": chains[0]}) as answer:
            assert answer.status == 200
    async with http.get(door.url, headers={"X-Forwarded-For": chains[1]}) as answer:
        assert answer.status == (429 if same else 200)


async def test_nobody_else_says_who_asks(door: Door) -> None:
    """What a stranger writes into X-Forwarded-For counts for nothing."""
    async with from_address("127.0.0.2") as stranger:
        statuses = []
        for number in range(22):
            async with stranger.get(door.url, headers={"X-Forwarded-For": f"9.9.9.{number}"}) as answer:
                statuses.append(answer.status)
    assert statuses == [200] * 20 + [429] * 2


@pytest.mark.parametrize("door", [msgspec.structs.replace(LIMITS, burst="5 per second")], indirect=True)
async def test_an_address_may_ask_so_often_at_one_go(door: Door) -> None:
    """A second later it may again."""
    async with from_address("127.0.0.2") as flood, from_address("127.0.0.3") as other:
        for _ in range(5):
            async with flood.get(f"{door.url}/api/x") as answer:
                assert answer.status == 200
        async with flood.get(f"{door.url}/api/x") as answer:
            await check_refusal(answer, 429, "too_many_requests")
            assert answer.headers["retry-after"] == "1"
        async with other.get(f"{door.url}/api/x") as answer:
            assert answer.status == 200


async def test_what_is_the_same_for_all_costs_a_replica_nothing(
    door: Door, http: aiohttp.ClientSession
) -> None:
    """One page at all its addresses, and files, whatever headers say; each answer has an id of its own."""
    bypass = {"Cache-Control": "no-cache", "Pragma": "no-cache", "Range": "bytes=0-1", "Cookie": "x=1"}
    bypass |= {"Host": "elsewhere", "Authorization": "x"}
    ids = set()
    for path in ("/", "/servers/1/rules", "/?x=1", "/assets/a.js", "/assets/a.js?x=1", "/robots.txt"):
        for method in ("GET", "HEAD"):
            async with http.request(method, door.url + path, headers=bypass) as answer:
                assert answer.status == 200
                assert answer.headers["cache-control"].startswith(
                    "public" if "assets" in path else "no-store"
                )
                assert SECURITY_HEADERS.keys() <= {name.lower() for name in answer.headers}
                ids.add(answer.headers["x-request-id"])
    assert door.came == ["GET /", "GET /assets/a.js", "GET /robots.txt"]
    assert len(ids) == 12
    for path in ("/api/x", "/%61pi/x", "/metrics"):
        for _ in range(2):
            async with http.get(door.url + path) as answer:
                assert answer.status == 200
    assert len(door.came) == 9


async def test_who_takes_compressed_files_gets_them(door: Door, http: aiohttp.ClientSession) -> None:
    """Though somebody who takes none has asked before."""
    for accepted, given in (
        ("identity", "identity"),
        ("gzip, deflate, br", "br"),
        ("gzip;q=0.5", "gzip"),
        ("gzip, br;q=0", "identity"),
        ("br", "br"),
    ):
        async with http.get(f"{door.url}/assets/a.js", headers={"Accept-Encoding": accepted}) as answer:
            assert (await answer.json())["accept-encoding"] == given, accepted
    assert len(door.came) == 3


async def test_an_address_has_so_many_requests_with_replicas_at_once(door: Door) -> None:
    """Sockets aside; one more is refused, and what HAProxy has in memory is not. Others have their own."""
    async with from_address("127.0.0.2") as flood, from_address("127.0.0.3") as other:
        async with flood.get(f"{door.url}/assets/a.js") as answer:
            assert answer.status == 200
        held = [asyncio.create_task(flood.get(f"{door.url}/api/held")) for _ in range(3)]

        async def all_came() -> bool:
            return door.came.count("GET /api/held") == 3

        await eventually(all_came)
        async with flood.get(f"{door.url}/api/x") as answer:
            await check_refusal(answer, 429, "too_many_at_once")
        async with flood.get(f"{door.url}/assets/a.js") as answer:
            assert answer.status == 200
        async with other.get(f"{door.url}/api/x") as answer:
            assert answer.status == 200
        async with flood.ws_connect(f"{door.url}/ws") as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "hello"
        door.hold.set()
        for answer in await asyncio.gather(*held):
            assert answer.status == 200
            answer.release()


async def test_whom_replicas_refuse_the_door_refuses(door: Door) -> None:
    """After some answers with 4xx, whatever it asks for next; not the page, nor whoever watches over us."""
    async with from_address("127.0.0.2") as flood, from_address("127.0.0.3") as other:
        for number in range(7):
            async with flood.get(f"{door.url}/api/refused/{number}") as answer:
                assert answer.status == 404
        door.came.clear()
        async with flood.get(f"{door.url}/api/x") as answer:
            await check_refusal(answer, 429, "too_many_requests")
            assert answer.headers["retry-after"] == "10"
        assert door.came == []
        for path in ("/health", "/metrics"):
            async with flood.get(door.url + path) as answer:
                assert answer.status == 200
        async with other.get(f"{door.url}/api/x") as answer:
            assert answer.status == 200


async def test_looks_at_health_have_a_limit_of_their_own(door: Door) -> None:
    """Whoever floods with them is refused them; the operator's prober, elsewhere, never is."""
    async with from_address("127.0.0.2") as flood, from_address("127.0.0.3") as prober:
        for number in range(30):
            async with flood.get(door.url + ("/health", "/metrics")[number % 2]) as answer:
                assert answer.status == 200
        async with flood.get(f"{door.url}/health") as answer:
            await check_refusal(answer, 429, "too_many_requests")
        async with prober.get(f"{door.url}/health") as answer:
            assert answer.status == 200
        async with flood.get(f"{door.url}/api/x") as answer:
            assert answer.status == 200


async def test_http2_is_not_spoken_without_tls(door: Door) -> None:
    """One connection would carry a hundred requests and sockets, and be counted as one."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
    said, took_s = await raw(door.port, preface)
    assert said.startswith(b"HTTP/1.1 4")
    assert took_s < 1
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    said, _ = await raw(door.port, b"GET /api/x HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert b"PRI" not in said
    assert door.came == ["GET /api/x"]


async def test_an_address_may_hold_so_many_connections(door: Door) -> None:
    """One more is closed without a word; when one ends there is room again. Others have their own."""

    async def taken(stack: contextlib.AsyncExitStack, address: str) -> bool:
        """Open a connection that stays for as long as the stack does; return whether it is answered."""
        with contextlib.suppress(ConnectionError):
            reader, writer = await stack.enter_async_context(connection(door.port, address))
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return await reader.read(12) == b"HTTP/1.1 200"
        return False

    async with contextlib.AsyncExitStack() as held:
        for _ in range(4):
            assert await taken(held, "127.0.0.2")
        async with contextlib.AsyncExitStack() as fifth:
            assert await taken(fifth, "127.0.0.2")
            assert not await taken(held, "127.0.0.2")
            assert await taken(held, "127.0.0.3")

        async def room_again() -> bool:
            async with contextlib.AsyncExitStack() as another:
                return await taken(another, "127.0.0.2")

        assert await eventually(room_again)


async def test_somebody_behind_a_proxy_may_hold_so_many_connections_too(
    door: Door, http: aiohttp.ClientSession
) -> None:
    """They are the proxy's, but each has its request."""
    async with contextlib.AsyncExitStack() as stack:
        one, other = {"X-Forwarded-For": "9.9.9.1"}, {"X-Forwarded-For": "9.9.9.2"}
        for _ in range(5):
            await stack.enter_async_context(http.ws_connect(f"{door.url}/ws", headers=one))
        async with http.get(door.url, headers=one) as answer:
            await check_refusal(answer, 429, "too_many_connections")
        async with http.get(door.url, headers=other) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("sent", "starts"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"HTTP/1.1 408"),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upg", b"HTTP/1.1 408"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nab", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", b"HTTP/1.1 408"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 20_000, b"HTTP/1.1 4"),
    ],
    ids=["idle", "partial headers", "half a handshake", "unsent body", "unsent chunk", "stalled body"],
)
async def test_nobody_holds_a_place_by_being_slow(door: Door, sent: bytes, starts: bytes) -> None:
    """Whatever is left unsaid; a request that is not whole comes to no replica."""
    said, took_s = await raw(door.port, sent)
    assert said.startswith(starts)
    assert took_s < 4
    if b"\r\n\r\n" in sent and b"HTTP/1.1 408" in said:
        check_error_file(said, "request_too_slow")
    assert door.came in ([], ["POST /"])  # the one whose body is larger than HAProxy's buffer


async def test_a_kept_connection_is_not_kept_for_ever(door: Door) -> None:
    """Nor a reader who takes nothing of what is under way."""
    said, took_s = await raw(door.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200")
    assert 3 < took_s < 8


async def test_a_quiet_socket_lives_longer_than_a_quiet_request(
    door: Door, http: aiohttp.ClientSession
) -> None:
    """Pings keep it; one on which nothing moves is closed."""
    async with http.ws_connect(f"{door.url}/ws") as socket:
        for _ in range(3):
            await asyncio.sleep(0.9)  # together longer than any other time here
            await socket.send_str("still here")
            assert (await socket.receive()).data == "still here"
        began = time.monotonic()
        assert (await socket.receive(timeout=10)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        assert 1 < time.monotonic() - began < 5


class Refused(NamedTuple):
    """A request, and what the door says to it."""

    status: int
    code: str
    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = MappingProxyType({})
    size: int = 0


HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
GIANT_COOKIE = {"Cookie": "x" * 9_000}


@pytest.mark.parametrize(
    "refused",
    [
        Refused(431, "headers_too_large", headers=GIANT_COOKIE),
        Refused(431, "headers_too_large", path="/ws", headers=HANDSHAKE | GIANT_COOKIE),
        Refused(431, "headers_too_large", headers={f"X-{n}": "x" * 1_000 for n in range(9)}),
        Refused(414, "address_too_long", path="/" + "x" * 5_000),
        Refused(413, "body_too_large", "POST", "/nothing", size=65_537),
        Refused(413, "body_too_large", size=65_537),
        Refused(400, "body_not_allowed", size=1),
        Refused(405, "http_error", "BREW"),
        Refused(405, "http_error", "POST", "/ws"),
        Refused(405, "http_error", "POST", "/ws/x", size=20_000),
        Refused(404, "not_found", path="/-/routes"),
        Refused(404, "not_found", path="/-/HealthZ"),
        Refused(404, "not_found", path="/%2d/routes"),
    ],
    ids=lambda refused: f"{refused.status} {refused.method} {refused.path[:10]} {refused.size}",
)
async def test_what_no_replica_need_see_comes_to_none(
    door: Door, http: aiohttp.ClientSession, refused: Refused
) -> None:
    """Refused at once, in the one form of errors."""
    data = b"x" * refused.size if refused.size else None
    address = URL(door.url + refused.path, encoded=True)
    async with http.request(refused.method, address, headers=refused.headers, data=data) as answer:
        await check_refusal(answer, refused.status, refused.code)
    assert door.came == []


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 100_000 + b"\r\n\r\n",
        b"<script>alert(1)</script>\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 5\r\n\r\nxxxxx",
    ],
    ids=["beyond any buffer", "no HTTP", "no header", "two lengths"],
)
async def test_what_is_no_request_ends_the_connection(door: Door, sent: bytes) -> None:
    """At once, with the one text that HAProxy has for it: there is no request yet that rules could answer."""
    said, took_s = await raw(door.port, sent)
    assert took_s < 0.9
    assert said == (
        b"HTTP/1.1 400 Bad request\r\nContent-length: 90\r\nCache-Control: no-cache\r\nConnection: close\r\n"
        b"Content-Type: text/html\r\n\r\n<html><body><h1>400 Bad request</h1>\n"
        b"Your browser sent an invalid request.\n</body></html>\n"
    )
    assert door.came == []


async def test_what_is_just_small_enough_goes_through(door: Door, http: aiohttp.ClientSession) -> None:
    """A header of 7 kB, an address of 4 kB, a body of 64 KiB."""
    async with http.post(
        f"{door.url}/{'x' * 4_000}", headers={"Cookie": "x" * 7_000}, data=b"x" * 65_536
    ) as answer:
        assert answer.status == 200


async def test_a_request_id_is_ours_and_there_is_one(door: Door, http: aiohttp.ClientSession) -> None:
    """A client's own never gets past the door; the answer names the one that the replica was given."""
    async with http.get(door.url, headers={"X-Request-ID": "mine-mine-mine"}) as answer:
        [request_id] = answer.headers.getall("x-request-id")
        assert (await answer.json())["x-request-id"] == request_id
    assert re.fullmatch(r"[0-9a-f-]{36}", request_id)


async def test_nobody_tells_serve_how_to_treat_their_request(door: Door, http: aiohttp.ClientSession) -> None:
    """The headers by which Ray Serve is told end at the door."""
    told = {
        "X-Request-Timeout-Seconds": "0.001",
        "X-Request-Disconnect-Disabled": "?1",
        "X-Session-ID": "\xff",
        "Serve_Multiplexed_Model_ID": "1",
        "Serve-Multiplexed-Model-ID": "1",
        "X-Serve-Router-Replica": "1",
    }
    async with http.get(door.url, headers=told | {"X-Other": "1"}) as answer:
        came = (await answer.json()).keys()
    assert "x-other" in came
    assert not came & {name.lower() for name in told}


async def test_every_answer_carries_the_headers(door: Door, http: aiohttp.ClientSession) -> None:
    """Those that a replica left out; what it says itself stays, and nobody says what it runs on."""
    async with http.get(door.url) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers.pop("x-frame-options") == "SAMEORIGIN"
    assert {k: v for k, v in SECURITY_HEADERS.items() if k != "x-frame-options"}.items() <= headers.items()
    assert "server" not in headers


async def test_a_request_that_died_with_its_replica_is_asked_again(
    door: Door, http: aiohttp.ClientSession
) -> None:
    """If it changes nothing; otherwise somebody is told that it is not known what became of it."""
    door.deaths = 1
    async with http.get(f"{door.url}/api/dies") as answer:
        assert answer.status == 200
    assert door.came == ["GET /api/dies"] * 2
    door.came.clear()
    door.deaths = 1
    async with http.post(f"{door.url}/api/dies") as answer:
        assert (answer.status, (await answer.json())["error_code"]) == (502, "unavailable")
    assert door.came == ["POST /api/dies"]


async def test_json_is_compressed_where_no_secret_lies(door: Door) -> None:
    """If the browser takes it, and the replica does not forbid it."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(door.url, headers={"Accept-Encoding": "gzip"}) as answer:
            assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
            assert json.loads(gzip.decompress(await answer.read()))["host"]
        for path, accepted in (("/", "identity"), ("/api/secret", "gzip")):
            async with http.get(door.url + path, headers={"Accept-Encoding": accepted}) as answer:
                assert "content-encoding" not in answer.headers
                assert (await answer.json())["host"]


def haproxy_settings(stack: DemoProcess) -> str:
    """Return the configuration that the stack's HAProxy was started with."""
    for process in stack.descendants():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if command and command[0].endswith("haproxy") and "-f" in command:
                return Path(command[command.index("-f") + 1]).read_text()
    raise AssertionError("no HAProxy")


async def test_the_whole_system_stands_behind_this_door(
    stack: DemoProcess, http: aiohttp.ClientSession
) -> None:
    """Serve's own addresses are not there, its answers carry what ours do, and each has one id."""
    assert "stick-table" in haproxy_settings(stack)
    for path in ("/-/routes", "/-/healthz"):
        async with http.get(stack.url + path) as answer:
            assert answer.status == 404
    async with http.get(f"{stack.url}/ws") as answer:
        assert answer.status == 426
        assert SECURITY_HEADERS.items() <= {k.lower(): v for k, v in answer.headers.items()}.items()
    async with http.get(f"{stack.url}/api/nothing", headers={"X-Request-ID": "mine-mine-mine"}) as answer:
        [request_id] = answer.headers.getall("x-request-id")
        assert (await answer.json())["request_id"] == request_id != "mine-mine-mine"
        assert "server" not in answer.headers
    for method in ("GET", "HEAD"):
        async with http.request(method, f"{stack.url}/health") as answer:
            assert answer.status == 200
    handshake = HANDSHAKE | GIANT_COOKIE
    async with http.get(f"{stack.url}/ws", headers=handshake) as answer:
        assert answer.status == 431


@pytest.mark.parametrize("path", ["/api/nothing", "/api/auth/logout", "/servers/1", "/api/ping"])
async def test_nobody_sends_one_body_for_ever(stack: DemoProcess, path: str) -> None:
    """A byte at a time, after the answer is out: the connection ends with it."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    async with connection(stack.port) as (reader, writer):
        writer.write(head.encode() + b"x" * 20_000)  # more than HAProxy waits for
        answering = asyncio.create_task(reader.read())

        async def ended() -> bool:
            with contextlib.suppress(ConnectionError):
                writer.write(b"x")
            return answering.done()

        assert await eventually(ended, within_s=8.0)
        with contextlib.suppress(ConnectionError):
            assert (await answering)[:10] == b"HTTP/1.1 4"


async def test_what_goes_out_is_small(stack: DemoProcess) -> None:
    """The page's files as they were built, JSON by HAProxy, and nothing that lies beside a secret."""
    async with aiohttp.ClientSession(auto_decompress=False) as http:
        async with http.get(stack.url) as answer:
            files = re.findall(r"/assets/[\w.-]+\.(?:js|css)", await answer.text())
        paths = [*(file for file in files if "theme" not in file), "/api/openapi.json"]
        assert len(paths) == 3
        for path in paths:
            size: dict[str, int] = {}
            for accepted in ("identity", "gzip, br"):
                async with http.get(stack.url + path, headers={"Accept-Encoding": accepted}) as answer:
                    assert answer.status == 200
                    encoding = answer.headers.get("content-encoding", "identity")
                    size[encoding] = len(await answer.read())
                    assert encoding == "identity" or answer.headers["vary"] == "Accept-Encoding"
            assert size.pop("br" if path in files else "gzip") < size.pop("identity") / 2
        async with http.get(f"{stack.url}/api/auth/me", headers={"Accept-Encoding": "gzip"}) as answer:
            assert "content-encoding" not in answer.headers


async def test_a_hostile_cookie_does_not_hold_up_others(
    stack: DemoProcess, http: aiohttp.ClientSession
) -> None:
    """As large as the door lets through, in requests and handshakes: it once took a replica's second each."""
    cookie = 'x="' + '\\"' * 3_500 + '"'
    handshake = HANDSHAKE | {"Cookie": cookie}
    began = time.monotonic()
    for _ in range(20):
        async with http.get(f"{stack.url}/api/servers", headers={"Cookie": cookie}) as answer:
            assert answer.status == 401
        async with http.get(f"{stack.url}/ws", headers=handshake) as answer:
            assert answer.status == 101
    assert time.monotonic() - began < 3
