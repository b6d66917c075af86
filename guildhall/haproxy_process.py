"""HAProxy's process: whether it runs, and how it begins anew while the replicas stay as they are.

It belongs to an actor of Serve's, the HAProxy manager, which never starts it again itself: Serve's controller
replaces the manager, with its HAProxy, after three failed checks (how far apart they are is set in
:mod:`guildhall.environment`). ``begin_anew`` is faster. It leans on the manager's ``_haproxy`` and
``_reload_lock``; tests/integration/test_supervision.py fails when they are not there.
"""

from __future__ import annotations

import asyncio
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError
from ray.serve._private.constants import SERVE_NAMESPACE, SERVE_PROXY_NAME
from ray.util import list_named_actors

from domain.errors import HostUnreachable

FIND_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 6.0
"""The manager itself waits five seconds for a HAProxy that hangs."""
FALLBACK = f"{SERVE_PROXY_NAME}-fallback-"
"""Serve's own proxy, to which HAProxy turns when no replica takes a request."""


class HAProxyProcess:
    """Reaches HAProxy through the actors that run it, one on each node that has a front door."""

    def __init__(self) -> None:
        self._down: list[Any] = []
        """The managers whose HAProxy did not answer when that was asked last."""

    async def is_up(self) -> bool | None:
        """Return whether HAProxy answers on its own socket; None if nobody can say.

        That socket is not behind the limit of connections: a HAProxy that is full is up.
        """
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S):
                managers = await asyncio.to_thread(_find_managers)
        except (RayError, RuntimeError, TimeoutError):
            return None
        answers = await asyncio.gather(*(_is_up(manager) for manager in managers))
        self._down = [manager for manager, up in zip(managers, answers, strict=True) if up is False]
        if self._down or not managers:
            return False
        return None if None in answers else True

    async def begin_anew(self) -> None:
        """End each HAProxy that was not up, also one that hangs, and start another; do not wait for it.

        Raises:
            HostUnreachable: its manager is gone or does not answer; Serve replaces it.

        """
        for manager in self._down:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    await manager.__ray_call__.remote(_begin_anew)
            except (RayError, TimeoutError) as error:
                raise HostUnreachable("HAProxy's manager does not answer.") from error


def _find_managers() -> list[Any]:
    names = [
        actor["name"]
        for actor in list_named_actors(all_namespaces=True)
        if actor["namespace"] == SERVE_NAMESPACE
        and actor["name"].startswith(SERVE_PROXY_NAME)
        and not actor["name"].startswith(FALLBACK)
    ]
    found = []
    for name in names:
        try:
            found.append(ray.get_actor(name, namespace=SERVE_NAMESPACE))
        except ValueError:  # it ended a moment ago
            continue
    return found


async def _is_up(manager: Any) -> bool | None:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return bool(await manager.check_health.remote())
    except RayActorError:
        return False
    except (RayError, TimeoutError):
        return None


def _begin_anew(manager: Any) -> None:
    """Run in the manager's process, in its loop."""

    async def begin_anew() -> None:
        async with manager._reload_lock:  # noqa: SLF001 - Serve has no word for it
            await manager._haproxy.stop()  # noqa: SLF001
            await manager._haproxy.start()  # noqa: SLF001

    # Kept there: a task that nobody holds may be collected.
    manager.guildhall_task = manager.event_loop.create_task(begin_anew())
