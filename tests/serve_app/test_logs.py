"""What a replica writes down: a line of JSON an event, with the request's id, and nobody's secrets."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from actors.logs import configure_logs
from adapters.memory.samples import person
from domain.errors import DiscordUnavailable
from domain.sessions import Identity
from serve_app.sessions import FRESH_MS
from tests.serve_app.test_errors import Broken, break_store
from tests.serve_app.web import Web, membership

log = structlog.get_logger()


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Catch what is written, as it is written."""
    stream = io.StringIO()
    configure_logs(stream)
    yield stream
    configure_logs()


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    """Return the events; each is one line, whatever is in it."""
    return [json.loads(line) for line in written.getvalue().splitlines()]


async def look_later(web: Web, **headers: str) -> None:
    """Ask when the guilds are to be refreshed; return when that is over."""
    web.clock.advance(FRESH_MS)
    await web.browser.get("/api/auth/me", headers=headers)
    await web.app.state.ports.sessions.settle()


async def test_no_secret_is_written_down(
    web: Web, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole login, a logout, and everything that can go wrong: no token, cookie, code, query or body."""
    state = await web.begin_login("/servers/40?tab=secret-query")
    verifier = web.sessions.pending[state].code_verifier
    web.login.allow("secret-code", verifier, Identity(person(), (membership(owns=True),)))
    browser = web.browser
    await browser.get("/api/auth/callback", params={"state": state, "code": "secret-code"})
    token = browser.cookies["guildhall"]
    tokens = await web.sessions.tokens(token)
    assert tokens is not None
    me = (await browser.get("/api/auth/me")).json()
    csrf = {"x-csrf-token": me["csrf_token"]}
    # Refused: a code and a state a second time, a token of somebody else, nonsense, too much of it.
    await browser.get("/api/auth/callback", params={"state": state, "code": "secret-code"})
    again = await web.begin_login()
    await browser.get("/api/auth/callback", params={"state": again, "code": "secret-code-2"})
    await browser.get("/api/auth/callback", params={"error": "secret-error", "state": again})
    await browser.post("/api/auth/logout", headers={"x-csrf-token": "secret-csrf"})
    await browser.post("/api/auth/logout", json={"x": "secret-body"})
    await browser.post("/api/auth/logout", headers=csrf, content=b'{"secret-body": 1, "secret-body": 2}')
    await web.new_browser("secret-cookie").get("/api/auth/me?secret-query=1")
    await browser.get("/api/auth/me", headers={"authorization": "Bearer secret-bearer"})
    # Something breaks where the secrets are at hand.
    for problem in (DiscordUnavailable("Discord answered 503."), Broken()):
        web.login.problem = problem
        await look_later(web)
    with monkeypatch.context() as broken:
        break_store(web, broken, Broken())
        assert (await browser.get("/api/servers/40/metrics?period=week")).status_code == 500
    # Discord refuses the person; then a logout.
    web.login.problem = None
    web.login.disown(1)
    await look_later(web)
    await browser.post("/api/auth/logout", headers=csrf)
    everything = written.getvalue()
    secrets = [token, tokens.access_token, tokens.refresh_token, state, again, verifier, me["csrf_token"]]
    for secret in [*secrets, "secret-"]:
        assert secret not in everything
    events = {line["event"] for line in lines(written)}
    assert {"request", "request_broke", "login_failed", "guilds_not_refreshed", "session_refused"} <= events
    assert "Broken" in everything  # where it broke is told


async def test_every_line_of_a_request_names_it(
    web: Web, written: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is written behind the answer, and nothing after it."""
    state = await web.begin_login()
    web.login.allow("good", web.sessions.pending[state].code_verifier, Identity(person(), (membership(),)))
    await web.browser.get("/api/auth/callback", params={"state": state, "code": "good"})
    web.login.problem = DiscordUnavailable()
    await look_later(web, **{"x-request-id": "first-request"})
    break_store(web, monkeypatch, Broken())
    owner = await web.browser_of(membership(owns=True), user_id=2)
    await owner.get("/api/servers/40/metrics", headers={"x-request-id": "second-request"})
    log.info("no request of anybody's")
    by_request: dict[str | None, set[str]] = {}
    for line in lines(written):
        by_request.setdefault(line.get("request_id"), set()).add(line["event"])
    assert by_request["first-request"] == {"request", "guilds_not_refreshed"}
    assert by_request["second-request"] == {"request", "request_broke"}
    assert by_request[None] == {"no request of anybody's"}


async def test_a_request_is_one_line(web: Web, written: io.StringIO) -> None:
    """How it ended and how long it took; what strangers put into a path begins no line of its own."""
    await web.browser.get("/a%0A%7B%22event%22%3A%22forged%22%7D?b=c", headers={"x-request-id": "abcdefgh"})
    [line] = lines(written)
    assert line["ms"] >= 0
    assert (line["event"], line["method"], line["status"]) == ("request", "GET", 404)
    assert line["path"] == '/a\n{"event":"forged"}'


def test_a_traceback_shows_no_values(written: io.StringIO) -> None:
    """Where it broke, and not what was there; whatever is to be written can be."""

    def opens(password: str) -> None:
        del password
        raise Broken

    try:
        opens("hunter2")
    except Broken:
        log.exception("broke", odd="\ud800", huge=2**99, thing=object())
    [line] = lines(written)
    assert "in opens" in line["exception"]
    assert line["exception"].endswith("Broken")
    assert "hunter2" not in line["exception"].replace('opens("hunter2")', "")
