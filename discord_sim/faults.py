"""Faults on demand: what the next REST requests run into, and for how long the gateway stays shut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

RestFaultKind = Literal["rate_limit", "server_error", "slow"]
REST_FAULTS: tuple[RestFaultKind, ...] = ("rate_limit", "server_error", "slow")
GATEWAY_FAULTS = ("drop_gateway", "reconnect", "invalid_session")
OUTAGE = "outage"
"""Everything is cut, and nobody listens for a while."""


@dataclass(slots=True, kw_only=True)
class RestFault:
    """One fault for the next `count` requests whose path below the API's version starts with `path`."""

    kind: RestFaultKind
    count: int = 1
    path: str = "/"
    scope: Literal["user", "global", "shared"] = "user"
    retry_after_s: float = 1.0
    delay_ms: int = 1_000
    status: int = 503

    def payload(self) -> dict[str, Any]:
        """Return what is left of the fault, with only the fields its kind uses."""
        shown: dict[str, Any] = {"kind": self.kind, "count": self.count, "path": self.path}
        match self.kind:
            case "rate_limit":
                shown |= {"scope": self.scope, "retry_after_s": self.retry_after_s}
            case "server_error":
                shown["status"] = self.status
            case "slow":
                shown["delay_ms"] = self.delay_ms
        return shown


class FaultBook:
    """The REST faults that wait for requests."""

    def __init__(self) -> None:
        self._faults: list[RestFault] = []
        # New gateway connections wait until this moment of the loop's clock.
        self.gateway_held_until = 0.0

    def __iter__(self) -> Iterator[RestFault]:
        return iter(self._faults)

    def add(self, fault: RestFault) -> None:
        """Arm a fault."""
        self._faults.append(fault)

    def clear(self) -> int:
        """Disarm everything and return how many faults there were."""
        count = len(self._faults)
        self._faults.clear()
        self.gateway_held_until = 0.0
        return count

    def take(self, path: str) -> list[RestFault]:
        """Return the faults a request on `path` runs into, one of each kind at most, and count them down."""
        hit: dict[str, RestFault] = {}
        for fault in self._faults:
            if fault.kind not in hit and path.startswith(fault.path):
                hit[fault.kind] = fault
                fault.count -= 1
        self._faults = [fault for fault in self._faults if fault.count > 0]
        return list(hit.values())
