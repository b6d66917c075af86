"""Where a replica listens for other deployments' calls: on its node's own address, not on every interface.

Serve opens that port for calls from one deployment to another, asks nobody who he is, and unpickles what
comes: whoever reaches it runs code in the replica. There is no setting for its address, and nothing of ours
calls it but Serve's fallback proxy. Serve opens it when the replica's constructor has returned, so
:func:`bind_to_node` is called there. On one machine the node's address is loopback
(:mod:`guildhall.environment`); on a cluster it is the address by which the nodes reach each other, and
``RAY_USE_TLS`` makes Ray ask for certificates.

``tests/integration/test_lifecycle.py`` fails when Serve changes what this leans on: a port would be open.
"""

from __future__ import annotations

from typing import Any

import ray
from ray._common.network_utils import build_address
from ray.serve._private import replica

_EVERYWHERE = "[::]:0"


def bind_to_node() -> None:
    """Let this replica's server for internal calls listen on the node's address alone. Safe to call twice."""
    original = replica.add_port_to_grpc_server
    if getattr(original, "binds_to_node", False):
        return

    def add_port(server: Any, address: str) -> int:
        if address == _EVERYWHERE:
            address = build_address(ray.util.get_node_ip_address(), 0)
        port: int = original(server, address)
        return port

    add_port.binds_to_node = True  # type: ignore[attr-defined]
    replica.add_port_to_grpc_server = add_port
