"""The memory of a running Guildhall on this machine, by kind of process.

PSS counts a page that n processes share as 1/n in each, so the sum is what the machine really gives.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import psutil

from benchmarks.result import Result
from domain.errors import ServiceFailed

KINDS = (
    ("Postgres", r"bin/postgres|^postgres:"),
    ("Redis", r"valkey-server"),
    ("local Discord", r"discord_sim"),
    ("guild hosts", r"^ray::GuildHost"),
    ("director", r"^ray::Director"),
    ("shard runners", r"^ray::ShardRunner"),
    ("API replicas", r"^ray::ServeReplica:api"),
    ("relay replicas", r"^ray::ServeReplica:relay"),
    ("Serve: controller, proxy, HAProxy", r"^ray::(ServeController|ProxyActor|HAProxyManager)|haproxy"),
    ("Ray: dashboard", r"(?i)dashboard"),
    ("Ray: everything else", r"ray"),
)


def memory_by_kind(pid: int) -> dict[str, int]:
    """Return megabytes of PSS by kind of process, and their total, below a ``guildhall`` command."""
    root = psutil.Process(pid)
    sizes: defaultdict[str, int] = defaultdict(int)
    sizes["guildhall"] = root.memory_full_info().pss
    for process in root.children(recursive=True):
        try:
            line, pss = " ".join(process.cmdline()), process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        kind = next((kind for kind, pattern in KINDS if re.search(pattern, line)), "other")
        sizes[kind] += pss
    figures = {kind: round(size / 1e6) for kind, size in sizes.items()}
    return figures | {"total": round(sum(sizes.values()) / 1e6)}


async def run(data_dir: Path) -> Result:
    """Measure the Guildhall that runs on this data folder."""
    try:
        pid = int((data_dir / "lock").read_text(encoding="ascii"))
        return Result("memory", memory_by_kind(pid))
    except (OSError, ValueError, psutil.NoSuchProcess) as error:
        raise ServiceFailed(
            f"No Guildhall runs on {data_dir}; start one, or name it with --data-dir."
        ) from error
