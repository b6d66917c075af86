"""The two Serve deployments, with all their options in one place."""

from __future__ import annotations

from functools import partial

from ray import serve
from ray.serve.schema import ApplicationStatus
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from actors.handles import find_director
from domain.errors import ServiceFailed
from guildhall.replica_ports import open_api_ports, open_relay_ports
from guildhall.wiring import Wiring
from serve_app.app import create_app
from serve_app.collector import Collector
from serve_app.internal_grpc import bind_to_node
from serve_app.relay import Relay
from serve_app.replica_health import check_health
from serve_app.transport import CLOSE_WITHIN_S, DRAIN_S, install

# A socket occupies one of these for as long as it is open; the default of 5 would hang the sixth.
RELAY_ONGOING_REQUESTS = 20_000
API_ONGOING_REQUESTS = 1_000

# A relay that is to end: Serve keeps it reachable for the first (set in guildhall/environment.py), then its
# server ends and closes the sockets one by one. Who is left after the second is cut off.
RELAY_DEREGISTERS_S = 5.0
RELAY_ENDS_WITHIN_S = RELAY_DEREGISTERS_S + DRAIN_S + CLOSE_WITHIN_S

_ACTOR = {"num_cpus": 0}

# Serve replaces a replica that fails three times in a row: one that hangs is noticed within 15 seconds.
HEALTH_CHECK_PERIOD_S, HEALTH_CHECK_TIMEOUT_S = 2.0, 3.0


def api_deployment(wiring: Wiring, replicas: int) -> serve.Application:
    """Return the HTTP side."""

    def build() -> ASGIApp:
        bind_to_node()
        return create_app(wiring.web, partial(open_api_ports, wiring))

    @serve.ingress(build)
    class Api:
        check_health = check_health

    deployment = serve.deployment(
        Api,
        name="api",
        num_replicas=replicas,  # fixed: a change reloads HAProxy
        max_ongoing_requests=API_ONGOING_REQUESTS,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
        ray_actor_options=_ACTOR,
    )
    return deployment.bind()


def relay_deployment(wiring: Wiring, replicas: int) -> serve.Application:
    """Return the relay."""

    def build() -> ASGIApp:
        bind_to_node()
        install(wiring.socket_limits.messages)  # in the replica's process, before its server starts
        relay = Relay(partial(open_relay_ports, wiring), find_director, Collector().opened)
        # Who asks is at the other end of HAProxy.
        return ProxyHeadersMiddleware(relay, trusted_hosts=list(wiring.trusted_proxies))  # type: ignore[arg-type, return-value]

    @serve.ingress(build)
    class Sockets:
        check_health = check_health

    deployment = serve.deployment(
        Sockets,
        name="relay",
        num_replicas=replicas,
        max_ongoing_requests=RELAY_ONGOING_REQUESTS,
        graceful_shutdown_timeout_s=RELAY_ENDS_WITHIN_S,
        graceful_shutdown_wait_loop_s=1.0,
        health_check_period_s=HEALTH_CHECK_PERIOD_S,
        health_check_timeout_s=HEALTH_CHECK_TIMEOUT_S,
        ray_actor_options=_ACTOR,
    )
    return deployment.bind()


def restart_relays(wiring: Wiring, replicas: int) -> None:
    """Begin to replace the relays' processes one after the other. Blocks, but not until that is done.

    The old ones close their sockets with 1012, spread over some seconds; browsers resume elsewhere.
    """
    target = serve.RunTarget(relay_deployment(wiring, replicas), name="relay", route_prefix="/ws")
    serve.run_many([target], wait_for_applications_running=False)


def relays_are_new() -> bool:
    """Return whether the relays that were begun last answer. Blocks for a moment.

    Raises:
        ServiceFailed: they do not start.

    """
    relay = serve.status().applications["relay"]
    if relay.status == ApplicationStatus.DEPLOY_FAILED:
        raise ServiceFailed(f"The relays do not start: {relay.message}")
    return bool(relay.status == ApplicationStatus.RUNNING)


def deploy(wiring: Wiring, *, host: str, port: int, api_replicas: int, relay_replicas: int) -> None:
    """Start Serve's front door and both applications; return when they answer. Blocks."""
    # No request timeout: it would end sockets too. Slow queries end by the database's own timeout.
    serve.start(http_options={"host": host, "port": port, "request_timeout_s": None})
    serve.run_many(
        [
            serve.RunTarget(api_deployment(wiring, api_replicas), name="api", route_prefix="/"),
            serve.RunTarget(relay_deployment(wiring, relay_replicas), name="relay", route_prefix="/ws"),
        ],
        wait_for_applications_running=True,
    )
