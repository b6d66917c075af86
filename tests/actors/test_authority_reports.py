"""Who lost authority: told at once, again until it is taken, and never more than there is room for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from actors import authority_reports
from actors.authority_reports import AuthorityReports
from domain.authority import AuthorityNotice, GuildAuthority, MemberAuthority
from domain.errors import RolesUnavailable
from domain.gateway_hearing import ShardHeard
from domain.ports import GatewaySession, ShardState
from tests.actors.hosts import until


class Sink:
    """Takes notices when it is open; ``problems`` are raised first, one a call."""

    def __init__(self) -> None:
        self.heard_of: list[list[AuthorityNotice]] = []
        self.shards: list[ShardHeard] = []
        self.problems: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()

    async def heard(self, notices: list[AuthorityNotice], shards: Sequence[ShardHeard] = ()) -> None:
        await self.open.wait()
        if self.problems:
            raise self.problems.pop()
        self.heard_of.append(notices)
        self.shards += shards


def left(user_id: int, at_ms: int = 1) -> MemberAuthority:
    return MemberAuthority(40, user_id, at_ms, None)


@pytest.fixture
async def sink() -> Sink:
    return Sink()


@pytest.fixture
async def reports(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AuthorityReports]:
    monkeypatch.setattr(authority_reports, "FIRST_RETRY_S", 0.001)
    tries = 0

    def find() -> Sink:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ValueError("there is no such actor yet")
        return sink

    session = GatewaySession("session", "", 1)
    shards = (ShardState(0, 9_000, session), ShardState(1, 9_000), ShardState(2, 10_001, session))
    reports = AuthorityReports(find, 3, lambda: 10_000)
    reports.start(lambda: shards)
    yield reports
    await reports.stop()


async def test_notices_are_told_in_order_until_they_are_taken(reports: AuthorityReports, sink: Sink) -> None:
    """An actor that is away costs time and nothing else; one that breaks costs what broke it."""
    sink.problems = [RolesUnavailable(), RolesUnavailable()]
    reports.add(left(1))
    reports.add(left(2))
    await until(lambda: bool(sink.heard_of))
    assert sink.heard_of == [[left(1), left(2)]]
    sink.problems = [RuntimeError("a bug")]
    reports.add(left(3))
    await until(lambda: not sink.problems)
    reports.add(left(4))
    await until(lambda: len(sink.heard_of) == 2)
    assert sink.heard_of[1] == [left(4)]


async def test_what_a_shard_heard_is_all_told_with_it(reports: AuthorityReports, sink: Sink) -> None:
    """Of shards whose session goes on. After a notice that was lost, another life begins."""
    reports.add(left(1))
    await until(lambda: bool(sink.heard_of))
    [first] = sink.shards
    assert (first.shard_id, first.shard_count, first.silent_s) == (0, 3, 1.0)
    await reports._tell_hearing()  # nothing happened
    await until(lambda: len(sink.shards) == 2)
    assert (sink.heard_of[1], sink.shards[1]) == ([], first)
    sink.problems = [RuntimeError("a bug")]
    reports.add(left(2))
    await until(lambda: not sink.problems)
    reports.add(left(3))
    await until(lambda: len(sink.shards) == 3)
    assert sink.shards[2].life != first.life


async def test_of_each_the_newest_is_told(reports: AuthorityReports, sink: Sink) -> None:
    """In its place; a role that was deleted stays deleted, and what came during a call goes with the next."""
    sink.open.clear()
    reports.add(left(1))
    await asyncio.sleep(0)
    await until(lambda: reports._sink is sink)
    reports.add(left(2))
    reports.add(MemberAuthority(40, 1, 2, frozenset({40})))
    reports.add(GuildAuthority(40, 1, 7, deleted=frozenset({71})))
    reports.add(GuildAuthority(40, 2, 7, deleted=frozenset({72})))
    sink.open.set()
    await until(lambda: not reports._waiting)
    told = [notice for batch in sink.heard_of for notice in batch]
    assert told[-3:] == [
        left(2),
        MemberAuthority(40, 1, 2, frozenset({40})),
        GuildAuthority(40, 2, 7, deleted=frozenset({71, 72})),
    ]


async def test_there_is_room_for_so_many(
    reports: AuthorityReports, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go, and are counted: a list that is asked for anew says the same a little later."""
    monkeypatch.setattr(authority_reports, "MAX_WAITING", 3)
    sink.open.clear()
    for user_id in range(1, 6):
        reports.add(left(user_id))
    sink.open.set()
    await until(lambda: bool(sink.heard_of))
    assert sink.heard_of == [[left(3), left(4), left(5)]]
    assert reports.lost == 2
