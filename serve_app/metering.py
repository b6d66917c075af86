"""What all replicas did, whichever replica is asked.

Behind one address every scrape meets another replica, so that a counter of "the replica that answers"
would jump back and forth, and Prometheus would take each jump for a restart. Therefore every replica
writes up its counts where all see them, and each answers for all, with the replica as a label. It writes
up its own before it reads the others': a counter that was shown once is never shown smaller.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from domain.errors import StoreUnavailable
from domain.replica_counts import CountsBoard, ReplicaCounts
from serve_app.next_run import NextRun
from serve_app.replica_health import LOOK_EVERY_S, LoopWatch
from tasks import SupervisedTasks, ailing_here

WRITE_EVERY_S = 5.0
EXPOSE_EVERY_S = 0.25
PLAIN, OPENMETRICS = "text/plain", "application/openmetrics-text"

_CACHE_LABELS = ["cache", "replica"]
_CACHE_COUNTERS = {
    "hits": "Questions answered from memory.",
    "misses": "Questions for which something was loaded.",
    "shared": "Questions answered by a load that was under way for another.",
    "failures": "Loads that failed.",
    "invalidations": "Changes of a guild of which something was remembered or being loaded.",
}
_RELAY_LABELS = ["replica"]
_RELAY_COUNTERS = {
    "frames": "Frames written to sockets.",
    "bytes": "Bytes of the frames written to sockets.",
    "authority_changes": "Changes of authority that were pushed to the relay.",
    "authority_looks": "Subscriptions looked at because of their time, and not of a change.",
    "authority_unknown": "Answers that said nothing, because nobody could be asked.",
    "revocations": "Subscriptions ended because of a change of authority that was pushed.",
}


class Counted(NamedTuple):
    """The counts by replica; ``complete`` says whether the others' could be read."""

    replicas: dict[str, ReplicaCounts]
    complete: bool


class Meter:
    """Shows the counts of one replica, and gathers those of all."""

    def __init__(self, replica: str, counts: Callable[[], ReplicaCounts], board: CountsBoard) -> None:
        self._replica, self._counts, self._board = replica, counts, board
        self._tasks = SupervisedTasks("counts")
        self._loop_watch = LoopWatch(time.monotonic)
        self._exposed = {
            accepted: NextRun(partial(self._expose, accepted), EXPOSE_EVERY_S)
            for accepted in (PLAIN, OPENMETRICS)
        }

    def start(self) -> None:
        """Begin to write up the counts, so that others can answer for this replica."""
        self._tasks.keep("write", self._write_forever)
        self._tasks.every("watch the loop", LOOK_EVERY_S, self._loop_watch.look)

    async def stop(self) -> None:
        """Write nothing more; what is written fades."""
        await self._tasks.stop()

    async def counted(self) -> Counted:
        """Return everybody's counts; while the board is away, this replica's alone."""
        own = self._own()
        try:
            return Counted(await self._board.exchange(self._replica, own), complete=True)
        except StoreUnavailable:
            return Counted({self._replica: own}, complete=False)

    async def exposed(self, accept: str) -> tuple[bytes, str]:
        """Return the counts as Prometheus reads them, and the content type. Costs the same for a flood."""
        return await self._exposed[OPENMETRICS if OPENMETRICS in accept else PLAIN]()

    async def _expose(self, accepted: str) -> tuple[bytes, str]:
        return exposition(await self.counted(), accepted)

    def _own(self) -> ReplicaCounts:
        return msgspec.structs.replace(
            self._counts(), ailing=ailing_here(), blocked_ms=self._loop_watch.blocked_ms
        )

    async def _write_forever(self) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self._board.exchange(self._replica, self._own())
            await asyncio.sleep(WRITE_EVERY_S)


def exposition(counted: Counted, accept: str | None) -> tuple[bytes, str]:
    """Return the counts as Prometheus reads them, and the content type, as the scraper accepts it."""
    registry = CollectorRegistry()
    registry.register(_Collected(counted))
    encode, content_type = choose_encoder(accept or "")
    return encode(registry), content_type


class _Collected(Collector):
    def __init__(self, counted: Counted) -> None:
        replicas = sorted(counted.replicas.items())
        self._caches = [
            ([cache, name], counts)
            for name, replica in replicas
            for cache, counts in sorted(replica.caches.items())
        ]
        self._relays = [([name], replica.relay) for name, replica in replicas if replica.relay is not None]
        self._replicas = [([name], replica) for name, replica in replicas]

    def collect(self) -> Iterator[Metric]:
        for field, meaning in _CACHE_COUNTERS.items():
            counter = CounterMetricFamily(f"guildhall_cache_{field}", meaning, labels=_CACHE_LABELS)
            yield _filled(counter, ((labels, getattr(counts, field)) for labels, counts in self._caches))
        entries = GaugeMetricFamily(
            "guildhall_cache_entries", "Answers that are remembered.", labels=_CACHE_LABELS
        )
        yield _filled(entries, ((labels, counts.entries) for labels, counts in self._caches))
        yield from self._of_relays()
        ailing = GaugeMetricFamily(
            "guildhall_replica_ailing_tasks", "Tasks that cannot go on.", labels=["replica"]
        )
        yield _filled(ailing, ((labels, len(counts.ailing)) for labels, counts in self._replicas))
        blocked = GaugeMetricFamily(
            "guildhall_replica_loop_blocked_seconds",
            "The longest that the event loop was held up within the last minute or two.",
            labels=["replica"],
        )
        for labels, counts in self._replicas:
            blocked.add_metric(labels, counts.blocked_ms / 1000)
        yield blocked

    def _of_relays(self) -> Iterator[Metric]:
        sockets = GaugeMetricFamily(
            "guildhall_relay_sockets",
            "Open sockets, by the way their frames are written.",
            labels=[*_RELAY_LABELS, "path"],
        )
        yield _filled(
            sockets,
            (([*labels, path], n) for labels, counts in self._relays for path, n in counts.sockets.items()),
        )
        subscriptions = GaugeMetricFamily(
            "guildhall_relay_subscriptions",
            "Servers that sockets watch, each for each.",
            labels=_RELAY_LABELS,
        )
        yield _filled(subscriptions, ((labels, counts.subscriptions) for labels, counts in self._relays))
        for field, meaning in _RELAY_COUNTERS.items():
            counter = CounterMetricFamily(f"guildhall_relay_{field}", meaning, labels=_RELAY_LABELS)
            yield _filled(counter, ((labels, getattr(counts, field)) for labels, counts in self._relays))
        slowest = GaugeMetricFamily(
            "guildhall_relay_revocation_slowest_seconds",
            "The longest time from a change of authority that was pushed to the end of a subscription.",
            labels=_RELAY_LABELS,
        )
        for labels, counts in self._relays:
            slowest.add_metric(labels, counts.slowest_revocation_ms / 1000)
        yield slowest
        closed = CounterMetricFamily(
            "guildhall_relay_closed",
            "Sockets that the relay closed, by close code.",
            labels=[*_RELAY_LABELS, "code"],
        )
        yield _filled(
            closed,
            (([*labels, code], n) for labels, counts in self._relays for code, n in counts.closed.items()),
        )
        hosts = GaugeMetricFamily(
            "guildhall_relay_host_streams", "Streams of hosts that stand.", labels=_RELAY_LABELS
        )
        yield _filled(hosts, ((labels, counts.hosts) for labels, counts in self._relays))


def _filled(
    metric: CounterMetricFamily | GaugeMetricFamily, samples: Iterable[tuple[list[str], int]]
) -> Metric:
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric
