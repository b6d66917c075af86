"""The stream of changes as a replica hears it: kept up, and believed only while it gives signs of life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from adapters.memory import MemoryClock
from domain.errors import HostUnreachable
from domain.roles import AuthorityChange
from serve_app import authority_watch
from serve_app.authority_watch import LEASE_S, AuthorityWatch
from tests.serve_app.scripted_host import until
from tests.serve_app.test_role_reader import ScriptedRoles

CHANGE = AuthorityChange(40, 1, 0)


class StreamingRoles(ScriptedRoles):
    """Streams what it is told to; an exception breaks the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[asyncio.Queue[list[AuthorityChange] | Exception]] = []

    async def changes(self, listener_id: str) -> AsyncIterator[list[AuthorityChange]]:
        assert listener_id
        queue: asyncio.Queue[list[AuthorityChange] | Exception] = asyncio.Queue()
        self.streams.append(queue)
        while True:
            said = await queue.get()
            if isinstance(said, Exception):
                raise said
            yield said


class Recording:
    """Implements ``AuthorityListener``."""

    def __init__(self) -> None:
        self.heard: list[list[AuthorityChange] | None] = []

    def changed(self, changes: Sequence[AuthorityChange]) -> None:
        self.heard.append(list(changes))

    def missed(self) -> None:
        self.heard.append(None)


@pytest.mark.parametrize("end", [HostUnreachable(), RuntimeError("a bug")])
async def test_a_stream_that_breaks_is_taken_up_again(
    end: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said in between may have been missed; in between nothing is believed."""
    monkeypatch.setattr(authority_watch, "FIRST_RETRY_S", 0.001)
    roles, listener, clock = StreamingRoles(), Recording(), MemoryClock()
    watch = AuthorityWatch(roles, [listener], lambda: clock() / 1000)
    assert not watch.hears
    watch.start()
    for number in (1, 2):
        await until(lambda number=number: len(roles.streams) == number)  # type: ignore[misc]
        assert not watch.hears
        roles.streams[-1].put_nowait([])
        roles.streams[-1].put_nowait([CHANGE])
        await until(lambda number=number: len(listener.heard) == 2 * number)  # type: ignore[misc]
        assert watch.hears
        roles.streams[-1].put_nowait(end)
        await until(lambda number=number: watch.breaks == number)  # type: ignore[misc]
    assert listener.heard == [None, [CHANGE]] * 2
    assert watch.changes == 2
    await watch.stop()


async def test_silence_is_not_believed() -> None:
    """An actor that hangs tells of nothing; when it is back, everything is asked again."""
    roles, listener, clock = StreamingRoles(), Recording(), MemoryClock()
    watch = AuthorityWatch(roles, [listener], lambda: clock() / 1000)
    watch.start()
    await until(lambda: roles.streams)
    roles.streams[0].put_nowait([])
    await until(lambda: listener.heard)
    clock.advance(int(LEASE_S * 1000))
    assert watch.hears
    clock.advance(1)
    assert not watch.hears
    roles.streams[0].put_nowait([])
    await until(lambda: len(listener.heard) == 2)
    assert watch.hears
    assert listener.heard == [None, None]
    await watch.stop()
