"""Which kinds of processes use the machine's cores, and how much."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable

import psutil

KINDS = (
    ("relay", r"^ray::ServeReplica:relay"),
    ("api", r"^ray::ServeReplica:api"),
    ("haproxy", r"haproxy"),
    ("hosts", r"^ray::GuildHost"),
    ("other actors", r"^ray::"),
    ("ray", r"ray"),
    ("postgres", r"bin/postgres|^postgres:"),
    ("redis", r"redis-server"),
    ("local discord", r"discord_sim"),
    ("publisher", r"fanout\.publisher"),
    ("load", r"fanout\.load"),
    ("nginx", r"^nginx"),
    ("node", r"ws_server"),
)
"""The first that fits."""


class Cores:
    """What processes have used since this was made."""

    def __init__(self, processes: Iterable[psutil.Process]) -> None:
        self._processes = [(process, _kind(process), _cpu_s(process)) for process in processes]

    def used(self) -> dict[str, float]:
        """Return the CPU seconds by kind of process."""
        used: defaultdict[str, float] = defaultdict(float)
        for process, kind, before in self._processes:
            used[kind] += max(0.0, _cpu_s(process) - before)
        return dict(used)


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
