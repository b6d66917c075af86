"""Every refusal has one form, every answer its id and the security headers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from fastapi.responses import StreamingResponse

from adapters.memory.samples import violation
from domain.errors import StoreUnavailable
from domain.supervision import ChildView
from serve_app import app
from serve_app.middleware import CONTENT_SECURITY_POLICY
from tests.serve_app.declared import declared
from tests.serve_app.test_servers import happen
from tests.serve_app.web import GUILD, PLAIN, Web, ask_raw, membership, running

METRICS = "/api/servers/40/metrics"


class Broken(Exception):
    """Says what nobody outside may read."""


def break_store(web: Web, monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    async def broken(*_: object, **__: object) -> Any:
        raise problem

    for call in ("hours", "guilds"):
        monkeypatch.setattr(web.store, call, broken)


async def answer_of(web: Web, status: int, monkeypatch: pytest.MonkeyPatch) -> httpx2.Response:
    """Bring about an answer with a status."""
    owner = await web.browser_of(membership(owns=True))
    match status:
        case 200:
            return await owner.get(METRICS)
        case 307:
            return await owner.get("/api/auth/login")
        case 401:
            return await web.new_browser().get(METRICS)
        case 403:
            return await (await web.browser_of(membership())).get(METRICS)
        case 404:
            return await owner.get("/api/nothing")
        case 405:
            return await owner.delete("/api/servers")
        case 422:
            return await owner.get(METRICS, params={"period": "year"})
        case 500:
            break_store(web, monkeypatch, Broken("password=hunter2"))
            return await owner.get(METRICS)
        case _:
            web.database.available = False
            return await owner.get(METRICS)


def check_form(answer: httpx2.Response) -> dict[str, Any]:
    """Check an answer's form of errors; return its body."""
    body: dict[str, Any] = answer.json()
    assert set(body) == {"error", "error_code", "details", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["error"].endswith(".") or body["error_code"] == "http_error"
    assert body["error_code"].replace("_", "").isalpha()
    return body


@pytest.mark.parametrize("status", [401, 403, 404, 405, 422, 500, 503])
async def test_every_refusal_has_one_form(web: Web, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, a code, details or null, and the id that the header carries too."""
    answer = await answer_of(web, status, monkeypatch)
    assert answer.status_code == status
    check_form(answer)


@pytest.mark.parametrize("status", [200, 307, 401, 403, 404, 405, 422, 500, 503])
async def test_every_answer_carries_the_headers(
    web: Web, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer may be framed, sniffed or cached, whatever became of its request."""
    headers = (await answer_of(web, status, monkeypatch)).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]
    assert headers["cache-control"] == ("no-store, no-transform" if status == 307 else "no-store")
    assert len(headers["x-request-id"]) >= 8
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("status", [200, 307, 401, 404, 422, 500, 503])
async def test_tls_is_held_to(tls: Web, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind TLS every answer tells the browser to stay there."""
    answer = await answer_of(tls, status, monkeypatch)
    assert answer.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


@pytest.mark.parametrize("path", ["/api/auth/me", "/api/auth/login", "/api/auth/nothing"])
async def test_nobody_may_compress_what_lies_beside_a_secret(web: Web, path: str) -> None:
    """Names that others chose stand beside the CSRF token: its length would tell what is right of a guess."""
    answer = await (await web.browser_of()).get(path)
    assert answer.headers["cache-control"] == "no-store, no-transform"


async def test_what_broke_is_told_to_the_log_only(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a bug names nothing of it; the log has it, with the id that the answer names."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logs:
        answer = await answer_of(web, 500, monkeypatch)
    assert check_form(answer)["error_code"] == "internal_error"
    assert "hunter2" not in answer.text
    assert "Broken" not in answer.text
    [entry] = [entry for entry in logs if entry["event"] == "request_broke"]
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["exc_info"]


async def test_half_an_answer_is_cut(static_dir: Path) -> None:
    """What breaks while its answer goes out is not made to look whole: the server cuts the connection."""
    async with running(PLAIN, static_dir) as web:

        async def half() -> Any:
            yield b"half"
            raise Broken

        web.app.router.routes.insert(0, web.app.router.routes.pop())  # before the page, which takes all
        web.app.add_api_route("/half", lambda: StreamingResponse(half()))
        web.app.router.routes.insert(0, web.app.router.routes.pop())
        with pytest.raises(Broken):
            await web.browser.get("/half")


@pytest.mark.parametrize("path", ["/api/servers", METRICS, "/api/servers/40/violations"])
async def test_a_database_that_is_away_is_said(web: Web, path: str) -> None:
    """503 and not 500; a role that cannot be read is no permission."""
    owner = await web.browser_of(membership(owns=True))
    web.database.available = False
    answer = await owner.get(path)
    assert (answer.status_code, check_form(answer)["error_code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/api/auth/me", "/api/servers", METRICS, "/api/auth/login"])
async def test_sessions_that_are_away_are_said(web: Web, path: str) -> None:
    """Somebody whose session cannot be checked is not told that they are logged out."""
    owner = await web.browser_of(membership(owns=True))
    web.sessions.available = False
    answer = await owner.get(path)
    assert (answer.status_code, check_form(answer)["error_code"]) == (503, "sessions_unavailable")


async def test_health_names_what_is_away(web: Web) -> None:
    """Health is 200 when all answers, and 503 with the name of what does not."""
    answer = await web.browser.get("/health")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "ok", "database": "ok", "sessions": "ok", "ailing": [], "network": "unknown", "away": []},
    )
    web.database.available = False
    answer = await web.browser.get("/health")
    assert (answer.status_code, answer.json()["away"]) == (503, ["database"])
    said = answer.json()
    assert (said["status"], said["database"], said["sessions"]) == ("degraded", "away", "ok")
    head = await web.browser.head("/health")
    assert (head.status_code, head.content) == (503, b"")
    web.database.available, web.sessions.available = True, False
    assert (await web.browser.get("/health")).json()["sessions"] == "away"
    web.sessions.available = True
    assert (await web.browser.head("/health")).status_code == 200


async def test_health_waits_for_nothing_that_hangs(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names all that does not answer, in the time of one."""

    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "ANSWERS_WITHIN_S", 0.05)
    for port, call in (
        (web.store, "ping"),
        (web.sessions, "ping"),
        (web.supervision, "read"),
        (web.network, "silent"),
    ):
        monkeypatch.setattr(port, call, hang)
    answer = await web.browser.get("/health")
    assert (answer.status_code, answer.json()["away"]) == (503, ["database", "sessions", "director"])


async def test_health_tells_how_the_network_is(web: Web) -> None:
    """It is no reason to take a replica away: what is stored is answered all the same."""
    well = ChildView(name="rbac", state="healthy", since=1, restarts=4, error="It does not answer.")
    lost = ChildView(name="runner r0", state="unhealthy", since=1, restarts=0, error="1 of 2 shards.")
    for children, said in (([well], "ok"), ([well, lost], "degraded")):
        await web.supervision.publish(children)
        answer = await web.browser.get("/health")
        assert (answer.status_code, answer.json()["network"]) == (200, said)
        assert answer.json()["away"] == [child.name for child in children if child is lost]
        web.clock.advance(1_000)
    web.network.silent_names = ["host h1"]
    web.clock.advance(1_000)
    assert (await web.browser.get("/health")).json()["away"] == ["host h1", "runner r0"]
    web.network.silent_names = []
    web.supervision.available = False
    web.clock.advance(1_000)
    assert (await web.browser.get("/health")).json()["network"] == "unknown"


@pytest.mark.parametrize("given", ["abcdefgh", "0123-4567_89.ab", "x" * 64])
async def test_a_sane_request_id_is_kept(web: Web, given: str) -> None:
    """A front door may number the requests."""
    answer = await web.browser.get("/api/nothing", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given
    assert check_form(answer)["request_id"] == given


@pytest.mark.parametrize(
    "given",
    [b"", b"short", b"x" * 65, b"with space", b"new\nline-in-it", b"<script>alert</script>", b"\xff" * 10],
)
async def test_a_hostile_request_id_is_replaced(web: Web, given: bytes) -> None:
    """What could forge a line of the log or an answer does not get there."""
    answer = await ask_raw(web.app, "/api/nothing", headers=((b"x-request-id", given),))
    assert answer.headers["x-request-id"].encode("latin-1") != given
    assert len(check_form(answer)["request_id"]) == 16


async def test_of_two_request_ids_the_first_counts(web: Web) -> None:
    """A repeated header makes one id, not two."""
    headers = ((b"x-request-id", b"first-one"), (b"x-request-id", b"second-one"))
    answer = await ask_raw(web.app, "/api/nothing", headers=headers)
    assert answer.headers.get_list("x-request-id") == ["first-one"]


async def test_a_method_that_is_not_allowed_names_those_that_are(web: Web) -> None:
    """405 says what one may do instead."""
    answer = await web.browser.delete("/api/servers")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert check_form(answer)["error_code"] == "method_not_allowed"
    assert (await web.browser.post("/api/nothing")).status_code == 404


async def test_every_path_names_all_that_may_be_done_there(web: Web) -> None:
    """Whichever of its routes is met first."""
    routes = declared(web.app)
    allowed = {url: {route.method for route in routes if route.url == url} for url in {r.url for r in routes}}
    for url, methods in allowed.items():
        answer = await web.browser.request("TRACE", url)
        named = set(answer.headers["allow"].split(", "))
        assert (url, answer.status_code) == (url, 405)
        assert named >= methods | ({"HEAD"} if "GET" in methods else set())


MOVES = {"/health", "/metrics"}
"""What these say changes from one question to the next."""


async def test_head_is_get_without_its_body(web: Web) -> None:
    """For every route that can be read, refusals included."""
    owner = await web.browser_of_role("owner")
    await happen(web, violation(GUILD, 1))
    for browser in (owner, web.new_browser()):
        for route in declared(web.app):
            if route.method != "GET" or route.path in {"/api/auth/login", "/api/auth/callback"}:
                continue
            got, head = await browser.get(route.url), await browser.head(route.url)
            assert (route.url, head.status_code, head.content) == (route.url, got.status_code, b"")
            assert head.headers["content-type"] == got.headers["content-type"]
            if route.path not in MOVES:
                assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("name", ["authorization", "x-forwarded-host", "accept"])
async def test_nonsense_in_headers_breaks_nothing(web: Web, name: str) -> None:
    """Bytes that are no text, and headers said twice, do not make a request fail."""
    nonsense = ((name.encode(), b"\xff\x00\xfe"), (name.encode(), b"%zz%00"))
    assert (await ask_raw(web.app, "/", headers=nonsense)).status_code == 200


async def test_the_ports_live_as_long_as_the_application(static_dir: Path) -> None:
    """They are opened once when it starts, and closed once when it ends."""
    async with running(PLAIN, static_dir) as web:
        assert (web.opened, web.closed) == (1, 0)
    assert (web.opened, web.closed) == (1, 1)


async def test_a_failing_database_is_not_described(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's own words stay inside."""
    owner = await web.browser_of(membership(owns=True))
    break_store(web, monkeypatch, StoreUnavailable("host=10.0.0.1"))
    answer = await owner.get(METRICS)
    assert answer.status_code == 503
    assert "10.0.0.1" not in answer.text
