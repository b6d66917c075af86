"""Bodies that are too large, or that two readers might understand differently."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx2
import pytest
from fastapi import Body
from hypothesis import given
from hypothesis import strategies as st

from domain.plain_json import MAX_DEPTH
from serve_app import inputs
from serve_app.errors import ApiError
from serve_app.inputs import require_plain_json
from serve_app.ports import MAX_BODY_BYTES
from tests.serve_app.declared import PARAMETERS, declared
from tests.serve_app.test_errors import check_form
from tests.serve_app.web import GUILD, PLAIN, Web, running

JSON = {"content-type": "application/json"}


@pytest.fixture
async def echoing(static_dir: Path) -> AsyncIterator[Web]:
    """Run the application with a route that returns what it is sent, and a browser that is logged in."""
    async with running(PLAIN, static_dir) as web:

        async def echo(body: Annotated[Any, Body()] = None) -> Any:
            return body

        web.app.add_api_route("/api/echo", echo, methods=["POST", "PUT", "PATCH", "DELETE"])
        web.browser = await web.browser_of()
        yield web


async def send(web: Web, body: bytes, **headers: str) -> httpx2.Response:
    return await web.browser.post("/api/echo", content=body, headers=JSON | headers)


async def deliver(web: Web, parts: list[bytes], headers: dict[str, str], *, then: str = "") -> Any:
    """Send a body in parts, and perhaps "leave" or "stall" then, before it is whole.

    Return the status, what was answered, and how many parts were taken. A connection on which more would
    come is to be closed.
    """
    taken, sent = 0, []
    cookie = {"cookie": f"guildhall={web.browser.cookies['guildhall']}"}

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        if taken > len(parts):
            if then == "leave":
                return {"type": "http.disconnect"}
            await asyncio.Event().wait()
        more = bool(then) or taken < len(parts)
        return {"type": "http.request", "body": parts[taken - 1], "more_body": more}

    async def hear(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/echo",
        "raw_path": b"/api/echo",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in (JSON | cookie | headers).items()],
        "client": ("127.0.0.1", 1),
        "server": ("guildhall.test", 80),
    }
    await asyncio.wait_for(web.app(scope, receive, hear), 5)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    if sent:
        declared = bool({"content-length", "transfer-encoding"} & headers.keys())
        whole = taken >= len(parts) and not then
        assert ((b"connection", b"close") in sent[0]["headers"]) is (declared and not whole)
    return (sent[0]["status"] if sent else None), body, taken


@pytest.mark.parametrize(
    "value",
    [{"a": [1, 2.5, "ü✨", None, True, {"b": {}}]}, [], "text", 0, -1, 1e-300, 2**63 - 1, {"": "", "a": "a"}],
)
async def test_json_comes_through_as_it_is(echoing: Web, value: Any) -> None:
    """However it is cut into parts, with and without a declared length."""
    body = json.dumps(value).encode()
    answer = await send(echoing, body)
    assert (answer.status_code, answer.json()) == (200, value)
    parts = [body[n : n + 1] for n in range(len(body))]
    status, said, _ = await deliver(echoing, parts, {})
    assert (status, json.loads(said)) == (200, value)


async def test_no_body_is_no_problem(echoing: Web) -> None:
    """Nobody has to say what nothing is made of."""
    assert (await echoing.browser.post("/api/echo")).status_code == 200
    assert (await echoing.browser.delete("/api/echo")).status_code == 200


async def test_as_much_as_is_allowed_is_taken(echoing: Web) -> None:
    """64 KiB, and not a byte more."""
    most = b'"' + b"x" * (MAX_BODY_BYTES - 2) + b'"'
    assert (await send(echoing, most)).status_code == 200
    answer = await send(echoing, most + b" ")
    assert answer.status_code == 413
    assert check_form(answer)["error_code"] == "body_too_large"


async def test_less_may_be_allowed(static_dir: Path) -> None:
    """The limit is a setting; the answer names it."""
    async with running(PLAIN, static_dir, max_body_bytes=2_048) as web:
        browser = await web.browser_of()
        for size, status in ((2_049, 413), (2_048, 422)):
            answer = await browser.post("/api/auth/logout", content=b"x" * size, headers=JSON)
            assert answer.status_code == status
            assert ("2 KiB" in answer.json()["error"]) == (status == 413)


@pytest.mark.parametrize(
    "declared", [str(MAX_BODY_BYTES + 1), "99999999999999999999", "9" * 5_000, "000070000"]
)
async def test_a_declared_giant_is_not_read(echoing: Web, declared: str) -> None:
    """Its length is enough to refuse it."""
    status, _, taken = await deliver(echoing, [b"x"] * 10, {"content-length": declared})
    assert (status, taken) == (413, 0)


async def test_an_undeclared_giant_is_left_when_it_is_too_large(echoing: Web) -> None:
    """What was not read by then is never read."""
    parts = [b"x" * 10_000] * 1_000
    status, body, taken = await deliver(echoing, parts, {"transfer-encoding": "chunked"})
    assert (status, taken) == (413, MAX_BODY_BYTES // 10_000 + 1)
    assert json.loads(body)["error_code"] == "body_too_large"


async def test_a_length_that_lies_helps_nobody(echoing: Web) -> None:
    """What comes is counted, whatever was declared."""
    status, _, _ = await deliver(echoing, [b"x" * 10_000] * 10, {"content-length": "5"})
    assert status == 413


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_any_method_may_be_too_large(echoing: Web, method: str) -> None:
    """Also where no body is expected."""
    headers = {"content-length": str(MAX_BODY_BYTES + 1)}
    answer = await echoing.browser.request(method, "/api/auth/me", headers=headers)
    assert answer.status_code == 413


async def test_whoever_leaves_in_the_middle_gets_no_answer(echoing: Web) -> None:
    """And leaves nothing behind."""
    assert await deliver(echoing, [b"{", b'"a"'], {}, then="leave") == (None, b"", 3)


async def test_whoever_does_not_get_to_the_end_is_not_waited_for(
    echoing: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that stalls holds no place for long."""
    monkeypatch.setattr(inputs, "READ_WITHIN_S", 0.01)
    status, body, _ = await deliver(echoing, [b"{"], {"content-length": "9"}, then="stall")
    assert (status, json.loads(body)["error_code"]) == (408, "body_too_slow")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        'application/json; charset="utf-16"',
        "application/json, text/plain",
        "application/+json",
        "json",
        "\xff",
    ],
)
async def test_what_is_not_declared_as_json_is_refused(echoing: Web, content_type: str) -> None:
    """A form of another site cannot send JSON without asking; nothing else is read as JSON here."""
    answer = await echoing.browser.post(
        "/api/echo", content=b"{}", headers={b"content-type": content_type.encode("latin-1")}
    )
    assert answer.status_code == 415
    assert check_form(answer)["error_code"] == "unsupported_media_type"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; Charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/x+json",
    ],
)
async def test_json_may_be_declared_in_many_ways(echoing: Web, content_type: str) -> None:
    """Upper case, a parameter, a suffix."""
    answer = await echoing.browser.post("/api/echo", content=b"[1]", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()) == (200, [1])


REFUSED = [
    (b'{"a": 1, "a": 2}', "duplicate_key"),
    (b'[{"x": {"a": 1, "b": 2, "a": 1}}]', "duplicate_key"),
    (b'{"a": 1, "\\u0061": 1}', "duplicate_key"),
    (b'{"\\ud800": 1, "\\ud800": 2}', "duplicate_key"),
    (b"NaN", "invalid_json"),
    (b'{"a": Infinity}', "invalid_json"),
    (b'{"a": -Infinity}', "invalid_json"),
    (b"1e400", "invalid_json"),
    (b"-1e400", "invalid_json"),
    (b"9" * 5_000, "invalid_json"),
    (b"9223372036854775808", "invalid_json"),
    (b'{"a": -9223372036854775809}', "invalid_json"),
    (b'"\xff\xfe"', "invalid_json"),
    (b"\xef\xbb\xbf{}", "invalid_json"),
    ('{"a": 1}'.encode("utf-16"), "invalid_json"),
    ('{"a": 1}'.encode("utf-32"), "invalid_json"),
    (b'"\\ud800"', "invalid_json"),
    (b'{"\\udfff": 1}', "invalid_json"),
    (b"{", "invalid_json"),
    (b"{'a': 1}", "invalid_json"),
    (b"[1,]", "invalid_json"),
    (b"{} {}", "invalid_json"),
    (b"\0", "invalid_json"),
    (b'"a\nb"', "invalid_json"),
    (b"01", "invalid_json"),
    (b" ", "invalid_json"),
    (b"[" * MAX_BODY_BYTES, "invalid_json"),
    (b"[" * 30_000 + b"]" * 30_000, "invalid_json"),
    (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "invalid_json"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "invalid_json"),
]


@pytest.mark.parametrize(("body", "code"), REFUSED, ids=lambda value: repr(value)[:30])
async def test_what_makes_no_sense_is_refused(echoing: Web, body: bytes, code: str) -> None:
    """422 with a sentence, before any route sees it."""
    answer = await send(echoing, body)
    assert (answer.status_code, check_form(answer)["error_code"]) == (422, code)


def test_nesting_has_its_depth() -> None:
    """What is allowed is allowed, with whatever lies in it."""
    require_plain_json(b"[" * MAX_DEPTH + b'1, "x", null' + b"]" * MAX_DEPTH)
    require_plain_json(b'{"a":' * MAX_DEPTH + b"[]"[:0] + b"1" + b"}" * MAX_DEPTH)


async def test_a_key_that_was_said_twice_is_named(echoing: Web) -> None:
    """Shortly, and so that it can be shown."""
    answer = await send(echoing, json.dumps({"k" * 500: 1}).encode()[:-1] + b', "' + b"k" * 500 + b'": 2}')
    assert answer.json()["details"] == {"key": "k" * 100}


@given(st.binary(max_size=200))
def test_bytes_are_taken_or_refused(body: bytes) -> None:
    """Whatever they are, nothing else happens."""
    status = 200
    try:
        require_plain_json(body)
    except ApiError as refusal:
        status = refusal.status
    assert status in (200, 422)
    if status == 200:
        json.loads(body)


INTEGERS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(
    st.recursive(
        st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
        max_leaves=20,
    )
)
def test_everything_that_is_json_is_taken(value: Any) -> None:
    """As long as it is no deeper than allowed, its numbers have 64 bits, and its texts can be kept."""
    require_plain_json(json.dumps(value).encode())


@pytest.mark.parametrize("query", ["action=%00", "x=a%00b", "%00=1"])
async def test_a_nul_in_a_query_is_refused(web: Web, query: str) -> None:
    """No database keeps one in a text: what would be looked for could not be there."""
    browser = await web.browser_of_role("owner")
    answer = await browser.get(f"/api/servers/{GUILD}/audit-log?{query}")
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_text")


async def test_a_nul_in_a_text_is_refused(web: Web) -> None:
    """Wherever in a body it stands."""
    browser = await web.browser_of_role("owner")
    body = {"config": {"timezone": "U\0TC"}, "version": 0}
    headers = {"x-csrf-token": "csrf-2"}
    answer = await browser.put(f"/api/servers/{GUILD}/config", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_text")


# -- queries --------------------------------------------------------------------------------------


async def test_a_query_that_is_not_known_is_refused_everywhere(web: Web) -> None:
    """A typing error must not look like an answer; the refusal names what is known."""
    owner = await web.browser_of_role("owner")
    csrf = {"x-csrf-token": web.csrf_of("owner")}
    for route in declared(web.app):
        answer = await owner.request(route.method, f"{route.url}?perpage=5", headers=csrf)
        if route.path == "/api/auth/callback":  # Discord writes its query
            assert answer.status_code == 303
            continue
        assert (route.url, answer.status_code) == (route.url, 422)
        body = check_form(answer)
        assert (body["error_code"], body["details"]["unknown"]) == ("invalid_query", ["perpage"])
        assert body["details"]["twice"] == []


async def test_a_query_that_says_something_twice_is_refused(web: Web) -> None:
    """Nobody can know which of the two counts. Also where somebody else writes the query."""
    owner = await web.browser_of_role("owner")
    for url, name in (
        (f"/api/servers/{GUILD}/violations?page=1&page=1", "page"),
        (f"/api/servers/{GUILD}/metrics?period=day&%70eriod=week", "period"),
        ("/api/auth/callback?state=a&state=b&hint=c", "state"),
    ):
        answer = await owner.get(url)
        body = check_form(answer)
        assert (answer.status_code, body["error_code"]) == (422, "invalid_query")
        assert (body["details"]["twice"], body["details"]["unknown"]) == ([name], [])
        assert name in body["details"]["known"]


async def test_what_a_refused_query_is_told_is_bounded(web: Web) -> None:
    """However much of it there is."""
    owner = await web.browser_of_role("owner")
    query = "&".join(f"{'x' * 200}{number}=1" for number in range(50))
    body = check_form(await owner.get(f"/api/servers?{query}"))
    assert [len(name) for name in body["details"]["unknown"]] == [100] * 10


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("since=1790000000", "this looks like seconds"),
        ("until=1790000000", "this looks like seconds"),
        ("since=0", "this looks like something else"),
        ("since=1790000000000000", "this looks like something else"),
        ("since=1.79e12", "must be a whole number"),
        ("since=", "must be a whole number"),
        ("page=1.0", "must be a whole number"),
        ("page=%2B1", "must be a whole number"),
        ("page=01", "must be a whole number"),
        ("per_page=1_0", "must be a whole number"),
        ("page=%201", "must be a whole number"),
        ("rule=", "at least 1 character"),
        ("severity=", "Input should be 'low', 'medium', 'high' or 'critical'"),
    ],
)
async def test_a_query_that_means_something_else_is_refused_in_a_sentence(
    web: Web, query: str, sentence: str
) -> None:
    """Rather than answered by the wrong rows or by none."""
    owner = await web.browser_of_role("owner")
    answer = await owner.get(f"/api/servers/{GUILD}/violations?{query}")
    assert answer.status_code == 422
    [problem] = check_form(answer)["details"]
    assert sentence in problem["problem"]


# -- types ----------------------------------------------------------------------------------------

RULE = {"kind": "banned_word", "words": ["bad"]}


@pytest.mark.parametrize(
    ("method", "path", "body", "where"),
    [
        ("PUT", "config", {"config": {}, "version": False}, "body.version"),
        ("PUT", "config", {"config": {}, "version": "0"}, "body.version"),
        ("PUT", "config", {"config": {}, "version": 0.5}, "body.version"),
        ("PUT", "config", {"config": {"retention_days": "30"}, "version": 0}, "body.config.retention_days"),
        ("PUT", "config", {"config": {"timezone": 5}, "version": 0}, "body.config.timezone"),
        ("PUT", "rules/own", {"rule": RULE, "version": True}, "body.version"),
        ("PUT", "rules/own", {"rule": RULE | {"enabled": 0}, "version": 0}, "body.rule.banned_word.enabled"),
        (
            "PUT",
            "rules/own",
            {"rule": RULE | {"enabled": "yes"}, "version": 0},
            "body.rule.banned_word.enabled",
        ),
        ("PUT", "rules/own", {"rule": RULE | {"words": [5]}, "version": 0}, "body.rule.banned_word.words.0"),
        ("PUT", "rules/own", {"rule": {"words": ["bad"]}, "version": 0}, "body.rule"),
        ("PUT", "roles/9", {"role": True}, "body.role"),
        ("POST", "warnings/bulk-clear", {"user_ids": [9]}, "body.user_ids.0"),
        ("POST", "warnings/bulk-clear", {"user_ids": ["09"]}, "body.user_ids.0"),
    ],
)
async def test_a_value_of_another_type_is_not_taken_for_one(
    web: Web, method: str, path: str, body: Any, where: str
) -> None:
    """True is no 1, "2" no 2: who sends that means something else, or has a mistake."""
    owner = await web.browser_of_role("owner")
    csrf = {"x-csrf-token": web.csrf_of("owner")}
    answer = await owner.request(method, f"/api/servers/{GUILD}/{path}", json=body, headers=csrf)
    assert answer.status_code == 422
    assert check_form(answer)["details"][0]["where"] == where
    assert web.announcer.announced == []


# -- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["0", "040", "00", str(2**63), "9" * 20, "-1", "+40", "4 0", "٤٠", "40.0", "x"]
)
async def test_an_id_is_canonical_or_refused_everywhere(web: Web, wrong: str) -> None:
    """In every place of every path; nothing is answered under another name than it was asked for."""
    owner = await web.browser_of_role("owner")
    csrf = {"x-csrf-token": web.csrf_of("owner")}
    for route in declared(web.app):
        for name in ("guild_id", "user_id", "discord_role_id", "violation_id"):
            if f"{{{name}}}" in route.path:
                url = route.path.replace(f"{{{name}}}", quote(wrong))
                for other, value in PARAMETERS.items():
                    url = url.replace(f"{{{other}}}", value)
                body = {"role": "viewer", "verdict": "dismissed", "version": 0}
                answer = await owner.request(
                    route.method,
                    url,
                    headers=csrf,
                    json={"role": "viewer"} if name != "violation_id" else body,
                )
                assert (url, answer.status_code) == (url, 422)
    for name in ("user_id", "actor_id"):
        path = "violations" if name == "user_id" else "audit-log"
        answer = await owner.get(f"/api/servers/{GUILD}/{path}", params={name: wrong})
        assert answer.status_code == 422
