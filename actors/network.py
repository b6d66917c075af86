"""Looks at the whole network: asks everybody who is in it, and waits for nobody for long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeVar

import structlog

from actors.host import HostStats
from actors.routing import Routing
from actors.shard_runner import RunnerStats
from domain.identify import expected_s
from domain.network import BlindShardView, HostView, NetworkStore, NetworkView, RunnerView, ShardsView
from domain.supervision import SupervisionBoard

log = structlog.get_logger()

ANSWER_WITHIN_S = 5.0
GAPS = 50

T = TypeVar("T")


class DirectorCalls(Protocol):
    """The Director, as far as looking at the network needs it."""

    async def routing(self) -> Routing:
        """Ask for the newest placement."""
        ...

    async def silent_hosts(self) -> list[str]:
        """Ask which hosts did not answer last time."""
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
        board: SupervisionBoard,
    ) -> None:
        self._director = director
        self._find_runners = find_runners
        self._store = store
        self._board = board

    async def look(self) -> NetworkView:
        """See the port."""
        routing, stats, supervised, runners, totals, gaps = await asyncio.gather(
            _soon(self._director.routing()),
            _soon(self._director.list_hosts()),
            _soon(self._board.read()),
            self._runners(),
            self._store.totals(),
            self._store.gaps(limit=GAPS),
        )
        return NetworkView(
            director_answers=routing is not None and stats is not None,
            placement_version=routing.placement.version if routing else None,
            hosts=_hosts(routing, stats or []),
            runners=[_runner(name, stats) for name, stats in sorted(runners.items())],
            shards=shards_view(runners.values()),
            supervised=supervised,
            totals=totals,
            gaps=gaps,
        )

    async def silent(self) -> list[str]:
        """See the port."""
        return [f"host {host_id}" for host_id in await self._director.silent_hosts()]

    async def _runners(self) -> dict[str, RunnerStats | None]:
        return await ask_runners(await _soon(self._find_runners()) or {})


async def ask_runners(runners: Mapping[str, RunnerCalls]) -> dict[str, RunnerStats | None]:
    """Return what each runner says; None for one that does not answer in time."""
    answers = await asyncio.gather(*(_soon(runner.stats()) for runner in runners.values()))
    return dict(zip(runners, answers, strict=True))


def shards_view(stats: Iterable[RunnerStats | None]) -> ShardsView:
    """Return how far the shards of these runners are, together."""
    known = [each.progress for each in stats if each is not None]
    total, connected = sum(each.shards for each in known), sum(each.connected for each in known)
    at_once = max((each.max_concurrency for each in known if each.max_concurrency), default=None)
    if connected >= total:
        return ShardsView(total=total, connected=connected)
    wait_ms = max((each.budget_wait_ms for each in known), default=0)
    waits_for = Counter(each.waits_for for each in known if each.waits_for is not None).most_common(1)
    return ShardsView(
        total=total,
        connected=connected,
        expected_s=expected_s(total - connected, at_once, wait_ms) if at_once else None,
        waits_for=waits_for[0][0] if waits_for else None,
    )


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
    outbox, progress = stats.outbox, stats.progress
    return RunnerView(
        id=name,
        answers=True,
        shards=progress.shards,
        shards_connected=progress.connected,
        blind_shards=[BlindShardView(shard=each.shard_id, since=each.since_ms) for each in progress.blind],
        refusal=progress.refusal,
        messages=stats.messages,
        violations=stats.violations,
        sent_events=outbox.sent_events,
        waiting_events=outbox.waiting_events,
        lost_events=outbox.lost_events,
        spooled_batches=outbox.spooled_batches,
        spooled_bytes=outbox.spooled_bytes,
        oldest_spooled=outbox.oldest_spooled_ms,
    )
