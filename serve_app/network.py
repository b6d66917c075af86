"""The whole network, for who operates it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter

from domain.network import NetworkView, ReplicaHealth
from serve_app.access import Operator, Ports
from serve_app.cache_stats import OfMeter
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/network", tags=["operations"], route_class=PlainRoute)


@router.get("")
async def look(operator: Operator, ports: Ports, meter: OfMeter) -> NetworkView:
    """Show hosts, shard runners, replicas, placement, gaps and rates at one look."""
    del operator
    network, counted = await asyncio.gather(ports.network.look(), meter.counted())
    replicas = tuple(
        ReplicaHealth(
            id=name,
            kind="api" if counts.relay is None else "relay",
            ailing=list(counts.ailing),
            blocked_ms=counts.blocked_ms,
        )
        for name, counts in sorted(counted.replicas.items())
    )
    return network.model_copy(update={"replicas": replicas})
