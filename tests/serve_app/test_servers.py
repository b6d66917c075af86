"""What the dashboard shows of a person's servers."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from adapters.memory import MemoryGuildStore
from adapters.memory.samples import NOON_MS, described, violation
from domain.events import Event
from domain.guild import GuildState, HourCounts, apply_all
from domain.ids import HOUR_MS
from domain.ports import Commit
from tests.serve_app.web import GUILD, INVITE_URL, Web, membership

PERIODS = [("hour", 1, 1), ("day", 24, 1), ("week", 168, 1), ("month", 30, 24)]


async def happen(web: Web, *events: Event) -> None:
    """Let a host make these events durable."""
    store = MemoryGuildStore(web.database)
    incarnation = await store.register_host("h0")
    for event in events:
        _, effects = apply_all(GuildState(event.guild_id), (event,))
        users = (event.user,) if hasattr(event, "user") else ()
        await store.commit(incarnation, Commit(effects=effects, users=users, marks=()))


async def get(browser: httpx2.AsyncClient, path: str, **params: Any) -> Any:
    answer = await browser.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


# -- the list -------------------------------------------------------------------------------------


async def test_servers_are_listed_by_name(web: Web) -> None:
    """Capitals do not count, and what one may not look at is not there."""
    names = {1: "beta", 2: "Alpha", 3: "GAMMA", 4: "Alpha"}
    guilds = [membership(number, owns=number != 3) for number in names]
    renamed = [type(guild)(guild.guild_id, names[guild.guild_id], None, guild.owns, 0) for guild in guilds]
    listed = await get(await web.browser_of(*renamed), "/api/servers")
    assert [server["id"] for server in listed["data"]] == ["2", "4", "1"]
    assert listed["total"] == 3


async def test_a_server_without_the_bot_can_be_invited_to(web: Web) -> None:
    """An invite address names the guild, and goes once the bot is there."""
    owner = await web.browser_of(membership(owns=True))
    [server] = (await get(owner, "/api/servers"))["data"]
    assert server == {
        "id": str(GUILD),
        "name": f"Guild {GUILD}",
        "icon_url": None,
        "member_count": None,
        "role": "owner",
        "bot_present": False,
        "bot_online": False,
        "invite_url": f"{INVITE_URL}&guild_id={GUILD}",
    }
    await happen(web, described(GUILD))
    [server] = (await get(owner, "/api/servers"))["data"]
    assert (server["bot_present"], server["invite_url"], server["member_count"]) == (True, None, 10)


async def test_nobody_without_servers_is_left_wondering(web: Web) -> None:
    """An empty list is well-formed and says what to do."""
    listed = await get(await web.browser_of(membership()), "/api/servers")
    assert "role" in listed.pop("message")
    assert listed == {
        "data": [],
        "total": 0,
        "page": 1,
        "per_page": 50,
        "has_next": False,
        "has_prev": False,
        "is_empty": True,
    }


@pytest.mark.parametrize(
    ("page", "ids", "has_next", "has_prev"),
    [(1, [1, 2], True, False), (2, [3, 4], True, True), (3, [5], False, True), (4, [], False, True)],
)
async def test_pages_hold_each_server_once(
    web: Web, page: int, ids: list[int], has_next: bool, has_prev: bool
) -> None:
    """Pages follow each other without a gap; one beyond the end is empty and knows the total."""
    owner = await web.browser_of(*(membership(number, owns=True) for number in range(1, 6)))
    listed = await get(owner, "/api/servers", page=page, per_page=2)
    assert [int(server["id"]) for server in listed["data"]] == ids
    assert (listed["has_next"], listed["has_prev"]) == (has_next, has_prev)
    assert (listed["total"], listed["is_empty"], listed["message"]) == (5, False, None)


@pytest.mark.parametrize("path", ["/api/servers", f"/api/servers/{GUILD}/violations"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("per_page", 0),
        ("per_page", 101),
        ("per_page", -1),
        ("per_page", "many"),
        ("page", 0),
        ("page", 100_001),
        ("page", "1.5"),
        ("page", ""),
    ],
)
async def test_pages_have_bounds(web: Web, path: str, name: str, value: object) -> None:
    """A page outside of them is refused with the name of what is wrong."""
    answer = await (await web.browser_of(membership(owns=True))).get(path, params={name: value})
    assert answer.status_code == 422
    assert [problem["where"] for problem in answer.json()["details"]] == [f"query.{name}"]


@pytest.mark.parametrize(("page", "per_page"), [(1, 1), (1, 100), (100_000, 100)])
async def test_the_bounds_themselves_are_pages(web: Web, page: int, per_page: int) -> None:
    """The first and the last that are allowed answer."""
    owner = await web.browser_of(membership(owns=True))
    listed = await get(owner, "/api/servers", page=page, per_page=per_page)
    assert (listed["page"], listed["per_page"], listed["total"]) == (page, per_page, 1)


# -- metrics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("period", "buckets", "bucket_hours"), PERIODS)
async def test_a_guild_where_nothing_happened_has_zeros(
    web: Web, period: str, buckets: int, bucket_hours: int
) -> None:
    """Numbers are 0 and not missing, the series is whole, and what nobody told us is null."""
    web.clock.now_ms = NOON_MS + 1_234
    metrics = await get(
        await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics", period=period
    )
    since = NOON_MS - (buckets * bucket_hours - 1) * HOUR_MS
    series = metrics.pop("series")
    assert series == [
        {"ts": since + index * bucket_hours * HOUR_MS, "messages": 0, "violations": 0}
        for index in range(buckets)
    ]
    assert metrics == {
        "guild_id": str(GUILD),
        "period": period,
        "since": since,
        "until": NOON_MS + 1_234,
        "messages": 0,
        "violations": 0,
        "by_severity": {"low": 0, "medium": 0, "high": 0, "critical": 0},
        "joins": 0,
        "leaves": 0,
        "member_count": None,
        "bot_online": False,
    }


@pytest.mark.parametrize(("period", "buckets", "bucket_hours"), PERIODS)
async def test_metrics_are_the_sums_of_their_series(
    web: Web, period: str, buckets: int, bucket_hours: int
) -> None:
    """The period's first and last hour count, those around it do not, and the sums are the series' own."""
    since = NOON_MS - (buckets * bucket_hours - 1) * HOUR_MS
    hours = {since - HOUR_MS, since, since + (buckets * bucket_hours // 2) * HOUR_MS, NOON_MS}
    for hour_ms in hours:
        web.database.add_hour(GUILD, HourCounts(hour_ms, 10, 1, 2, 3, 4, 5, 6))
    web.database.add_hour(GUILD + 1, HourCounts(NOON_MS, 999))
    metrics = await get(
        await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics", period=period
    )
    inside = len(hours) - 1
    assert metrics["messages"] == sum(bucket["messages"] for bucket in metrics["series"]) == 10 * inside
    assert metrics["violations"] == sum(bucket["violations"] for bucket in metrics["series"]) == 10 * inside
    assert metrics["by_severity"] == {
        "low": inside,
        "medium": 2 * inside,
        "high": 3 * inside,
        "critical": 4 * inside,
    }
    assert (metrics["joins"], metrics["leaves"]) == (5 * inside, 6 * inside)
    assert metrics["series"][0]["messages"] == (10 if buckets > 1 else 10 * inside)
    assert len(metrics["series"]) == buckets


async def test_an_hour_that_has_not_begun_is_in_no_sum(web: Web) -> None:
    """Discord's clock may run ahead of ours; the sums stay the series' own."""
    web.clock.now_ms = NOON_MS - 1
    web.database.add_hour(GUILD, HourCounts(NOON_MS, 1))
    metrics = await get(await web.browser_of(membership(owns=True)), f"/api/servers/{GUILD}/metrics")
    assert metrics["messages"] == sum(bucket["messages"] for bucket in metrics["series"]) == 0


async def test_an_unknown_period_is_refused(web: Web) -> None:
    """Only the four periods are answered."""
    answer = await (await web.browser_of(membership(owns=True))).get(
        f"/api/servers/{GUILD}/metrics", params={"period": "year"}
    )
    assert (answer.status_code, answer.json()["error_code"]) == (422, "invalid_request")
    assert answer.json()["details"][0]["where"] == "query.period"


# -- violations -----------------------------------------------------------------------------------


async def test_violations_are_listed_newest_first(web: Web) -> None:
    """Pages follow each other without a gap, and hold nothing of another guild."""
    await happen(web, *(violation(GUILD, number, ts_ms=NOON_MS + number) for number in range(1, 6)))
    await happen(web, violation(GUILD + 1, 9))
    owner = await web.browser_of(membership(owns=True))
    pages = [
        await get(owner, f"/api/servers/{GUILD}/violations", page=page, per_page=2) for page in range(1, 5)
    ]
    found = [[row["message_id"] for row in page["data"]] for page in pages]
    assert found == [["5", "4"], ["3", "2"], ["1"], []]
    assert [page["has_next"] for page in pages] == [True, True, False, False]
    assert {page["total"] for page in pages} == {5}
    [last] = pages[2]["data"]
    assert last["user"]["username"] == "user1"
    assert (last["guild_id"], last["ts"], last["committed_at"]) == (str(GUILD), NOON_MS + 1, NOON_MS)


async def test_a_guild_without_violations_says_so(web: Web) -> None:
    """The list is empty, well-formed and explained."""
    owner = await web.browser_of(membership(owns=True))
    listed = await get(owner, f"/api/servers/{GUILD}/violations")
    assert (listed["data"], listed["total"], listed["is_empty"]) == ([], 0, True)
    assert listed["message"]
