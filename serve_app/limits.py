"""How often somebody may ask: counted for the person who is logged in, and for everybody else's address."""

from __future__ import annotations

import math
from ipaddress import IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection

from domain.rates import RateLimiter, RateName
from serve_app.errors import ApiError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HOUSEHOLD_BITS = 64
"""An IPv6 user has at least a network of this size, and could take a new address for every request."""


async def count(limiter: RateLimiter, rate: RateName, who: str) -> None:
    """Count a request of a person or an address; refuse with 429 when it came too often."""
    wait_s = await limiter.hit(rate, who)
    if wait_s is not None:
        seconds = max(1, math.ceil(wait_s))
        raise ApiError(
            429,
            "too_many_requests",
            f"That was too often. Try again in {seconds} second{'' if seconds == 1 else 's'}.",
            {"retry_after_s": seconds},
            headers={"retry-after": str(seconds)},
        )


def address_of(request: HTTPConnection) -> str:
    """Return who is at the other end as far as counting goes: an IPv4 address or an IPv6 network."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), HOUSEHOLD_BITS), strict=False))
