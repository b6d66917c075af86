"""What must be in the environment before Ray is imported: its workers inherit it, and read it only once.

Nothing here may import Ray, and nothing that imports Ray may be imported before :func:`prepare` ran.
"""

from __future__ import annotations

import os
import resource
import secrets
from pathlib import Path

from guildhall.front_door import SERVE_HOST, front_door
from guildhall.haproxy_rules import DoorLimits
from guildhall.settings import free_port

MAX_SOCKETS = 7_500
"""HAProxy's ``maxconn``. It takes two descriptors a socket, and starts only if its limit allows that."""

DESCRIPTORS_BESIDE_SOCKETS = 1_000


def prepare(
    runtime_dir: Path, token_file: Path, limits: DoorLimits | None = None, host: str = SERVE_HOST
) -> None:
    """Set Ray's and Serve's switches for a cluster of our own. What the user has set stays.

    ``token_file`` gets the token that Ray's dashboard asks for, readable by the owner alone.
    """
    haproxy = runtime_dir / "h"
    haproxy.mkdir(mode=0o700, exist_ok=True)
    os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"] = str(front_door(haproxy, limits or DoorLimits(), host))
    defaults = {
        # Who asks is found out by the application, which knows whom to believe: uvicorn believes loopback.
        "FORWARDED_ALLOW_IPS": "",
        # Serve's default proxy carries an eighth of the requests and of the WebSocket deliveries.
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_MAXCONN": str(_max_connections()),
        # A replica that is to end stays reachable for so long, until HAProxy has heard of it.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        # A reloaded HAProxy lets sockets live on in its old process for this long.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "3600",
        # An actor that runs HAProxy, and ended or hangs with it, is replaced after three failed looks. The
        # supervisor is faster with a HAProxy that is lost alone (guildhall/haproxy_process.py).
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "3",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "6",
        # Its files and ports must be this cluster's alone: another may run on the machine.
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        # Where HAProxy sends what no replica takes at the moment. At the default port that would be whichever
        # cluster of this machine was there first: ours would be answered by another's replicas.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(free_port()),
        # One machine: all of Ray's ports listen on loopback alone, those for metrics too, which ask for no
        # token. (The name is Ray's: elsewhere than on Linux it is switched off anyway.)
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Whoever reaches Ray's ports may run code: they are closed to who has no token.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # A node that is gone is noticed after this many failed looks, a second apart: until then Ray may
        # still place a new host there. (One that only hangs is given ten seconds a look.)
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_failure_threshold": "3",
        # Ray gives its workers the lowest priority but four (nice 15); here, people wait for them.
        "RAY_worker_niceness": "0",
        # Ray prints its own errors (a host that died, say) on standard output; they are in its logs as well.
        "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
        "RAY_USAGE_STATS_ENABLED": "0",
        # What actors and replicas write is turned over, file by file; by default it grows for ever.
        "RAY_ROTATION_MAX_BYTES": str(64 << 20),
        "RAY_ROTATION_BACKUP_COUNT": "3",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    token_file.touch(mode=0o600)
    token_file.write_text(os.environ["RAY_AUTH_TOKEN"] + "\n", encoding="ascii")


def forget_settings() -> None:
    """Take ``GUILDHALL_*`` out of this process's environment, once it is read: every child would inherit it.

    Ray's workers and agents, HAProxy and the services need none of it; actors and replicas are handed what
    they need. Only this process's own start, in ``/proc``, still says it.
    """
    for name in [name for name in os.environ if name.startswith("GUILDHALL_")]:
        del os.environ[name]


def _max_connections() -> int:
    """Raise the descriptor limit as far as allowed; return the sockets that HAProxy can carry with it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = hard if hard != resource.RLIM_INFINITY else 1 << 20
    return max(256, min(MAX_SOCKETS, (room - DESCRIPTORS_BESIDE_SOCKETS) // 2))
