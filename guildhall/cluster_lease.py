"""One Guildhall on a Ray cluster: who runs it holds a lease, and what a killed one left is cleared away.

The lease is an actor that belongs to the process that made it: Ray ends it with that process, however that
ended. All other actors outlive their maker, so that none of them dies with another.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import msgspec
import psutil
import ray
import structlog
from ray import serve
from ray.exceptions import GetTimeoutError, RayError
from ray.util import list_named_actors

from actors.handles import NAMESPACE
from domain.errors import ConfigurationInvalid, ServiceFailed

log = structlog.get_logger()

LEASE_NAME = "guildhall-lease"
GRACE_S = 15.0
"""How long the lease of a process that was killed may outlive it."""

ANSWER_TIMEOUT_S = 5.0
START_TIMEOUT_S = 60.0
CLEAR_TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.2


class Holder(msgspec.Struct, frozen=True):
    """The process that runs Guildhall on a cluster."""

    host: str
    pid: int
    url: str


class ClusterLease:
    """Says who holds it."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder

    def holder(self) -> Holder:
        """Return who holds it."""
        return self._holder


def acquire_lease(url: str) -> Any:
    """Take the cluster for this process; return what must be kept for as long as it is to hold. Blocks.

    Raises:
        ConfigurationInvalid: another process holds it, and lives.

    """
    mine = Holder(socket.gethostname(), os.getpid(), url)
    options = {"name": LEASE_NAME, "namespace": NAMESPACE, "num_cpus": 0, "max_restarts": 0}
    give_up_at = time.monotonic() + GRACE_S
    while True:
        try:
            lease = ray.remote(ClusterLease).options(**options).remote(mine)
        except ValueError:  # the name is taken
            holder = _holder()
            dead = holder is None or _died(holder)
            if not dead or time.monotonic() > give_up_at:
                raise ConfigurationInvalid(_refusal(holder)) from None
            time.sleep(LOOK_EVERY_S)
            continue
        try:
            ray.get(lease.holder.remote(), timeout=START_TIMEOUT_S)
        except (RayError, GetTimeoutError) as error:
            raise ServiceFailed(f"The Ray cluster starts no actors: {type(error).__name__}.") from error
        return lease


def clear_cluster() -> None:
    """End every actor of Guildhall on this cluster but the lease, and what Serve runs for it. Blocks.

    Others' actors and others' Serve applications are left alone.
    """
    _clear_serve()
    give_up_at = time.monotonic() + CLEAR_TIMEOUT_S
    while left := _our_actors():
        for name in left:
            _kill(name)
        if time.monotonic() > give_up_at:
            raise ServiceFailed(f"These actors of an earlier run do not end: {', '.join(sorted(left))}.")
        time.sleep(LOOK_EVERY_S)


APPLICATIONS = ("api", "relay")


def _clear_serve() -> None:
    """Delete our applications; where Serve runs nothing else, end it with its proxies and HAProxy."""
    if not any(actor["namespace"] == "serve" for actor in list_named_actors(all_namespaces=True)):
        return
    try:
        others = set(serve.status().applications) - set(APPLICATIONS)
        if not others:
            serve.shutdown()
            return
        for name in APPLICATIONS:
            serve.delete(name)
    except Exception as error:
        raise ServiceFailed(f"Serve does not end: {error!r}") from error


def _our_actors() -> list[str]:
    return [
        actor["name"]
        for actor in list_named_actors(all_namespaces=True)
        if actor["namespace"] == NAMESPACE and actor["name"] != LEASE_NAME
    ]


def _kill(name: str) -> None:
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    except (ValueError, RayError) as error:  # it died a moment ago, or the next round tries again
        log.info("actor_not_killed", actor=name, error=str(error))


def _holder() -> Holder | None:
    """Ask who holds the lease; None when it ends just now, or does not answer."""
    try:
        holder: Holder = ray.get(
            ray.get_actor(LEASE_NAME, namespace=NAMESPACE).holder.remote(), timeout=ANSWER_TIMEOUT_S
        )
    except (ValueError, RayError, GetTimeoutError):
        return None
    return holder


def _died(holder: Holder) -> bool:
    """Whether a holder on this machine is gone; of another machine's nobody here can say."""
    if holder.host != socket.gethostname():
        return False
    try:
        return psutil.Process(holder.pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _refusal(holder: Holder | None) -> str:
    if holder is None:
        return "Guildhall runs on this Ray cluster already, though whoever started it does not answer."
    return (
        f"Guildhall runs on this Ray cluster already: process {holder.pid} on {holder.host} started it, for "
        f"{holder.url}. Stop that one first."
    )
