"""Configuration, rules and warnings over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.memory.samples import NOON_MS
from domain.guild_settings import MAX_RULES, default_rules
from domain.people import Person
from domain.user_warnings import UserWarnings
from tests.serve_app.web import GUILD, Web

BASE = f"/api/servers/{GUILD}"
OWNER = {"x-csrf-token": "csrf-2"}
BERLIN = {"timezone": "Europe/Berlin", "retention_days": 30}
WORDS = {"kind": "banned_word", "words": ["bad", "worse"]}


async def put(web: Web, path: str, body: Any, status: int = 200) -> Any:
    browser = await web.browser_of_role("owner")
    response = await browser.put(f"{BASE}{path}", json=body, headers=OWNER)
    assert response.status_code == status, response.text
    return response.json()


async def get(web: Web, path: str, status: int = 200) -> Any:
    browser = await web.browser_of_role("owner")
    response = await browser.get(f"{BASE}{path}")
    assert response.status_code == status, response.text
    return response.json()


class TestConfig:
    async def test_the_default_is_shown_until_somebody_changes_it(self, web: Web) -> None:
        """Then what they said, with who it was; everybody who watches is told."""
        web.people.known[2] = Person(2, "ada", "Ada", None, NOON_MS)
        assert await get(web, "/config") == {
            "config": {"timezone": "UTC", "retention_days": 365},
            "version": 0,
            "updated_by": None,
            "updated_at": None,
        }
        changed = await put(web, "/config", {"config": BERLIN, "version": 0})
        assert (changed["config"], changed["version"]) == (BERLIN, 1)
        assert changed["updated_by"]["display_name"] == "Ada"
        assert await get(web, "/config") == changed
        assert web.announcer.announced == [(GUILD, "config_update", {"what": "config", "version": 1})]

    async def test_a_stale_change_is_told_what_is_newest(self, web: Web) -> None:
        await put(web, "/config", {"config": BERLIN, "version": 0})
        refused = await put(web, "/config", {"config": {}, "version": 0}, 409)
        assert (refused["error_code"], refused["details"]) == ("version_conflict", {"version": 1})

    @pytest.mark.parametrize(
        "config",
        [
            {"timezone": "Mars/Olympus"},
            {"timezone": "../../etc/passwd"},
            {"timezone": ""},
            {"retention_days": 6},
            {"retention_days": 2**63 - 1},
            {"retention_days": "often"},
            {"colour": "red"},
            [],
            None,
        ],
    )
    async def test_what_makes_no_sense_changes_nothing(self, web: Web, config: Any) -> None:
        """And the answer says which field it was."""
        refused = await put(web, "/config", {"config": config, "version": 0}, 422)
        assert refused["details"][0]["where"].startswith("body.config")
        assert (await get(web, "/config"))["version"] == 0
        assert web.announcer.announced == []


class TestRules:
    async def test_the_defaults_are_listed_as_such(self, web: Web) -> None:
        page = await get(web, "/rules")
        assert [rule["name"] for rule in page["data"]] == sorted(default_rules())
        assert all(rule["is_default"] and rule["version"] == 0 for rule in page["data"])
        assert (await get(web, "/rules?per_page=2&page=3"))["data"] == page["data"][4:]

    async def test_a_rule_is_made_changed_and_deleted(self, web: Web) -> None:
        made = await put(web, "/rules/own", {"rule": WORDS, "version": 0})
        assert made["rule"] == {**WORDS, "enabled": True, "severity": "medium", "action": "delete"}
        assert (made["version"], made["is_default"]) == (1, False)
        assert await get(web, "/rules/own") == made
        await put(web, "/rules/own", {"rule": {**WORDS, "enabled": False}, "version": 1})
        browser = await web.browser_of_role("owner")
        stale = await browser.delete(f"{BASE}/rules/own?version=1", headers=OWNER)
        assert stale.status_code == 409
        deleted = await browser.delete(f"{BASE}/rules/own?version=2", headers=OWNER)
        assert (deleted.status_code, deleted.content) == (204, b"")
        assert (await get(web, "/rules/own", 404))["error_code"] == "no_such_rule"
        again = await browser.delete(f"{BASE}/rules/own", headers=OWNER)
        assert again.status_code == 404
        assert [told["version"] for _, _, told in web.announcer.announced] == [1, 2, 0]

    async def test_a_default_keeps_its_kind(self, web: Web) -> None:
        """Else "mention-flood" could be a list of words."""
        refused = await put(web, "/rules/mention-flood", {"rule": WORDS, "version": 0}, 422)
        assert refused["error_code"] == "wrong_kind"
        flood = {"kind": "mention_flood", "max_mentions": 9}
        assert (await put(web, "/rules/mention-flood", {"rule": flood, "version": 0}))["version"] == 1

    async def test_rules_are_bounded(self, web: Web) -> None:
        for number in range(MAX_RULES):
            await put(web, f"/rules/r{number}", {"rule": WORDS, "version": 0})
        refused = await put(web, "/rules/more", {"rule": WORDS, "version": 0}, 409)
        assert refused["error_code"] == "too_many_rules"

    @pytest.mark.parametrize(
        "rule",
        [
            {"kind": "banned_word", "words": []},
            {"kind": "banned_word", "words": ["x" * 61]},
            {"kind": "banned_word", "words": ["\u0000"]},
            {"kind": "banned_word", "words": ["  "]},
            {"kind": "phishing_link", "domains": ["no domain"]},
            {"kind": "phishing_link", "domains": ["a" * 64 + ".com"]},
            {"kind": "mention_flood", "max_mentions": 0},
            {"kind": "repeated_message", "repeats": 1},
            {"kind": "mind_reading"},
            {"kind": "invite_link", "action": "ban"},
            {},
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, web: Web, rule: Any) -> None:
        refused = await put(web, "/rules/own", {"rule": rule, "version": 0}, 422)
        assert refused["error_code"] in ("invalid_request", "invalid_text")
        assert (await get(web, "/rules"))["total"] == len(default_rules())

    @pytest.mark.parametrize("name", ["Own", "-x", "x" * 41, "a_b", "ü", "..%2f", "a%00b"])
    async def test_a_name_is_plain(self, web: Web, name: str) -> None:
        """So that it can stand in a URL, a log and a chart."""
        browser = await web.browser_of_role("owner")
        response = await browser.put(
            f"{BASE}/rules/{name}", json={"rule": WORDS, "version": 0}, headers=OWNER
        )
        assert response.status_code in (404, 405, 422)


class TestWarnings:
    async def test_nobody_is_warned_yet(self, web: Web) -> None:
        page = await get(web, "/warnings")
        assert (page["data"], page["total"], page["is_empty"]) == ([], 0, True)
        assert page["message"]
        assert (await get(web, "/warnings/7"))["count"] == 0

    async def test_who_is_warned_is_shown_with_their_name(self, web: Web) -> None:
        """Most first."""
        web.people.known[7] = Person(7, "eve", "Eve", None, NOON_MS)
        for user_id, count in ((7, 3), (8, 5)):
            web.warnings.rows[GUILD, user_id] = UserWarnings(user_id, count, NOON_MS)
        page = await get(web, "/warnings")
        assert [(row["user"]["display_name"], row["count"]) for row in page["data"]] == [
            (None, 5),
            ("Eve", 3),
        ]

    async def test_warnings_are_cleared(self, web: Web) -> None:
        """One person's, or many people's; told once, and only when there was something."""
        for user_id in (7, 8, 9):
            web.warnings.rows[GUILD, user_id] = UserWarnings(user_id, user_id, NOON_MS)
        browser = await web.browser_of_role("owner")
        one = await browser.delete(f"{BASE}/warnings/7", headers=OWNER)
        assert one.json() == {"cleared": ["7"]}
        many = await browser.post(
            f"{BASE}/warnings/bulk-clear", json={"user_ids": ["7", "8", "9", "10"]}, headers=OWNER
        )
        assert many.json() == {"cleared": ["8", "9"]}
        nobody = await browser.delete(f"{BASE}/warnings/7", headers=OWNER)
        assert nobody.json() == {"cleared": []}
        assert web.announcer.announced == [
            (GUILD, "warning_update", {"cleared": ["7"]}),
            (GUILD, "warning_update", {"cleared": ["8", "9"]}),
        ]
        assert (await get(web, "/warnings/7"))["cleared_by"]["id"] == "2"

    @pytest.mark.parametrize("user_ids", [[], ["0"], ["-1"], ["9" * 30], ["x"], [7], ["1"] * 101, "7", None])
    async def test_who_is_nobody_is_refused(self, web: Web, user_ids: Any) -> None:
        browser = await web.browser_of_role("owner")
        response = await browser.post(
            f"{BASE}/warnings/bulk-clear", json={"user_ids": user_ids}, headers=OWNER
        )
        assert response.status_code == 422
        assert (await get(web, "/warnings/minus-one", 422))["error_code"] == "invalid_user_id"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/config"),
        ("PUT", "/rules/own"),
        ("DELETE", "/rules/own"),
        ("DELETE", "/warnings/1"),
        ("POST", "/warnings/bulk-clear"),
    ],
)
async def test_a_change_needs_the_token(web: Web, method: str, path: str) -> None:
    """Whoever asks."""
    browser = await web.browser_of_role("owner")
    response = await browser.request(method, f"{BASE}{path}", json={})
    assert (response.status_code, response.json()["error_code"]) == (403, "csrf")
