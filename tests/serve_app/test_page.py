"""The built page: served at its own paths, and nothing beside it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.serve_app.web import Web, ask_raw

PAGE = "<!doctype html><title>Guildhall</title>"


@pytest.mark.parametrize("path", ["/", "/servers/40", "/a/b/c", "/index.html", "/apiary", "/assets"])
async def test_every_path_of_the_page_is_the_page(web: Web, path: str) -> None:
    """The page finds its way by itself, and is never taken from a cache."""
    answer = await web.browser.get(path)
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/servers/40", "/assets/main-ABC123.js", "/favicon.svg"])
async def test_one_may_ask_for_the_head_alone(web: Web, path: str) -> None:
    """What GET would say of it, and no body."""
    whole, head = await web.browser.get(path), await web.browser.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "cache-control", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]
    assert (await web.browser.head("/api/nothing")).status_code == 404


async def test_no_slash_leads_to_a_host_that_the_request_names(web: Web) -> None:
    """An address with a slash too many is not there; nobody is sent anywhere."""
    for method, path in (("POST", "/api/auth/logout/"), ("PUT", "/api/servers/")):
        answer = await web.browser.request(method, path, headers={"host": "evil.example"})
        assert answer.status_code in (404, 405)
        assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nothing", "/api/servers/", "/api/servers/1/nothing"])
async def test_an_unknown_path_of_the_api_is_no_page(web: Web, path: str) -> None:
    """A program is told in JSON that there is nothing."""
    answer = await web.browser.get(path)
    assert (answer.status_code, answer.json()["error_code"]) == (404, "not_found")


async def test_hashed_assets_are_kept_for_ever(web: Web) -> None:
    """Their names change with their content; a name that is not there is kept by nobody."""
    answer = await web.browser.get("/assets/main-ABC123.js")
    assert (answer.status_code, answer.text) == (200, "export {};")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    missing = await web.browser.get("/assets/main-OLD.js")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "not_found")
    assert missing.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accepted", "encoding", "file"),
    [
        ("gzip, deflate, br, zstd", "br", "main-ABC123.js.br"),
        ("gzip", "gzip", "main-ABC123.js.gz"),
        ("br;q=0, GZIP;q=0.5", "gzip", "main-ABC123.js.gz"),
        ("gzip;q=0.000,br; q=0", None, "main-ABC123.js"),
        ("zstd", None, "main-ABC123.js"),
        ("", None, "main-ABC123.js"),
    ],
)
async def test_assets_go_out_as_small_as_the_browser_takes_them(
    web: Web, static_dir: Path, accepted: str, encoding: str | None, file: str
) -> None:
    """As they were compressed when they were built, each form with a tag of its own."""
    assets = static_dir / "assets"
    (assets / "main-ABC123.js.br").write_bytes(b"brotli")
    (assets / "main-ABC123.js.gz").write_bytes(gzip.compress(b"export {};", mtime=0))
    headers = {"accept-encoding": accepted}
    async with web.browser.stream("GET", "/assets/main-ABC123.js", headers=headers) as answer:
        body = b"".join([part async for part in answer.aiter_raw()])
    assert body == (assets / file).read_bytes()
    assert answer.headers.get("content-encoding") == encoding
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await web.browser.get(
        "/assets/main-ABC123.js", headers=headers | {"if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    other = await web.browser.head(
        "/assets/main-ABC123.js", headers={"accept-encoding": "br" if encoding is None else ""}
    )
    assert other.headers["etag"] != answer.headers["etag"]
    assert (await web.browser.get("/assets/main-ABC123.js.br")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/favicon.ico", "/foo.js", "/.env", "/.git/config", "/servers/robots.txt", "/assets/main-OLD.js"]
)
async def test_a_file_that_is_not_there_is_not_the_page(web: Web, path: str) -> None:
    """Whoever looks for it is told the truth."""
    for method in ("GET", "HEAD"):
        assert (await web.browser.request(method, path)).status_code == 404


async def test_files_beside_the_page_are_served(web: Web) -> None:
    """What was built next to the page has its own type, and no name to keep it by."""
    answer = await web.browser.get("/favicon.svg")
    assert (answer.status_code, answer.text) == (200, "<svg/>")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/./../secret.txt",
        "//secret.txt",
        "/..\\secret.txt",
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/../index.html",
        "/assets//../../secret.txt",
        "/assets/\0",
        "/assets/" + "x" * 5_000,
        "/assets/.",
        "/\0",
        "/%zz%",
    ],
)
async def test_no_path_leads_out(web: Web, static_dir: Path, path: str) -> None:
    """Whatever a path holds, the answer is the page or nothing, and never an error of ours."""
    for attempt in (path, f"{static_dir}{path}", f"/assets/{static_dir}{path}"):
        answer = await ask_raw(web.app, attempt)
        assert "secret" not in answer.text
        assert (answer.status_code, answer.text) == (200, PAGE) or answer.status_code == 404


async def test_a_link_out_of_the_assets_is_not_followed(web: Web, static_dir: Path) -> None:
    """A symbolic link leads nobody to what lies beside the page."""
    (static_dir / "assets" / "link.txt").symlink_to(static_dir.parent / "secret.txt")
    assert (await web.browser.get("/assets/link.txt")).status_code == 404
