"""A server's violations over HTTP, and what moderators say of them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from adapters.memory.database import Row
from adapters.memory.samples import NOON_MS, person, violation
from domain import people
from domain.people import described, gone
from domain.views import ViolationView
from tests.serve_app.test_servers import get, happen
from tests.serve_app.web import GUILD, Web, membership

HERE = f"/api/servers/{GUILD}/violations"


async def review(
    browser: httpx2.AsyncClient, violation_id: object, user_id: int = 1, **body: Any
) -> httpx2.Response:
    return await browser.post(
        f"{HERE}/{violation_id}/review",
        json={"version": 0} | body,
        headers={"x-csrf-token": f"csrf-{user_id}"},
    )


# -- the list -------------------------------------------------------------------------------------


async def test_violations_are_listed_newest_first(web: Web) -> None:
    """Pages follow each other without a gap, and hold nothing of another guild."""
    await happen(web, *(violation(GUILD, number, ts_ms=NOON_MS + number) for number in range(1, 6)))
    await happen(web, violation(GUILD + 1, 9))
    owner = await web.browser_of(membership(owns=True))
    pages = [await get(owner, HERE, page=page, per_page=2) for page in range(1, 5)]
    found = [[row["message_id"] for row in page["data"]] for page in pages]
    assert found == [["5", "4"], ["3", "2"], ["1"], []]
    assert [page["has_next"] for page in pages] == [True, True, False, False]
    assert {page["total"] for page in pages} == {5}
    assert [page["is_empty"] for page in pages] == [False, False, False, True]
    assert [page["message"] for page in pages] == [None, None, None, "There is no page 4: the last one is 3."]
    [last] = pages[2]["data"]
    assert last["user"]["username"] == "user1"
    assert (last["guild_id"], last["ts"], last["committed_at"]) == (str(GUILD), NOON_MS + 1, NOON_MS)


async def test_a_list_goes_on_from_a_page(web: Web) -> None:
    """Older with ``next``, newer with ``prev``; what comes meanwhile moves nothing."""
    await happen(web, *(violation(GUILD, number, ts_ms=NOON_MS + number // 2) for number in range(1, 6)))
    owner = await web.browser_of(membership(owns=True))

    def ids(page: dict[str, Any]) -> list[str]:
        return [row["message_id"] for row in page["data"]]

    first = await get(owner, HERE, per_page=2)
    assert (first["has_prev"], first["prev"]) == (False, None)
    await happen(web, violation(GUILD, 6, ts_ms=NOON_MS + 9))
    second = await get(owner, HERE, per_page=2, cursor=first["next"])
    third = await get(owner, HERE, per_page=2, cursor=second["next"])
    assert [ids(page) for page in (first, second, third)] == [["5", "4"], ["3", "2"], ["1"]]
    assert (third["has_next"], third["next"], third["total"]) == (False, None, 6)
    assert await get(owner, HERE, per_page=2, page=2, cursor=first["next"]) == third | {"page": 2}
    back = await get(owner, HERE, per_page=2, cursor=third["prev"])
    assert back["data"] == second["data"]
    assert (back["has_next"], back["has_prev"]) == (True, True)
    newest = await get(owner, HERE, per_page=5, cursor=third["prev"])
    assert ids(newest) == ["6", "5", "4", "3", "2"]
    assert (newest["has_prev"], newest["prev"], newest["has_next"]) == (False, None, True)


@pytest.mark.parametrize("cursor", ["x", "", "A" * 43, "A" * 45, "A" * 43 + "="])
async def test_a_place_has_its_form(web: Web, cursor: str) -> None:
    """Anything else is refused in a sentence; what has the form is a place, wherever that is."""
    owner = await web.browser_of(membership(owns=True))
    answer = await owner.get(HERE, params={"cursor": cursor})
    assert answer.status_code == 422
    assert answer.json()["error"]
    for place in ("A" * 44, "_" * 44, "-" * 44):
        listed = await get(owner, HERE, cursor=place)
        assert (listed["data"], listed["is_empty"]) == ([], True)
        assert listed["message"]


async def test_a_guild_without_violations_says_so(web: Web) -> None:
    """The list is empty, well-formed and explained."""
    owner = await web.browser_of(membership(owns=True))
    listed = await get(owner, HERE)
    assert (listed["data"], listed["total"], listed["is_empty"]) == ([], 0, True)
    assert listed["message"]


async def test_a_list_can_be_narrowed(web: Web) -> None:
    """By everything that a violation has, alone and together; the total is of what is wanted."""
    await happen(
        web,
        violation(GUILD, 1, ts_ms=NOON_MS + 1, severity="critical", user=person(7)),
        violation(GUILD, 2, ts_ms=NOON_MS + 2, rule="ünïcode rule", detection="banned_word"),
        violation(GUILD, 3, ts_ms=NOON_MS + 3, severity="critical"),
    )
    owner = await web.browser_of(membership(owns=True))
    for params, expected in (
        ({"severity": "critical"}, ["3", "1"]),
        ({"severity": "critical", "user_id": "7"}, ["1"]),
        ({"rule": "ünïcode rule"}, ["2"]),
        ({"rule": "' or 1=1 --"}, []),
        ({"detection": "banned_word"}, ["2"]),
        ({"since": NOON_MS + 2}, ["3", "2"]),
        ({"until": NOON_MS + 2}, ["1"]),
        ({"since": NOON_MS + 3, "until": 253_402_300_799_999}, ["3"]),
        ({"review": "unreviewed"}, ["3", "2", "1"]),
        ({"review": "reviewed"}, []),
        ({"user_id": str(2**63 - 1)}, []),
    ):
        page = await get(owner, HERE, **params)
        assert [row["message_id"] for row in page["data"]] == expected, params
        assert (page["total"], page["is_empty"]) == (len(expected), not expected)
        assert bool(page["message"]) == page["is_empty"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("severity", "grave"),
        ("detection", "x"),
        ("review", "maybe"),
        ("since", "yesterday"),
        ("since", -1),
        ("until", 253_402_300_800_000),
        ("until", 10**30),
        ("rule", "x" * 101),
        ("user_id", "0"),
        ("user_id", "-5"),
        ("user_id", str(2**63)),
        ("user_id", "1" * 30),
        ("user_id", "somebody"),
        ("user_id", ""),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(web: Web, name: str, value: object) -> None:
    """With a sentence, and never with a 500."""
    answer = await (await web.browser_of(membership(owns=True))).get(HERE, params={name: value})
    assert answer.status_code == 422
    body = answer.json()
    if name == "user_id":
        assert body["error_code"] == "invalid_user_id"
    else:
        assert [problem["where"] for problem in body["details"]] == [f"query.{name}"]


async def test_people_whose_names_did_not_come_are_looked_up(web: Web) -> None:
    """Who deleted their account is called so; who is known to the database is not asked for."""
    await happen(web, *(violation(GUILD, number, user=person(number)) for number in (1, 2, 3, 4)))
    del web.database.users[2], web.database.users[3], web.database.users[4]
    web.people.known[1] = described(1, "other", "Other", None, seen_ms=0)
    web.people.known[2] = described(2, "two", "Two", None, seen_ms=0)
    web.people.known[3] = gone(3, seen_ms=0)
    page = await get(await web.browser_of(membership(owns=True)), HERE)
    assert [(row["user"]["id"], row["user"]["display_name"]) for row in page["data"]] == [
        ("4", None),
        ("3", "Deleted User #000003"),
        ("2", "Two"),
        ("1", "User 1"),
    ]


async def test_nobody_looks_for_who_deleted_their_account(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database said so with the violation."""
    await happen(web, violation(GUILD, 3, user=person(3)))
    view = web.database.view

    def deleted(row: Row) -> ViolationView:
        return view(row).model_copy(update={"user": people.view(3, gone(3, seen_ms=0))})

    monkeypatch.setattr(web.database, "view", deleted)
    web.people.known[3] = described(3, "three", "Three", None, seen_ms=0)
    [row] = (await get(await web.browser_of(membership(owns=True)), HERE))["data"]
    assert row["user"]["display_name"] == "Deleted User #000003"


async def test_a_violation_has_an_address_in_its_server(web: Web) -> None:
    """In another one there is nothing at it."""
    one = violation(GUILD, 5)
    await happen(web, one, other := violation(GUILD + 1, 6))
    owner = await web.browser_of(membership(owns=True), membership(GUILD + 1, owns=True))
    assert (await get(owner, f"{HERE}/{one.event_id}"))["message_id"] == "5"
    for nothing in (other.event_id, uuid4()):
        answer = await owner.get(f"{HERE}/{nothing}")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "no_such_violation")
    answer = await owner.get(f"{HERE}/5")
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_request")


# -- reviews --------------------------------------------------------------------------------------


async def test_a_review_is_kept_and_told(web: Web) -> None:
    """The answer, the list, the stream and the log say the same."""
    one = violation(GUILD, 5)
    await happen(web, one)
    web.clock.advance(1_000)
    owner = await web.browser_of(membership(owns=True))
    answer = await review(owner, one.event_id, verdict="false_positive", note="  a joke ")
    assert answer.status_code == 200
    body = answer.json()
    assert body["review"] == {
        "verdict": "false_positive",
        "by": "1",
        "at": NOON_MS + 1_000,
        "note": "a joke",
        "version": 1,
    }
    assert await get(owner, f"{HERE}/{one.event_id}") == body
    assert (await get(owner, HERE, review="false_positive"))["data"] == [body]
    assert web.announcer.announced == [(GUILD, "violation", body)]
    [row] = web.database.audit
    assert (row.entry.action, row.entry.target, row.entry.actor_id) == (
        "violation.reviewed",
        str(one.event_id),
        1,
    )
    assert row.entry.request_id == answer.headers["x-request-id"]


async def test_a_review_sent_twice_is_one(web: Web) -> None:
    """An answer that was lost can be asked for again; the last review of several stands.

    One that was made from an earlier one than that changes nothing, not even the note.
    """
    one = violation(GUILD, 5)
    await happen(web, one)
    owner = await web.browser_of(membership(owns=True))
    first = await review(owner, one.event_id, verdict="confirmed")
    web.clock.advance(5_000)
    assert (await review(owner, one.event_id, verdict="confirmed", note="")).json() == first.json()
    assert len(web.announcer.announced) == len(web.database.audit) == 1
    web.database.roles[GUILD, 5] = "moderator"
    moderator = await web.browser_of(membership(), user_id=5)
    stale = await review(moderator, one.event_id, user_id=5, verdict="dismissed", note=None)
    assert (stale.status_code, stale.json()["error_code"]) == (409, "version_conflict")
    assert stale.json()["details"] == {"version": 1}
    assert await get(owner, f"{HERE}/{one.event_id}") == first.json()
    last = await review(moderator, one.event_id, user_id=5, verdict="dismissed", note=None, version=1)
    assert last.json()["review"] == {
        "verdict": "dismissed",
        "by": "5",
        "at": NOON_MS + 5_000,
        "note": None,
        "version": 2,
    }
    assert len(web.announcer.announced) == len(web.database.audit) == 2


async def test_what_a_moderator_types_is_data(web: Web) -> None:
    """It comes back as it was; white space alone is nothing."""
    one = violation(GUILD, 5)
    await happen(web, one)
    owner = await web.browser_of(membership(owns=True))
    typed_and_kept = (
        ("'; DROP TABLE violations; --", "'; DROP TABLE violations; --"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        (" \n ", None),
        ("✨" * 500, "✨" * 500),
    )
    for version, (typed, kept) in enumerate(typed_and_kept):
        answer = await review(owner, one.event_id, verdict="confirmed", note=typed, version=version)
        assert answer.json()["review"]["note"] == kept


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verdict": "maybe"},
        {"verdict": None},
        {"verdict": "confirmed", "note": "x" * 501},
        {"verdict": "confirmed", "note": 5},
        {"verdict": "confirmed", "by": "9"},
        {"verdict": "confirmed", "note": "a\0b"},
        {"verdict": "confirmed", "version": None},
        {"verdict": "confirmed", "version": -1},
    ],
)
async def test_a_review_that_makes_no_sense_is_refused(web: Web, body: dict[str, Any]) -> None:
    """And changes nothing."""
    one = violation(GUILD, 5)
    await happen(web, one)
    answer = await review(await web.browser_of(membership(owns=True)), one.event_id, **body)
    assert answer.status_code == 422
    assert not web.database.reviews
    assert not web.announcer.announced


async def test_nobody_reviews_what_is_not_theirs_or_not_there(web: Web) -> None:
    """A violation of another server is not found through one's own; nothing is written or told."""
    other = violation(GUILD + 1, 6)
    await happen(web, other)
    owner = await web.browser_of(membership(owns=True))
    for nothing in (other.event_id, uuid4()):
        answer = await review(owner, nothing, verdict="confirmed")
        assert (answer.status_code, answer.json()["error_code"]) == (404, "no_such_violation")
    assert not web.database.reviews
    assert not web.announcer.announced
    assert not [row for row in web.database.audit if row.entry.action == "violation.reviewed"]


@pytest.mark.parametrize("role", ["viewer", "outsider"])
async def test_who_only_looks_does_not_review(web: Web, role: str) -> None:
    """The missing permission is named."""
    one = violation(GUILD, 5)
    await happen(web, one)
    browser = await web.browser_of_role(role)
    answer = await review(browser, one.event_id, {"viewer": 6, "outsider": 4}[role], verdict="confirmed")
    assert (answer.status_code, answer.json()["details"]) == (403, {"permission": "manage_violations"})
    assert not web.database.reviews


async def test_a_review_needs_our_own_page(web: Web) -> None:
    """Without the session's token nothing changes."""
    one = violation(GUILD, 5)
    await happen(web, one)
    owner = await web.browser_of(membership(owns=True))
    answer = await review(owner, one.event_id, user_id=999, verdict="confirmed")
    assert (answer.status_code, answer.json()["error_code"]) == (403, "csrf")
    assert not web.database.reviews


async def test_a_slow_database_is_a_504(web: Web) -> None:
    """For lists, single ones and reviews."""
    web.insights.slow = True
    owner = await web.browser_of(membership(owns=True))
    answers = [
        await owner.get(HERE),
        await owner.get(f"{HERE}/{uuid4()}"),
        await review(owner, uuid4(), verdict="confirmed"),
    ]
    assert {(answer.status_code, answer.json()["error_code"]) for answer in answers} == {
        (504, "query_too_slow")
    }
