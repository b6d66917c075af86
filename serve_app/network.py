"""The whole network, for who operates it."""

from __future__ import annotations

from fastapi import APIRouter

from domain.network import NetworkView
from serve_app.access import Operator, Ports
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/network", tags=["operations"], route_class=PlainRoute)


@router.get("")
async def look(operator: Operator, ports: Ports) -> NetworkView:
    """Show hosts, shard runners, placement, gaps and rates at one look."""
    del operator
    return await ports.network.look()
