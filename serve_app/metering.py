"""What the caches of all replicas did, whichever replica is asked.

Behind one address every scrape meets another replica, so that a counter of "the replica that answers"
would jump back and forth, and Prometheus would take each jump for a restart. Therefore every replica
writes up its counts where all see them, and each answers for all, with the replica as a label. It writes
up its own before it reads the others': a counter that was shown once is never shown smaller.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from domain.cache_counts import CountsBoard, ReplicaCounts
from domain.errors import StoreUnavailable
from serve_app.cache import Caches

WRITE_EVERY_S = 5.0

_LABELS = ["cache", "replica"]
_COUNTERS = {
    "hits": "Questions answered from memory.",
    "misses": "Questions for which something was loaded.",
    "shared": "Questions answered by a load that was under way for another.",
    "failures": "Loads that failed.",
    "invalidations": "Changes of a guild of which something was remembered or being loaded.",
}


class Counted(NamedTuple):
    """The counts by replica; ``complete`` says whether the others' could be read."""

    replicas: dict[str, ReplicaCounts]
    complete: bool


class Meter:
    """Shows the counts of one replica's caches, and gathers those of all."""

    def __init__(self, replica: str, caches: Caches, board: CountsBoard) -> None:
        self._replica, self._caches, self._board = replica, caches, board
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write up the counts, so that others can answer for this replica."""
        self._writing = asyncio.create_task(self._write_forever(), name="counts")

    async def stop(self) -> None:
        """Write nothing more; what is written fades."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    async def counted(self) -> Counted:
        """Return everybody's counts; while the board is away, this replica's alone."""
        own = self._caches.counts()
        try:
            return Counted(await self._board.exchange(self._replica, own), complete=True)
        except StoreUnavailable:
            return Counted({self._replica: own}, complete=False)

    async def _write_forever(self) -> None:
        while True:
            with contextlib.suppress(StoreUnavailable):
                await self._board.exchange(self._replica, self._caches.counts())
            await asyncio.sleep(WRITE_EVERY_S)


def exposition(counted: Counted, accept: str | None) -> tuple[bytes, str]:
    """Return the counts as Prometheus reads them, and the content type, as the scraper accepts it."""
    registry = CollectorRegistry()
    registry.register(_Collected(counted))
    encode, content_type = choose_encoder(accept or "")
    return encode(registry), content_type


class _Collected(Collector):
    def __init__(self, counted: Counted) -> None:
        self._counted = counted

    def collect(self) -> Iterator[Metric]:
        for field, meaning in _COUNTERS.items():
            yield self._filled(
                CounterMetricFamily(f"guildhall_cache_{field}", meaning, labels=_LABELS), field
            )
        entries = GaugeMetricFamily("guildhall_cache_entries", "Answers that are remembered.", labels=_LABELS)
        yield self._filled(entries, "entries")

    def _filled(self, metric: CounterMetricFamily | GaugeMetricFamily, field: str) -> Metric:
        for replica, caches in sorted(self._counted.replicas.items()):
            for cache, counts in sorted(caches.items()):
                metric.add_metric([cache, replica], getattr(counts, field))
        return metric
