"""Looks at the whole network: asks everybody who is in it, and waits for nobody for long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import structlog

from actors.host import HostStats
from actors.routing import Routing
from actors.shard_runner import RunnerStats
from domain.network import HostView, NetworkStore, NetworkView, RunnerView

log = structlog.get_logger()

ANSWER_WITHIN_S = 5.0
GAPS = 50

T = TypeVar("T")


class DirectorCalls(Protocol):
    """The Director, as far as looking at the network needs it."""

    async def routing(self) -> Routing:
        """Ask for the newest placement."""
        ...

    async def list_hosts(self) -> list[HostStats | str]:
        """Ask what each host holds; one that does not answer is only named."""
        ...


class RunnerCalls(Protocol):
    """A shard runner, as far as looking at it needs it."""

    async def stats(self) -> RunnerStats:
        """Ask what it saw and did."""
        ...


class LiveNetwork:
    """Implements :class:`domain.network.Network`."""

    def __init__(
        self,
        director: DirectorCalls,
        find_runners: Callable[[], Awaitable[Mapping[str, RunnerCalls]]],
        store: NetworkStore,
    ) -> None:
        self._director = director
        self._find_runners = find_runners
        self._store = store

    async def look(self) -> NetworkView:
        """See the port."""
        routing, stats, runners, totals, gaps = await asyncio.gather(
            _soon(self._director.routing()),
            _soon(self._director.list_hosts()),
            self._runners(),
            self._store.totals(),
            self._store.gaps(limit=GAPS),
        )
        return NetworkView(
            director_answers=routing is not None and stats is not None,
            placement_version=routing.placement.version if routing else None,
            hosts=_hosts(routing, stats or []),
            runners=runners,
            totals=totals,
            gaps=gaps,
        )

    async def _runners(self) -> list[RunnerView]:
        runners = await _soon(self._find_runners()) or {}
        names = sorted(runners)
        answers = await asyncio.gather(*(_soon(runners[name].stats()) for name in names))
        return [_runner(name, answer) for name, answer in zip(names, answers, strict=True)]


async def _soon(call: Awaitable[T]) -> T | None:
    """Return an answer, or None when there is none in time."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await call
    except Exception as error:  # noqa: BLE001 - who does not answer is shown as such, for whatever reason
        log.info("no_answer", error=repr(error))
        return None


def _hosts(routing: Routing | None, stats: list[HostStats | str]) -> list[HostView]:
    answers = {stat.host_id: stat for stat in stats if isinstance(stat, HostStats)}
    silent = {stat for stat in stats if isinstance(stat, str)}
    slots = Counter(routing.placement.owners) if routing else Counter[str]()
    dedicated = routing.placement.dedicated if routing else {}
    known = routing.hosts.keys() if routing else set()
    return [
        _host(
            host_id,
            answers.get(host_id),
            slots[host_id],
            [str(guild_id) for guild_id, owner in sorted(dedicated.items()) if owner == host_id],
        )
        for host_id in sorted(answers.keys() | silent | known)
    ]


def _host(host_id: str, stats: HostStats | None, slots: int, dedicated: list[str]) -> HostView:
    if stats is None:
        return HostView(id=host_id, answers=False, slots=slots, dedicated_guilds=dedicated)
    return HostView(
        id=host_id,
        answers=True,
        slots=slots,
        dedicated_guilds=dedicated,
        incarnation=stats.incarnation,
        guilds=stats.guilds,
        watched_guilds=stats.watched_guilds,
        waiting_events=stats.commit.waiting_events,
        committed_events=stats.commit.committed_events,
        poison_events=stats.commit.poison_events,
        refused_batches=stats.refused_batches,
        store_available=stats.commit.store_available,
    )


def _runner(name: str, stats: RunnerStats | None) -> RunnerView:
    if stats is None:
        return RunnerView(id=name, answers=False)
    outbox = stats.outbox
    return RunnerView(
        id=name,
        answers=True,
        messages=stats.messages,
        violations=stats.violations,
        sent_events=outbox.sent_events,
        waiting_events=outbox.waiting_events,
        lost_events=outbox.lost_events,
        spooled_batches=outbox.spooled_batches,
        spooled_bytes=outbox.spooled_bytes,
        oldest_spooled=outbox.oldest_spooled_ms,
    )
