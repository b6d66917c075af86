"""Prints the memory of a running Guildhall on this machine, by kind of process, as JSON or as a table.

    .venv/bin/python benchmarks/memory.py [--data-dir .guildhall] [--json]

PSS counts a page shared by n processes as 1/n in each, so the sum is what the machine really gives.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import psutil

KINDS = (
    ("Postgres", r"bin/postgres|^postgres:"),
    ("Redis", r"redis-server"),
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


def main() -> None:
    """Find the running command by its data folder's lock, and add up its descendants."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, default=Path(".guildhall"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    root = psutil.Process(int((options.data_dir / "lock").read_text()))
    found: defaultdict[str, list[int]] = defaultdict(list)
    found["guildhall"].append(root.memory_full_info().pss)
    for process in root.children(recursive=True):
        try:
            line, pss = " ".join(process.cmdline()), process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        kind = next((kind for kind, pattern in KINDS if re.search(pattern, line)), "other")
        found[kind].append(pss)
    figures = {kind: round(sum(sizes) / 1e6) for kind, sizes in found.items()}
    figures["total"] = sum(figures.values())
    if options.json:
        print(json.dumps({"name": "memory", "figures": figures}))
        return
    for kind, megabytes in figures.items():
        print(f"{kind:<36} {len(found.get(kind, [])) or '':>3} {megabytes:>6} MB")


if __name__ == "__main__":
    main()
