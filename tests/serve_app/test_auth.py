"""Logging in by Discord, and out, in a browser that keeps its cookies."""

from __future__ import annotations

from http.cookies import SimpleCookie

import httpx2
import pytest

from adapters.memory.samples import person
from domain.sessions import Identity
from serve_app.sessions import SHOWN_MS
from tests.serve_app.web import PLAIN, TLS, Web, membership, query

LOGIN_MS = 600_000


async def come_back(web: Web, state: str, **query_of_discord: str) -> httpx2.Response:
    return await web.browser.get("/api/auth/callback", params={"state": state, **query_of_discord})


def allow(web: Web, state: str, code: str = "good") -> None:
    web.login.allow(code, web.sessions.pending[state].code_verifier, Identity(person(), (membership(),)))


async def log_in(web: Web, next_path: str = "/") -> httpx2.Response:
    state = await web.begin_login(next_path)
    allow(web, state)
    return await come_back(web, state, code="good")


def cookies(answer: httpx2.Response) -> SimpleCookie:
    found = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        found.load(header)
    return found


async def test_one_logs_in_looks_and_logs_out(web: Web) -> None:
    """A login ends at the page it began from, in a session that lasts until the logout."""
    answer = await log_in(web, "/servers/40?tab=live")
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PLAIN}/servers/40?tab=live")
    me = (await web.browser.get("/api/auth/me")).json()
    assert me["user"]["id"] == "1"
    kept = web.browser.cookies["guildhall"]
    gone = await web.browser.post("/api/auth/logout", headers={"x-csrf-token": me["csrf_token"]})
    assert gone.status_code == 204
    assert cookies(gone)["guildhall"]["max-age"] == "0"
    assert (await web.new_browser(kept).get("/api/auth/me")).status_code == 401


async def test_a_code_is_traded_with_the_verifier_of_its_own_login(web: Web) -> None:
    """Every login has a verifier of its own (PKCE), long enough and told to nobody."""
    first, second = await web.begin_login(), await web.begin_login()
    verifiers = {web.sessions.pending[state].code_verifier for state in (first, second)}
    assert len(verifiers) == 2
    assert all(43 <= len(verifier) <= 128 for verifier in verifiers)
    allow(web, first)
    answer = await come_back(web, second, code="good")
    assert answer.headers["location"].endswith("login_error=failed")


async def test_a_state_works_once(web: Web) -> None:
    """The second use of a callback's address begins no session, even in the same browser."""
    state = await web.begin_login()
    allow(web, state)
    login_cookie = web.browser.cookies["guildhall_login"]
    await come_back(web, state, code="good")
    allow(web, state)
    web.browser.cookies.clear()
    web.browser.cookies.set("guildhall_login", login_cookie)
    answer = await come_back(web, state, code="good")
    assert answer.headers["location"] == f"{PLAIN}/?login_error=expired"
    assert "guildhall" not in cookies(answer)


async def test_a_state_of_another_browser_is_refused(web: Web) -> None:
    """Whoever is lured to a callback's address is not logged in as somebody else."""
    state = await web.begin_login()
    allow(web, state)
    victim = web.new_browser()
    answer = await victim.get("/api/auth/callback", params={"state": state, "code": "good"})
    assert answer.headers["location"].endswith("login_error=expired")
    assert "guildhall" not in cookies(answer)


@pytest.mark.parametrize("state", ["", "never-given", "\N{SNOWMAN}", "%00"])
async def test_a_state_that_never_was_is_expired(web: Web, state: str) -> None:
    """A made-up state begins no session, also when the cookie says the same."""
    headers = {"cookie": f"guildhall_login={state}".encode()}
    answer = await web.new_browser().get(
        "/api/auth/callback", params={"state": state, "code": "good"}, headers=headers
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PLAIN}/?login_error=expired")


async def test_a_login_that_took_too_long_is_expired(web: Web) -> None:
    """Ten minutes are enough for a consent page."""
    state = await web.begin_login()
    allow(web, state)
    web.clock.advance(LOGIN_MS)
    assert (await come_back(web, state, code="good")).headers["location"].endswith("login_error=expired")


@pytest.mark.parametrize(
    ("came_back_with", "error"),
    [
        ({"error": "access_denied"}, "access_denied"),
        ({"error": "access_denied", "code": "good"}, "access_denied"),
        ({"error": "server_error"}, "failed"),
        ({"code": "bad"}, "failed"),
        ({}, "failed"),
    ],
)
async def test_a_login_that_failed_says_why(web: Web, came_back_with: dict[str, str], error: str) -> None:
    """The page learns whether the person refused or something went wrong; there is no session."""
    state = await web.begin_login()
    allow(web, state)
    answer = await come_back(web, state, **came_back_with)
    assert answer.headers["location"] == f"{PLAIN}/?login_error={error}"
    assert "guildhall" not in cookies(answer)
    assert cookies(answer)["guildhall_login"]["max-age"] == "0"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "",
        "/\r\nx: y",
    ],
)
async def test_a_login_leads_to_no_other_site(web: Web, target: str) -> None:
    """What a browser might read as another site's address becomes the front page."""
    assert (await log_in(web, target)).headers["location"] == f"{PLAIN}/"


async def test_another_host_is_sent_to_the_public_one_first(web: Web) -> None:
    """A login begun at 127.0.0.1 moves to the public address before any cookie is set, and keeps its goal."""
    headers = {"host": "127.0.0.1:8000"}
    answer = await web.browser.get("/api/auth/login", params={"next": "/a?b=c&d"}, headers=headers)
    location = answer.headers["location"]
    assert location.startswith(f"{PLAIN}/api/auth/login?")
    assert query(location) == {"next": ["/a?b=c&d"]}
    assert "set-cookie" not in answer.headers
    assert web.sessions.pending == {}


@pytest.mark.parametrize("begun", ["login", "session"])
async def test_cookies_over_http(web: Web, begun: str) -> None:
    """Cookies are kept from scripts and from other sites' requests."""
    answer = await web.browser.get("/api/auth/login") if begun == "login" else await log_in(web)
    cookie = cookies(answer)["guildhall_login" if begun == "login" else "guildhall"]
    assert cookie["httponly"] is True
    assert cookie["samesite"] == "lax"
    assert not cookie["secure"]
    assert not cookie["domain"]
    assert (cookie["path"], cookie["max-age"]) == (
        ("/api/auth", "600") if begun == "login" else ("/", str(7 * 24 * 3600))
    )


async def test_cookies_behind_tls(tls: Web) -> None:
    """Behind TLS both cookies are Secure, and their prefix holds them to this host."""
    begun = cookies(await tls.browser.get("/api/auth/login"))["__Host-guildhall_login"]
    assert (begun["secure"], begun["path"], begun["domain"]) == (True, "/", "")
    answer = await log_in(tls)
    ended = cookies(answer)["__Host-guildhall_login"]
    assert (ended["secure"], ended["path"], ended["max-age"]) == (True, "/", "0")
    assert answer.headers["location"] == f"{TLS}/"
    cookie = cookies(answer)["__Host-guildhall"]
    assert (cookie["secure"], cookie["path"], cookie["domain"]) == (True, "/", "")
    me = (await tls.browser.get("/api/auth/me")).json()
    gone = await tls.browser.post("/api/auth/logout", headers={"x-csrf-token": me["csrf_token"]})
    # A browser takes no cookie of that prefix without Secure, not even to delete it.
    assert cookies(gone)["__Host-guildhall"]["secure"] is True
    assert (await tls.browser.get("/api/auth/me")).status_code == 401


async def test_the_plain_cookie_opens_nothing_behind_tls(tls: Web) -> None:
    """A cookie that another host of the domain could have planted is not looked at."""
    await log_in(tls)
    token = tls.browser.cookies["__Host-guildhall"]
    planted = await tls.new_browser().get("/api/auth/me", headers={"cookie": f"guildhall={token}"})
    assert planted.status_code == 401


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "csrf"),
        ({"x-csrf-token": "csrf-2"}, "csrf"),
        ({"x-csrf-token": "\N{LATIN SMALL LETTER U WITH DIAERESIS}".encode()}, "csrf"),
        ({"x-csrf-token": "csrf-1", "origin": "https://evil.example"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "origin": "null"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "origin": f"{PLAIN}.evil.example"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "sec-fetch-site": "cross-site"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "sec-fetch-site": "same-site"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "sec-fetch-site": "none"}, "wrong_origin"),
        ({"x-csrf-token": "csrf-1", "sec-fetch-site": "same-origin", "origin": "null"}, "wrong_origin"),
    ],
)
async def test_a_change_comes_from_our_own_page(web: Web, headers: dict[str, str], code: str) -> None:
    """A request that changes something needs the session's token, and our own origin if it names one."""
    browser = await web.browser_of()
    answer = await browser.post("/api/auth/logout", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (403, code)
    assert (await browser.get("/api/auth/me")).status_code == 200


async def test_the_sessions_own_token_and_origin_are_taken(web: Web) -> None:
    """Our own page logs out."""
    for says in ({}, {"origin": PLAIN}, {"origin": PLAIN, "sec-fetch-site": "same-origin"}):
        browser = await web.browser_of()
        headers = {"x-csrf-token": "csrf-1"} | says
        assert (await browser.post("/api/auth/logout", headers=headers)).status_code == 204


async def test_a_login_takes_the_place_of_the_browsers_session(web: Web) -> None:
    """A new token for the same browser, and the old one opens nothing: it may have been planted."""
    await log_in(web)
    first = web.browser.cookies["guildhall"]
    await log_in(web)
    second = web.browser.cookies["guildhall"]
    assert second != first
    assert (await web.new_browser(first).get("/api/auth/me")).status_code == 401
    assert (await web.new_browser(second).get("/api/auth/me")).status_code == 200


async def test_a_planted_session_is_not_the_logins(web: Web) -> None:
    """Whoever leaves a cookie in a browser does not share the session that begins there."""
    web.browser.cookies.set("guildhall", "planted")
    await log_in(web)
    assert (await web.new_browser("planted").get("/api/auth/me")).status_code == 401


async def test_logging_out_everywhere(web: Web) -> None:
    """Every browser of the person is logged out, nobody else's; it is a change like any other."""
    browsers = [await web.browser_of(membership()) for _ in range(3)]
    somebody_else = await web.browser_of(user_id=2)
    here = browsers[0]
    assert (await here.post("/api/auth/logout-everywhere")).json()["error_code"] == "csrf"
    answer = await here.post("/api/auth/logout-everywhere", headers={"x-csrf-token": "csrf-1"})
    assert answer.status_code == 204
    assert cookies(answer)["guildhall"]["max-age"] == "0"
    for browser in browsers:
        assert (await browser.get("/api/auth/me")).status_code == 401
    assert (await somebody_else.get("/api/auth/me")).status_code == 200
    assert len(web.sessions.ended) == 3


async def test_a_logout_ends_one_session(web: Web) -> None:
    """The person's other browser goes on."""
    here, there = await web.browser_of(), await web.browser_of()
    await here.post("/api/auth/logout", headers={"x-csrf-token": "csrf-1"})
    assert (await here.get("/api/auth/me")).status_code == 401
    assert (await there.get("/api/auth/me")).status_code == 200


async def test_logins_and_logouts_are_in_the_audit_log(web: Web) -> None:
    """Who, and by which request; the database being away keeps nobody from logging in or out."""
    await log_in(web)
    me = (await web.browser.get("/api/auth/me")).json()
    headers = {"x-csrf-token": me["csrf_token"], "x-request-id": "the-logout"}
    await web.browser.post("/api/auth/logout-everywhere", headers=headers)
    noted = [row.entry for row in web.database.audit if row.entry.action.startswith("auth.")]
    assert [(entry.action, entry.actor_id, entry.guild_id) for entry in noted] == [
        ("auth.login", 1, None),
        ("auth.logout", 1, None),
    ]
    assert (noted[1].request_id, noted[1].details) == ("the-logout", {"everywhere": True})
    web.database.available = False
    assert (await log_in(web)).headers["location"] == f"{PLAIN}/"
    me = (await web.browser.get("/api/auth/me")).json()
    gone = await web.browser.post("/api/auth/logout", headers={"x-csrf-token": me["csrf_token"]})
    assert gone.status_code == 204


async def test_reading_goes_on_while_sessions_are_away(web: Web) -> None:
    """Who was seen may look, and change nothing; who was not may not look either; then all is as before."""
    seen, unseen = await web.browser_of(membership(owns=True)), await web.browser_of(user_id=2)
    assert (await seen.get("/api/auth/me")).status_code == 200
    web.sessions.available = False
    for path in ("/api/auth/me", "/api/servers", "/api/servers/40/metrics", "/"):
        assert (await seen.get(path)).status_code == 200
    for refused in (
        await seen.post("/api/auth/logout", headers={"x-csrf-token": "csrf-1"}),
        await seen.put("/api/servers/40/rules/x", json={}, headers={"x-csrf-token": "csrf-1"}),
        await seen.get("/api/auth/login"),
        await seen.get("/api/auth/callback", params={"state": "s", "code": "c"}),
        await unseen.get("/api/auth/me"),
    ):
        assert (refused.status_code, refused.json()["error_code"]) == (503, "sessions_unavailable")
    web.sessions.available = True
    assert (await unseen.get("/api/auth/me")).status_code == 200
    assert (await seen.post("/api/auth/logout", headers={"x-csrf-token": "csrf-1"})).status_code == 204
    web.sessions.available = False
    assert (await seen.get("/api/auth/me")).status_code == 401


async def test_whoever_is_removed_from_a_server_loses_it(web: Web) -> None:
    """Within minutes, without logging out; a server that is new to them is there as soon."""
    state = await web.begin_login()
    web.login.allow(
        "good", web.sessions.pending[state].code_verifier, Identity(person(), (membership(owns=True),))
    )
    await come_back(web, state, code="good")
    assert (await web.browser.get("/api/servers/40/metrics")).status_code == 200
    web.login.move(1, (membership(41, owns=True),))
    web.clock.advance(SHOWN_MS)
    assert (await web.browser.get("/api/servers/40/metrics")).status_code == 403
    assert (await web.browser.get("/api/servers/41/metrics")).status_code == 200


async def test_whoever_removes_us_at_discord_is_logged_out(web: Web) -> None:
    """401 within minutes: log in again."""
    await log_in(web)
    web.login.disown(1)
    web.clock.advance(SHOWN_MS)
    assert (await web.browser.get("/api/auth/me")).status_code == 401


@pytest.mark.parametrize(
    "cookie",
    [
        "guildhall",
        "guildhall=",
        "=guildhall",
        ";;;=;",
        'guildhall="',
        'guildhall="\\',
        "guildhall=\\777",
        "guildhall=%00%ff",
        "guildhall=" + "x" * 8_000,
        b"guildhall=\xff\xfe",
    ],
)
async def test_a_malformed_cookie_is_no_session(web: Web, cookie: str | bytes) -> None:
    """Whatever a cookie holds, the answer is 401 and not an error of ours."""
    answer = await web.new_browser().get("/api/auth/me", headers={"cookie": cookie})
    assert (answer.status_code, answer.json()["error_code"]) == (401, "no_session")


async def test_one_sees_and_ends_ones_own_sessions(web: Web) -> None:
    """In whichever browser they are; somebody else's are not there for one, and ending is a change."""
    here, there, somebody_else = [await web.browser_of(user_id=user_id) for user_id in (1, 1, 2)]
    listed = (await here.get("/api/auth/sessions")).json()
    assert sorted(each["current"] for each in listed) == [False, True]
    [other] = [each["id"] for each in listed if not each["current"]]
    [foreign] = [each["id"] for each in (await somebody_else.get("/api/auth/sessions")).json()]
    assert (await here.delete(f"/api/auth/sessions/{other}")).json()["error_code"] == "csrf"
    headers = {"x-csrf-token": "csrf-1"}
    assert (await here.delete(f"/api/auth/sessions/{foreign}", headers=headers)).status_code == 404
    assert (await here.delete(f"/api/auth/sessions/{other}", headers=headers)).status_code == 204
    gone = await here.delete(f"/api/auth/sessions/{other}", headers=headers)
    assert (gone.status_code, gone.json()["error_code"]) == (404, "no_such_session")
    assert (await there.get("/api/auth/me")).status_code == 401
    assert (await somebody_else.get("/api/auth/me")).status_code == 200
    assert len((await here.get("/api/auth/sessions")).json()) == 1
