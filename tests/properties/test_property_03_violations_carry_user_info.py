"""Property 3: every violation says whose it is, whatever is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.memory.samples import NOON_MS, violation
from domain.events import UserRef
from domain.ids import MAX_SNOWFLAKE
from domain.people import Person
from tests.serve_app.test_servers import happen
from tests.serve_app.web import PLAIN, Web, membership, running

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=32)
knowledge = st.fixed_dictionaries(
    {
        "username": texts,
        "display_name": texts,
        "avatar_url": st.none() | texts,
        "by": st.sampled_from(["the database", "Discord", "nobody", "deleted"]),
    }
)
people = st.dictionaries(st.integers(1, MAX_SNOWFLAKE), knowledge, min_size=1, max_size=6)


def expected(user_id: int, known: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {name: known[name] for name in ("username", "display_name", "avatar_url")}
    if known["by"] == "nobody":
        names = dict.fromkeys(names)
    elif known["by"] == "deleted":
        names = dict.fromkeys(names) | {"display_name": f"Deleted User #{str(user_id)[-6:].zfill(6)}"}
    return {"id": str(user_id)} | names


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=people, guild_id=st.integers(1, MAX_SNOWFLAKE), data=st.data())
async def test_every_violation_carries_its_person(
    page_dir: Path, people: dict[int, dict[str, Any]], guild_id: int, data: st.DataObject
) -> None:
    """In the list, by itself, among the top offenders and in what a review announces, one and the same."""
    async with running(PLAIN, page_dir) as web:
        offenders = data.draw(st.lists(st.sampled_from(sorted(people)), min_size=1, max_size=8))
        for number, user_id in enumerate(offenders, 1):
            known = people[user_id]
            user = UserRef(user_id, known["username"], known["display_name"], known["avatar_url"])
            await happen(web, violation(guild_id, number, user=user, ts_ms=NOON_MS))
        know(web, people)
        async with await web.browser_of(membership(guild_id, owns=True)) as owner:
            base = f"/api/servers/{guild_id}"
            listed = (await owner.get(f"{base}/violations")).json()
            assert listed["total"] == len(offenders)
            for row in listed["data"]:
                user_id = offenders[int(row["message_id"]) - 1]
                assert row["user"] == expected(user_id, people[user_id])
                assert (await owner.get(f"{base}/violations/{row['id']}")).json() == row
            top = (await owner.get(f"{base}/top-offenders")).json()
            assert sorted(int(row["user"]["id"]) for row in top["data"]) == sorted(set(offenders))
            reviewed = await owner.post(
                f"{base}/violations/{row['id']}/review",
                json={"verdict": "confirmed", "version": 0},
                headers={"x-csrf-token": "csrf-1"},
            )
            assert reviewed.json()["user"] == row["user"]
            assert [told.data["user"] for told in web.announcer.announced] == [row["user"]]


def know(web: Web, people: dict[int, dict[str, Any]]) -> None:
    """Let the right places know the right people."""
    for user_id, known in people.items():
        if known["by"] != "the database":
            web.database.users.pop(user_id, None)
        names = (known["username"], known["display_name"], known["avatar_url"])
        if known["by"] == "Discord":
            web.people.known[user_id] = Person(user_id, *names, seen_ms=NOON_MS)
        elif known["by"] == "deleted":
            web.people.known[user_id] = Person(user_id, None, None, None, seen_ms=NOON_MS, deleted=True)
