"""Announcements find the guild's host, wherever it is by now, and never fail who makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from actors import announcer as module
from actors.announcer import AT_ONCE, HostAnnouncer
from actors.routing import GuildDirectory
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable
from tests.actors.hosts import Director, RecordingHost, settled

GUILD = 1
TOLD = (GUILD, "config_update", {"version": 1})


class Host(RecordingHost):
    """Takes announcements, or refuses the first few."""

    def __init__(self, *problems: Exception) -> None:
        super().__init__()
        self.problems = list(problems)
        self.asked = 0
        self.told: list[tuple[int, str, dict[str, Any]]] = []

    async def announce(self, guild_id: int, events: list[tuple[str, dict[str, Any]]]) -> None:
        self.asked += 1
        await self.open.wait()
        if self.problems:
            raise self.problems.pop(0)
        self.told += [(guild_id, kind, data) for kind, data in events]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0)


async def directory_of(director: Director) -> GuildDirectory:
    directory = GuildDirectory(director)
    await directory.start()
    return directory


async def test_the_host_of_the_guild_is_asked() -> None:
    """And nobody else."""
    own, other = Host(), Host()
    director = Director({"own": own, "other": other})
    director.place(2, "own")
    await HostAnnouncer(await directory_of(director)).announce(*TOLD)
    assert (own.told, other.asked) == ([TOLD], 0)


@pytest.mark.parametrize("problem", [NotOwner, HostUnreachable])
async def test_a_guild_that_moved_is_found(problem: Callable[[], Exception]) -> None:
    """The Director is asked where it is now."""
    old, new = Host(*(problem() for _ in range(3))), Host()
    director = Director({"old": old, "new": new})
    director.place(2, "old")
    announcer = HostAnnouncer(await directory_of(director))
    director.place(3, "new")
    await announcer.announce(*TOLD)
    assert (old.asked, new.told) == (1, [TOLD])


async def test_a_host_that_comes_back_is_told() -> None:
    """As long as there is time, it is tried again; also while the Director cannot be asked."""
    host = Host(HostUnreachable(), NotOwner(), HostUnreachable())
    director = Director({"h": host})
    announcer = HostAnnouncer(await directory_of(director))
    director.error = StoreUnavailable()
    await announcer.announce(*TOLD)
    assert (host.asked, host.told) == (4, [TOLD])


async def test_who_was_not_started_asks_where_the_guilds_are() -> None:
    """A replica may have to announce something before it has heard of the Director."""
    host = Host()
    await HostAnnouncer(GuildDirectory(Director({"h": host}))).announce(*TOLD)
    assert host.told == [TOLD]


async def test_nobody_hears_of_what_cannot_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it is given up, with a line in the log."""
    monkeypatch.setattr(module, "WITHIN_S", 0.02)
    lines: list[str] = []
    monkeypatch.setattr(module.log, "warning", lambda event, **_: lines.append(event))
    host = Host()
    host.open.clear()
    announcer = HostAnnouncer(await directory_of(Director({"h": host})))
    async with asyncio.timeout(5):
        await announcer.announce(*TOLD)
    assert (lines, host.told) == (["not_announced"], [])


async def test_what_breaks_is_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what nobody thought of; it is in the log with all that is known."""
    lines: list[str] = []
    monkeypatch.setattr(module.log, "exception", lambda event, **_: lines.append(event))
    host = Host(ZeroDivisionError())
    await HostAnnouncer(await directory_of(Director({"h": host}))).announce(*TOLD)
    assert lines == ["not_announced"]


async def test_who_leaves_is_let_go() -> None:
    """To be cancelled is no failure of the announcement."""
    host = Host()
    host.open.clear()
    announcing = asyncio.create_task(HostAnnouncer(await directory_of(Director({"h": host}))).announce(*TOLD))
    await settled()
    announcing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await announcing


async def test_only_so_many_are_under_way() -> None:
    """The others wait, and are made when there is room."""
    host = Host()
    host.open.clear()
    announcer = HostAnnouncer(await directory_of(Director({"h": host})))
    announcing = [asyncio.create_task(announcer.announce(*TOLD)) for _ in range(AT_ONCE + 10)]
    await settled()
    assert host.asked == AT_ONCE
    host.open.set()
    await asyncio.gather(*announcing)
    assert len(host.told) == AT_ONCE + 10
