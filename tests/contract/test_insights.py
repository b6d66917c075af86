"""One suite for the answers from a guild's violations, in Postgres and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.insight_store import PostgresInsightStore
from adapters.memory.samples import NOON_MS, person, violation
from adapters.people_table import PeopleTable
from adapters.postgres import open_pool
from domain.audit import Change
from domain.errors import QueryTooSlow, StoreUnavailable, VersionConflict
from domain.events import SEVERITIES, ActionSettled, Severity, ViolationDetected
from domain.guild import ActionRecorded, Effect
from domain.ids import HOUR_MS, MAX_SNOWFLAKE
from domain.insights import QUARTER_MS, Beyond, Offender, Reviewed, RuleRecord, Span, Wanted, span_of
from domain.json_numbers import MOST_WHOLE
from domain.people import gone
from domain.views import SeverityCounts, Verdict
from tests.contract.stores import Host, Stores, fresh_id, memory_stores, postgres_stores

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
SPAN = Span(NOON_MS, NOON_MS + 4 * HOUR_MS)
OTHER = Change(9, None)
BY = Change(by_user_id=77, request_id="r-1")


@pytest.fixture(scope="module")
async def postgres(postgres_dsn: str) -> AsyncIterator[Stores]:
    found, opened = await postgres_stores(postgres_dsn)
    await found.guilds.ensure_partitions(NOON_MS)
    yield found
    for store in opened:
        await store.close()


@pytest.fixture(params=["memory", "postgres"])
def stores(request: pytest.FixtureRequest, postgres: Stores) -> Stores:
    return memory_stores() if request.param == "memory" else postgres


@pytest.fixture
def guild_id() -> int:
    return fresh_id()


@pytest.fixture
async def host(stores: Stores) -> Host:
    return await stores.begin(f"host{fresh_id()}")


async def tell(host: Host, guild_id: int, *changes: dict[str, Any]) -> list[ViolationDetected]:
    """Commit violations, each different from the sample by its changes, a minute apart."""
    made = [
        violation(guild_id, number, **({"ts_ms": NOON_MS + number * 60_000} | change))
        for number, change in enumerate(changes, 1)
    ]
    await host.tell(guild_id, *made)
    return made


def _settled(one: ViolationDetected) -> tuple[Effect, ...]:
    return (ActionRecorded(ActionSettled(one.guild_id, one.event_id, one.ts_ms, "done")),)


async def found(stores: Stores, guild_id: int, limit: int = 100, offset: int = 0, **wanted: Any) -> list[int]:
    """Return the message ids on a page; every page must know how many rows there are of what is wanted."""
    ask = stores.insights.violations
    rows, total = await ask(guild_id, Wanted(**wanted), limit=limit, offset=offset)
    everything, _ = await ask(guild_id, Wanted(**wanted), limit=1_000, offset=0)
    _, total_of_first = await ask(guild_id, Wanted(**wanted), limit=1, offset=0)
    assert total == total_of_first == len(everything)
    return [int(row.message_id) for row in rows]


# -- the list -------------------------------------------------------------------------------------


async def test_filters_take_away_what_does_not_fit(stores: Stores, host: Host, guild_id: int) -> None:
    """Each by itself and all together; nothing of another guild comes in."""
    other_person = person(fresh_id())
    await tell(
        host,
        guild_id,
        {"severity": "critical"},
        {"detection": "banned_word", "rule": "banned-words"},
        {"user": other_person},
        {"severity": "critical", "user": other_person},
    )
    await tell(host, fresh_id(), {"severity": "critical"})
    assert await found(stores, guild_id) == [4, 3, 2, 1]
    assert await found(stores, guild_id, severity="critical") == [4, 1]
    assert await found(stores, guild_id, severity="medium") == [3, 2]
    assert await found(stores, guild_id, detection="banned_word") == [2]
    assert await found(stores, guild_id, rule="banned-words") == [2]
    assert await found(stores, guild_id, user_id=other_person.user_id) == [4, 3]
    assert await found(stores, guild_id, user_id=other_person.user_id, severity="critical") == [4]
    assert await found(stores, guild_id, rule="banned-words", severity="critical") == []
    assert await found(stores, guild_id, rule="no such ✨ rule") == []
    assert await found(stores, guild_id, user_id=MAX_SNOWFLAKE) == []


@pytest.mark.parametrize("severity", SEVERITIES)
async def test_each_severity_is_counted_for_itself(
    stores: Stores, host: Host, guild_id: int, severity: Severity
) -> None:
    """Over all hours, and none of the others with it."""
    counts = {"low": 2, "medium": 3, "high": 4, "critical": 5}
    several = [
        {"severity": name, "ts_ms": NOON_MS + n * HOUR_MS} for name in SEVERITIES for n in range(counts[name])
    ]
    await tell(host, guild_id, *several)
    assert len(await found(stores, guild_id, severity=severity)) == counts[severity]


async def test_a_time_holds_its_start_and_not_its_end(stores: Stores, host: Host, guild_id: int) -> None:
    """To the millisecond; a time that ends before it begins holds nothing."""
    await tell(host, guild_id, {"ts_ms": NOON_MS}, {"ts_ms": NOON_MS + 1}, {"ts_ms": NOON_MS + 2})
    assert await found(stores, guild_id, since_ms=NOON_MS + 1) == [3, 2]
    assert await found(stores, guild_id, until_ms=NOON_MS + 1) == [1]
    assert await found(stores, guild_id, since_ms=NOON_MS + 1, until_ms=NOON_MS + 2) == [2]
    assert await found(stores, guild_id, since_ms=NOON_MS + 2, until_ms=NOON_MS) == []


async def test_reviews_are_a_filter(stores: Stores, host: Host, guild_id: int) -> None:
    """What nobody looked at, what somebody did, and what they said of it; with other filters too."""
    made = await tell(host, guild_id, {}, {}, {"severity": "low"}, {"severity": "low"})
    verdicts: dict[int, Verdict] = {1: "confirmed", 2: "false_positive", 3: "false_positive"}
    for number, verdict in verdicts.items():
        await stores.insights.review(
            guild_id, made[number - 1].event_id, verdict, None, from_version=0, change=BY
        )
    assert await found(stores, guild_id, review="reviewed") == [3, 2, 1]
    assert await found(stores, guild_id, review="unreviewed") == [4]
    assert await found(stores, guild_id, review="confirmed") == [1]
    assert await found(stores, guild_id, review="false_positive") == [3, 2]
    assert await found(stores, guild_id, review="dismissed") == []
    assert await found(stores, guild_id, review="false_positive", severity="low") == [3]
    assert await found(stores, guild_id, review="unreviewed", severity="medium") == []
    assert await found(stores, guild_id, review="unreviewed", since_ms=NOON_MS, limit=1) == [4]


async def test_pages_past_the_end_are_empty_and_know_the_total(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """As does the page of a guild that has nothing."""
    await tell(host, guild_id, {}, {}, {})
    assert await found(stores, guild_id, limit=2, offset=2) == [1]
    for wanted in (Wanted(), Wanted(severity="medium"), Wanted(rule="invite-links")):
        assert await stores.insights.violations(guild_id, wanted, limit=2, offset=10**7) == ([], 3)
        assert await stores.insights.violations(fresh_id(), wanted, limit=2, offset=0) == ([], 0)


async def test_one_violation_is_found_in_its_own_guild(stores: Stores, host: Host, guild_id: int) -> None:
    """And in no other."""
    [one] = await tell(host, guild_id, {})
    seen = await stores.insights.violation(guild_id, one.event_id)
    assert seen is not None
    assert ([seen], 1) == await stores.insights.violations(guild_id, Wanted(), limit=9, offset=0)
    assert await stores.insights.violation(fresh_id(), one.event_id) is None
    assert await stores.insights.violation(guild_id, uuid4()) is None


@pytest.mark.parametrize("stores", ["postgres"], indirect=True)
async def test_who_deleted_their_account_is_called_so(
    stores: Stores, host: Host, guild_id: int, postgres_dsn: str
) -> None:
    """Wherever their violations are read, also in what a host publishes; the twin keeps no such people."""
    [one] = await tell(host, guild_id, {"user": person(1_234_567 + guild_id * 10_000_000)})
    pool = await open_pool(postgres_dsn, max_size=1)
    await PeopleTable(pool).remember([gone(one.user.user_id, seen_ms=2**41)])
    await pool.close()
    [settled] = (await host.commit(*_settled(one), users=())).settled
    seen = await stores.insights.violation(guild_id, one.event_id)
    assert seen is not None
    assert seen.user == settled.user
    assert (seen.user.username, seen.user.display_name) == (None, "Deleted User #234567")


_places = st.lists(
    st.fixed_dictionaries(
        {
            # Within some hours, on their first and last milliseconds, and at one time.
            "ts_ms": st.sampled_from([0, 0, 1, HOUR_MS - 1, HOUR_MS, 2 * HOUR_MS, 40 * HOUR_MS]).map(
                lambda ms: NOON_MS + ms
            ),
            "rule": st.sampled_from(["a", "b"]),
            "severity": st.sampled_from(["low", "high"]),
        }
    ),
    min_size=1,
    max_size=12,
)


@SHARED
@given(
    _places,
    st.sampled_from(
        [
            Wanted(),
            Wanted(severity="low"),
            Wanted(rule="a"),
            Wanted(review="unreviewed"),
            Wanted(review="reviewed"),
            Wanted(user_id=person().user_id),
            Wanted(since_ms=NOON_MS + 1, until_ms=NOON_MS + 2 * HOUR_MS),
            Wanted(rule="b", since_ms=NOON_MS, until_ms=NOON_MS + HOUR_MS),
        ]
    ),
    st.integers(1, 3),
)
async def test_a_list_goes_on_from_a_row(
    stores: Stores, places: list[dict[str, Any]], wanted: Wanted, limit: int
) -> None:
    """Both ways, page after page, no row is missing, none comes twice, and the total stays the same."""
    guild_id = fresh_id()
    host = await stores.begin(f"host{guild_id}")
    for one in (await tell(host, guild_id, *places))[::3]:
        await stores.insights.review(guild_id, one.event_id, "confirmed", None, from_version=0, change=BY)
    everything, total = await stores.insights.violations(guild_id, wanted, limit=100, offset=0)
    if not everything:
        return
    for start, newer in ((0, False), (len(everything) - 1, True)):
        walked = [everything[start]]
        while True:
            at = walked[0] if newer else walked[-1]
            beyond = Beyond(at.ts, int(at.message_id), at.id, newer)
            page, of = await stores.insights.violations(
                guild_id, wanted, limit=limit, offset=0, beyond=beyond
            )
            assert of == total
            if not page:
                break
            walked = [*page, *walked] if newer else [*walked, *page]
        assert walked == everything


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("ts_ms", [0, 253_402_300_799_998])
@pytest.mark.parametrize(
    "wanted", [Wanted(detection="repeated_message"), Wanted(), Wanted(since_ms=253_402_300_799_999)]
)
async def test_a_list_goes_on_from_the_ends_of_time(  # noqa: PLR0917 - pytest names them
    stores: Stores, host: Host, guild_id: int, wanted: Wanted, ts_ms: int, newer: bool
) -> None:
    """A place that is no row's is a place all the same, in the last hour that has a date too."""
    await tell(host, guild_id, {})
    beyond = Beyond(ts_ms, 1, UUID(int=1), newer)
    rows, total = await stores.insights.violations(guild_id, wanted, limit=5, offset=0, beyond=beyond)
    assert len(rows) <= total <= 1


# -- reviews --------------------------------------------------------------------------------------


async def test_the_last_review_stands(stores: Stores, host: Host, guild_id: int) -> None:
    """With who said it, when and why; the violation shows it wherever it is read."""
    [one] = await tell(host, guild_id, {})
    first = await stores.insights.review(
        guild_id, one.event_id, "confirmed", "spam ✨", from_version=0, change=BY
    )
    assert first is not None
    assert first.changed
    assert first.violation.review is not None
    version = first.violation.review.version
    assert 0 < version <= MOST_WHOLE
    assert first.violation.review.plain() | {"at": 0} == {
        "verdict": "confirmed",
        "by": "77",
        "at": 0,
        "note": "spam ✨",
        "version": version,
    }
    second = await stores.insights.review(
        guild_id, one.event_id, "dismissed", None, from_version=version, change=Change(78, None)
    )
    assert second is not None
    assert second.violation.review is not None
    assert (second.violation.review.verdict, second.violation.review.by) == ("dismissed", "78")
    assert second.violation.review.note is None
    assert second.violation.review.at >= first.violation.review.at
    assert await stores.insights.violation(guild_id, one.event_id) == second.violation
    [listed], _ = await stores.insights.violations(guild_id, Wanted(), limit=1, offset=0)
    assert listed == second.violation


async def test_a_review_said_twice_changes_nothing(stores: Stores, host: Host, guild_id: int) -> None:
    """By the same person; when somebody else says the same, it is theirs."""
    [one] = await tell(host, guild_id, {})
    first = await stores.insights.review(guild_id, one.event_id, "confirmed", "n", from_version=0, change=BY)
    again = await stores.insights.review(
        guild_id, one.event_id, "confirmed", "n", from_version=0, change=BY._replace(request_id="2")
    )
    assert first is not None
    assert again == first._replace(changed=False)
    last = first
    others: tuple[tuple[Verdict, Change], ...] = (("confirmed", BY), ("dismissed", BY), ("dismissed", OTHER))
    for verdict, change in others:
        assert last.violation.review is not None
        version = last.violation.review.version
        other = await stores.insights.review(
            guild_id, one.event_id, verdict, "m", from_version=version, change=change
        )
        assert other is not None
        assert other.changed
        last = other
    assert [entry.actor_id for entry in await stores.books.audit(guild_id)] == [77, 77, 77, 9]


async def test_a_review_is_in_the_audit_log(stores: Stores, host: Host, guild_id: int) -> None:
    """With what was said before; one that found nothing to review is not."""
    [one] = await tell(host, guild_id, {})
    assert (
        await stores.insights.review(guild_id, uuid4(), "confirmed", None, from_version=0, change=BY) is None
    )
    assert (
        await stores.insights.review(fresh_id(), one.event_id, "confirmed", None, from_version=0, change=BY)
        is None
    )
    first = await stores.insights.review(
        guild_id, one.event_id, "confirmed", "why", from_version=0, change=BY
    )
    assert first is not None
    assert first.violation.review is not None
    version = first.violation.review.version
    second = await stores.insights.review(
        guild_id, one.event_id, "dismissed", None, from_version=version, change=BY
    )
    assert second is not None
    told = await stores.books.audit(guild_id)
    assert {(entry.action, entry.target, entry.actor_id, entry.request_id) for entry in told} == {
        ("violation.reviewed", str(one.event_id), 77, "r-1")
    }
    before, after = (reviewed.violation.review for reviewed in (first, second))
    assert before is not None
    assert after is not None
    assert [entry.details for entry in told] == [
        {"rule": "invite-links", "before": None, "after": before.plain()},
        {"rule": "invite-links", "before": before.plain(), "after": after.plain()},
    ]


async def test_a_review_of_what_somebody_else_reviewed_meanwhile_is_refused(
    stores: Stores, host: Host, guild_id: int
) -> None:
    """Of several at once one stands, with its note and its line in the log; the others learn its version."""
    [one] = await tell(host, guild_id, {})
    outcomes = await asyncio.gather(
        *(
            stores.insights.review(
                guild_id, one.event_id, "confirmed", f"{number}", from_version=0, change=Change(number, None)
            )
            for number in range(8)
        ),
        return_exceptions=True,
    )
    [stands] = [outcome for outcome in outcomes if isinstance(outcome, Reviewed)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, VersionConflict)]
    assert stands.violation.review is not None
    assert [conflict.current_version for conflict in refused] == [stands.violation.review.version] * 7
    assert await stores.insights.violation(guild_id, one.event_id) == stands.violation
    [entry] = await stores.books.audit(guild_id)
    assert entry.details["after"] == stands.violation.review.plain()
    with pytest.raises(VersionConflict):
        await stores.insights.review(guild_id, one.event_id, "dismissed", None, from_version=2, change=BY)


async def test_a_violation_settles_with_its_review(stores: Stores, host: Host, guild_id: int) -> None:
    """A moderator may be faster than Discord."""
    [one] = await tell(host, guild_id, {})
    reviewed = await stores.insights.review(
        guild_id, one.event_id, "confirmed", None, from_version=0, change=BY
    )
    committed = await host.tell(guild_id, ActionSettled(guild_id, one.event_id, one.ts_ms, "done"))
    assert reviewed is not None
    assert [view.review for view in committed.settled] == [reviewed.violation.review]


# -- analytics ------------------------------------------------------------------------------------


async def test_half_of_the_actions_ended_sooner(stores: Stores, host: Host, guild_id: int) -> None:
    """Of an even number the lower of the middle ones; what has not ended, or nobody timed, is not counted."""
    assert await stores.insights.response_ms(guild_id, SPAN) is None
    made = await tell(host, guild_id, {}, {}, {}, {}, {}, {}, {"ts_ms": SPAN.until_ms})
    assert await stores.insights.response_ms(guild_id, SPAN) is None
    took = (900, 40, 7_000, 300, None, None, 1)
    for one, ms in zip(made, took, strict=True):
        settled_ms = None if ms is None else one.ts_ms + ms
        status = "failed" if ms == 300 else "done"
        await host.tell(guild_id, ActionSettled(guild_id, one.event_id, one.ts_ms, status, settled_ms))  # type: ignore[arg-type]
    assert await stores.insights.response_ms(guild_id, SPAN) == 300


async def test_an_answer_before_the_question_took_no_time(stores: Stores, host: Host, guild_id: int) -> None:
    """Our clock may be behind Discord's."""
    [one] = await tell(host, guild_id, {})
    settled = ActionSettled(guild_id, one.event_id, one.ts_ms, "done", one.ts_ms - 5_000)
    await host.tell(guild_id, settled)
    assert await stores.insights.response_ms(guild_id, SPAN) == 0


@pytest.mark.parametrize(
    ("severities", "escalated"),
    [
        ([], 0),
        (["low"], 0),
        (["critical"], 0),
        (["low", "high"], 1),
        (["medium", "critical"], 1),
        (["high", "low"], 0),
        (["high", "critical"], 0),
        (["low", "medium"], 0),
        (["high", "medium", "critical"], 1),
        (["medium", "high", "low", "high"], 1),
    ],
)
async def test_who_went_from_bad_to_worse(
    stores: Stores, host: Host, guild_id: int, severities: list[Severity], escalated: int
) -> None:
    """A high or critical violation after a low or medium one, by one person, within the time."""
    others = ({"severity": severity, "user": person(fresh_id())} for severity in ("low", "critical"))
    await tell(host, guild_id, *({"severity": severity} for severity in severities), *others)
    assert await stores.insights.escalated(guild_id, SPAN) == escalated
    assert await stores.insights.escalated(guild_id, SPAN.before) == 0


async def test_at_one_moment_nobody_goes_anywhere(stores: Stores, host: Host, guild_id: int) -> None:
    """Two violations of one time are in no order."""
    await tell(
        host, guild_id, {"ts_ms": NOON_MS, "severity": "low"}, {"ts_ms": NOON_MS, "severity": "critical"}
    )
    assert await stores.insights.escalated(guild_id, SPAN) == 0


async def test_offenders_come_by_what_they_did(stores: Stores, host: Host, guild_id: int) -> None:
    """Who has most first, then by id; pages follow each other and know how many there are."""
    people = sorted(fresh_id() for _ in range(3))
    first, second, third = (person(user_id) for user_id in people)
    await tell(
        host,
        guild_id,
        {"user": third, "severity": "low"},
        {"user": second},
        {"user": third, "severity": "critical"},
        {"user": first},
        {"user": third, "ts_ms": SPAN.until_ms},
        {"user": third, "ts_ms": SPAN.since_ms - 1},
    )
    none = SeverityCounts(low=0, medium=0, high=0, critical=0)
    medium = none.model_copy(update={"medium": 1})
    both = none.model_copy(update={"low": 1, "critical": 1})
    offenders = [
        Offender(third.user_id, both, NOON_MS + 180_000),
        Offender(first.user_id, medium, NOON_MS + 240_000),
        Offender(second.user_id, medium, NOON_MS + 120_000),
    ]
    assert await stores.insights.offenders(guild_id, SPAN, limit=9, offset=0) == (offenders, 3)
    assert await stores.insights.offenders(guild_id, SPAN, limit=2, offset=0) == (offenders[:2], 3)
    assert await stores.insights.offenders(guild_id, SPAN, limit=2, offset=2) == (offenders[2:], 3)
    assert await stores.insights.offenders(guild_id, SPAN, limit=2, offset=4) == ([], 3)
    assert await stores.insights.offenders(fresh_id(), SPAN, limit=2, offset=0) == ([], 0)


async def test_rules_tell_what_became_of_them(stores: Stores, host: Host, guild_id: int) -> None:
    """Their violations, how actions ended, what reviews said, and what was before; who has most first."""
    made = await tell(
        host,
        guild_id,
        {"rule": "a", "severity": "low"},
        {"rule": "a", "severity": "critical"},
        {"rule": "a", "severity": "high", "action": "none", "action_status": "none"},
        {"rule": "b"},
        {"rule": "a", "ts_ms": SPAN.since_ms - 1},
        {"rule": "c", "ts_ms": SPAN.before.since_ms},
        {"rule": "d", "ts_ms": SPAN.before.since_ms - 1},
        {"rule": "d", "ts_ms": SPAN.until_ms},
    )
    for one, status in ((made[0], "done"), (made[1], "failed"), (made[4], "done")):
        await host.tell(guild_id, ActionSettled(guild_id, one.event_id, one.ts_ms, status))  # type: ignore[arg-type]
    for one, verdict in ((made[0], "false_positive"), (made[1], "confirmed"), (made[4], "false_positive")):
        await stores.insights.review(guild_id, one.event_id, verdict, None, from_version=0, change=BY)  # type: ignore[arg-type]
    assert await stores.insights.rules(guild_id, SPAN) == [
        RuleRecord("a", low=1, high=1, critical=1, done=1, failed=1, reviewed=2, false_positives=1, before=1),
        RuleRecord("b", medium=1, pending=1),
        RuleRecord("c", before=1),
    ]
    assert await stores.insights.rules(fresh_id(), SPAN) == []


async def test_violations_are_counted_by_quarters(stores: Stores, host: Host, guild_id: int) -> None:
    """A quarter holds its first millisecond and not the next one's; those without are missing."""
    times = (
        NOON_MS - 1,
        NOON_MS,
        NOON_MS + QUARTER_MS - 1,
        NOON_MS + QUARTER_MS,
        SPAN.until_ms - 1,
        SPAN.until_ms,
    )
    await tell(host, guild_id, *({"ts_ms": ts_ms} for ts_ms in times))
    assert await stores.insights.quarters(guild_id, SPAN) == {
        NOON_MS: 2,
        NOON_MS + QUARTER_MS: 1,
        SPAN.until_ms - QUARTER_MS: 1,
    }
    assert await stores.insights.quarters(fresh_id(), SPAN) == {}


# -- both say the same ----------------------------------------------------------------------------

_rows = st.lists(
    st.tuples(
        st.integers(1, 5),  # person
        st.sampled_from(["a", "b", "c"]),  # rule
        st.sampled_from(SEVERITIES),
        st.integers(-6 * 12, 12),  # five minutes
        st.sampled_from([None, "done", "failed"]),
        st.sampled_from([None, "confirmed", "false_positive", "dismissed"]),
    ),
    max_size=25,
)
_wanted = st.builds(
    Wanted,
    st.sampled_from([None, *SEVERITIES]),
    st.none(),
    st.sampled_from([None, 1, 2, 9]),
    st.sampled_from([None, "a", "b", "z"]),
    st.none() | st.integers(-70, 10).map(lambda n: NOON_MS + n * 300_000),
    st.none() | st.integers(-70, 10).map(lambda n: NOON_MS + n * 300_000),
    st.sampled_from([None, "reviewed", "unreviewed", "confirmed", "false_positive", "dismissed"]),
)


@settings(SHARED, max_examples=60)
@given(rows=_rows, wanted=st.lists(_wanted, max_size=6), limit=st.integers(1, 30), offset=st.integers(0, 30))
async def test_both_stores_answer_alike(
    postgres: Stores, rows: list[Any], wanted: list[Wanted], limit: int, offset: int
) -> None:
    """Whatever happened, and whatever is asked."""
    guild_id, spans = fresh_id(), [span_of(period, NOON_MS) for period in ("hour", "day", "week", "month")]
    spans.append(Span(NOON_MS - 3 * HOUR_MS, NOON_MS))
    answers = []
    for stores in (memory_stores(), postgres):
        host = await stores.begin(f"host{guild_id}")
        for number, (user_id, rule, severity, at, status, verdict) in enumerate(rows, 1):
            one = violation(
                guild_id,
                number,
                user=person(user_id),
                rule=rule,
                severity=severity,
                ts_ms=NOON_MS + at * 300_000,
            )
            events: list[Any] = [one]
            if status:
                settled_ms = None if number % 5 == 0 else one.ts_ms + number * 37 % 1_000
                events.append(ActionSettled(guild_id, one.event_id, one.ts_ms, status, settled_ms))
            await host.tell(guild_id, *events)
            if verdict:
                await stores.insights.review(guild_id, one.event_id, verdict, None, from_version=0, change=BY)
        ask = stores.insights
        answers.append(
            [
                *[
                    ([row.message_id for row in page], total)
                    for one in [*wanted, Wanted()]
                    for page, total in [await ask.violations(guild_id, one, limit=limit, offset=offset)]
                ],
                *[
                    (
                        await ask.response_ms(guild_id, span),
                        await ask.escalated(guild_id, span),
                        await ask.offenders(guild_id, span, limit=limit, offset=offset),
                        await ask.rules(guild_id, span),
                        await ask.quarters(guild_id, span),
                    )
                    for span in spans
                ],
            ]
        )
    assert answers[0] == answers[1]


# -- slow, and away -------------------------------------------------------------------------------


async def test_what_takes_too_long_is_ended(postgres_dsn: str) -> None:
    """By the database itself, which is then free for others; and the store goes on."""
    store = await PostgresInsightStore.open(postgres_dsn, timeout_ms=50)
    try:
        async with store._pool.transaction() as connection:
            await connection.execute("LOCK TABLE violations, violation_rule_hours IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(QueryTooSlow):
                await store.quarters(1, SPAN)
            with pytest.raises(QueryTooSlow):
                await store.violations(1, Wanted(), limit=1, offset=0)
        assert await store.quarters(fresh_id(), SPAN) == {}
    finally:
        await store.close()


async def test_a_database_that_is_away_is_away(postgres_dsn: str) -> None:
    """A connection that was ended says so, in every call."""
    store = await PostgresInsightStore.open(postgres_dsn)
    await store.close()
    calls = [
        store.violations(1, Wanted(), limit=1, offset=0),
        store.violation(1, uuid4()),
        store.review(1, uuid4(), "confirmed", None, from_version=0, change=BY),
        store.response_ms(1, SPAN),
        store.escalated(1, SPAN),
        store.offenders(1, SPAN, limit=1, offset=0),
        store.rules(1, SPAN),
        store.quarters(1, SPAN),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            await call
