"""What the replicas do, for who operates the installation and for their Prometheus."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from domain.replica_counts import CacheCounts
from domain.views import View
from serve_app.access import Operator
from serve_app.metering import Meter
from serve_app.plain_route import PlainRoute

router = APIRouter(tags=["operations"], route_class=PlainRoute)


class CacheView(View):
    """What one cache did, since its replica began; ``hit_rate`` counts shared loads as hits."""

    hits: int
    misses: int
    shared: int
    failures: int
    invalidations: int
    entries: int
    hit_rate: float | None


class ReplicaView(View):
    """One replica's caches, by name."""

    id: str
    caches: dict[str, CacheView]


class CacheStats(View):
    """All replicas' caches. When not ``complete``, only the replica that answers could be asked."""

    replicas: list[ReplicaView]
    total: dict[str, CacheView]
    complete: bool


async def meter_of(request: Request) -> Meter:
    """Return the replica's meter."""
    meter: Meter = request.app.state.meter
    return meter


OfMeter = Annotated[Meter, Depends(meter_of)]


@router.get("/api/cache/stats")
async def cache_stats(operator: Operator, meter: OfMeter) -> CacheStats:
    """Tell how well the caches of all replicas do."""
    del operator
    counted = await meter.counted()
    total: dict[str, CacheCounts] = {}
    for replica in counted.replicas.values():
        for name, counts in replica.caches.items():
            total[name] = _sum(total.get(name, CacheCounts()), counts)
    return CacheStats(
        replicas=[
            ReplicaView(id=name, caches=_views(replica.caches))
            for name, replica in sorted(counted.replicas.items())
            if replica.caches
        ],
        total=_views(total),
        complete=counted.complete,
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, meter: OfMeter) -> Response:
    """Show to Prometheus what all caches and relays do. It names no server and no person."""
    body, content_type = await meter.exposed(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)


def _views(caches: dict[str, CacheCounts]) -> dict[str, CacheView]:
    return {name: _view(counts) for name, counts in sorted(caches.items())}


def _view(counts: CacheCounts) -> CacheView:
    spared = counts.hits + counts.shared
    asked = spared + counts.misses
    return CacheView(
        hits=counts.hits,
        misses=counts.misses,
        shared=counts.shared,
        failures=counts.failures,
        invalidations=counts.invalidations,
        entries=counts.entries,
        hit_rate=round(spared / asked, 4) if asked else None,
    )


def _sum(one: CacheCounts, other: CacheCounts) -> CacheCounts:
    return CacheCounts(
        hits=one.hits + other.hits,
        misses=one.misses + other.misses,
        shared=one.shared + other.shared,
        failures=one.failures + other.failures,
        invalidations=one.invalidations + other.invalidations,
        entries=one.entries + other.entries,
    )
