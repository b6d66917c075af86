"""How often somebody may ask, and who that is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from domain.rates import Rates
from tests.serve_app.web import PLAIN, Web, membership, running

RATES = Rates(
    reads="5 per 10 seconds", changes="2 per minute", logins="3 per minute", strangers="4 per 10 seconds"
)


@pytest.fixture
async def strict(static_dir: Path) -> AsyncIterator[Web]:
    """Run the application with rates that a test can reach."""
    async with running(PLAIN, static_dir, RATES) as web:
        yield web


def from_address(web: Web, address: str, *forwarded: str) -> httpx2.AsyncClient:
    """Return a browser that comes from an address, and says that others are behind it."""
    headers = [("x-forwarded-for", each) for each in forwarded]
    transport = httpx2.ASGITransport(app=web.app, client=(address, 40_000))
    return httpx2.AsyncClient(transport=transport, base_url=PLAIN, headers=headers)


def check_refusal(answer: httpx2.Response, seconds: int) -> None:
    body = answer.json()
    assert (answer.status_code, body["error_code"]) == (429, "too_many_requests")
    assert answer.headers["retry-after"] == str(seconds)
    assert body["details"] == {"retry_after_s": seconds}
    assert str(seconds) in body["error"]
    assert body["error"].endswith(".")


async def test_a_person_may_look_so_often(strict: Web) -> None:
    """Over all browsers and routes together; then a sentence, and when to come back. Others go on."""
    browsers = [await strict.browser_of(membership(owns=True)) for _ in range(2)]
    somebody_else = await strict.browser_of(user_id=2)
    paths = ["/api/auth/me", "/api/servers", "/api/servers/40/metrics", "/api/servers/40/violations"]
    for number in range(5):
        answer = await browsers[number % 2].get(paths[number % 4])
        assert answer.status_code == 200
        strict.clock.advance(1_000)
    for browser in browsers:
        check_refusal(await browser.get("/api/auth/me"), 5)
    assert (await somebody_else.get("/api/auth/me")).status_code == 200
    strict.clock.advance(4_001)
    check_refusal(await browsers[0].get("/api/auth/me"), 1)  # rounded up: it must hold what it promises
    strict.clock.advance(999)
    assert (await browsers[0].get("/api/auth/me")).status_code == 200
    check_refusal(await browsers[0].get("/api/auth/me"), 1)


async def test_a_person_may_change_so_often(strict: Web) -> None:
    """Also what is refused for another reason counts; looking is counted by itself."""
    browser = await strict.browser_of()
    for _ in range(2):
        assert (await browser.post("/api/auth/logout")).status_code == 403
    check_refusal(await browser.post("/api/auth/logout", headers={"x-csrf-token": "csrf-1"}), 60)
    assert (await browser.get("/api/auth/me")).status_code == 200


async def test_an_address_may_log_in_so_often(strict: Web) -> None:
    """Login and callback together; somebody elsewhere is not kept out, nor who is logged in here."""
    logged_in = await strict.browser_of()
    here, there = from_address(strict, "198.51.100.1"), from_address(strict, "198.51.100.2")
    assert (await here.get("/api/auth/login")).status_code == 307
    assert (await here.get("/api/auth/callback")).status_code == 303
    assert (await here.get("/api/auth/login")).status_code == 307
    check_refusal(await here.get("/api/auth/login"), 60)
    check_refusal(await here.get("/api/auth/callback", params={"state": "x", "code": "y"}), 60)
    assert (await there.get("/api/auth/login")).status_code == 307
    assert (await logged_in.get("/api/auth/me")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/auth/me", 401),
        ("GET", "/api/servers/40/metrics", 401),
        ("GET", "/api/nothing", 404),
        ("POST", "/api/nothing", 404),
        ("DELETE", "/api/servers", 405),
        ("POST", "/api/ping", 405),
        ("PUT", "/", 405),
        ("GET", "/api/openapi.json", 200),
    ],
)
async def test_a_stranger_may_ask_so_often(strict: Web, method: str, path: str, status: int) -> None:
    """Also for what is not there, and with cookies that open nothing; others go on."""
    stranger = from_address(strict, "198.51.100.1")
    for number in range(4):
        stranger.cookies.set("guildhall", f"made-up-{number}")
        assert (await stranger.request(method, path)).status_code == status
    check_refusal(await stranger.request(method, path), 10)
    assert (await from_address(strict, "198.51.100.2").request(method, path)).status_code == status


@pytest.mark.parametrize("path", ["/health", "/metrics", "/api/ping", "/"])
async def test_whoever_watches_over_us_is_never_refused(strict: Web, path: str) -> None:
    """What others at the same address did before counts for nothing, and neither does asking itself."""
    here = from_address(strict, "198.51.100.1")
    for _ in range(4):
        await here.get("/api/auth/me")
    check_refusal(await here.get("/api/auth/me"), 10)
    for _ in range(6):
        assert (await here.get(path)).status_code == 200


@pytest.mark.parametrize("known", [True, False])
async def test_a_body_is_not_read_before_its_request_is_counted(strict: Web, *, known: bool) -> None:
    """Nobody can have bodies parsed beyond their rate, and a stranger none at all, wherever they are sent."""
    browser = await strict.browser_of() if known else from_address(strict, "198.51.100.1")
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"[" + b"[]," * 20_000 + b"[]]"

    statuses = [
        (
            await browser.post("/api/nothing", content=body(), headers={"content-type": "application/json"})
        ).status_code
        for _ in range(6)
    ]
    allowed = 2 if known else 4
    assert statuses == [404] * allowed + [429] * (6 - allowed)
    assert read == (allowed if known else 0)


async def test_somebody_whose_session_cannot_be_looked_up_counts_as_a_stranger(strict: Web) -> None:
    """503 within the rate of their address, then 429."""
    browser = from_address(strict, "198.51.100.1")
    browser.cookies.set("guildhall", "somebodys-session")
    strict.sessions.available = False
    for _ in range(4):
        assert (await browser.get("/api/auth/me")).status_code == 503
    check_refusal(await browser.get("/api/auth/me"), 10)


async def test_whose_word_is_not_taken_cannot_change_their_address(strict: Web) -> None:
    """What a browser writes into X-Forwarded-For is its own business, in front of the proxy and behind it."""
    for number in range(4):
        spoofing = from_address(strict, "198.51.100.1", f"203.0.113.{number}")
        assert (await spoofing.get("/api/auth/me")).status_code == 401
    check_refusal(await from_address(strict, "198.51.100.1", "203.0.113.77").get("/api/auth/me"), 10)
    # Our proxy adds whom it sees to what it is given.
    for given in (
        ["203.0.113.1, 198.51.100.1"],
        ["203.0.113.2", "198.51.100.1"],
        ["nonsense,, 198.51.100.1"],
    ):
        check_refusal(await from_address(strict, "127.0.0.1", *given).get("/api/auth/me"), 10)
    assert (await from_address(strict, "127.0.0.1", "203.0.113.1").get("/api/auth/me")).status_code == 401


async def test_a_chain_of_proxies_is_followed_as_far_as_it_is_trusted(static_dir: Path) -> None:
    """Who came to the outermost proxy that is ours."""
    async with running(PLAIN, static_dir, RATES, trusted_proxies=("127.0.0.1", "10.0.0.0/8")) as web:
        for number in range(4):
            chain = f"203.0.113.{number}, 198.51.100.1, 10.1.2.3"
            assert (await from_address(web, "127.0.0.1", chain).get("/api/auth/me")).status_code == 401
        chain = "198.51.100.1, 10.9.9.9"
        check_refusal(await from_address(web, "10.0.0.1", chain).get("/api/auth/me"), 10)


@pytest.mark.parametrize(
    ("addresses", "same"),
    [
        (("2001:db8::1", "2001:db8::ffff:1"), True),
        (("2001:db8::1", "2001:db8:0:1::1"), False),
        (("::ffff:198.51.100.1", "198.51.100.1"), True),
        (("", "not an address"), True),
        (("198.51.100.1", "198.51.100.2"), False),
    ],
)
async def test_an_ipv6_network_is_one_household(
    strict: Web, addresses: tuple[str, str], *, same: bool
) -> None:
    """Whoever has 2^64 addresses is counted once; an IPv4 address is one however it is written."""
    for _ in range(4):
        assert (await from_address(strict, addresses[0]).get("/api/auth/me")).status_code == 401
    answer = await from_address(strict, addresses[1]).get("/api/auth/me")
    assert answer.status_code == (429 if same else 401)


async def test_limits_hold_while_sessions_are_away(strict: Web) -> None:
    """Who was seen is counted on, and who was not is refused without being let in."""
    browser = await strict.browser_of()
    assert (await browser.get("/api/auth/me")).status_code == 200
    strict.sessions.available = False
    for _ in range(4):
        assert (await browser.get("/api/auth/me")).status_code == 200
    check_refusal(await browser.get("/api/auth/me"), 10)


async def test_the_usual_rates_let_people_work(static_dir: Path) -> None:
    """A moderator who clicks quickly is not stopped."""
    async with running(PLAIN, static_dir, Rates()) as web:
        browser = await web.browser_of(membership(owns=True))
        for _ in range(100):
            assert (await browser.get("/api/servers")).status_code == 200
        web.clock.advance(10_000)
        for _ in range(20):
            assert (await browser.post("/api/auth/logout")).status_code == 403


def test_the_rates_have_their_names() -> None:
    """Every rate is one of the port's."""
    assert set(msgspec.structs.asdict(Rates())) == {"reads", "changes", "logins", "strangers", "handshakes"}
