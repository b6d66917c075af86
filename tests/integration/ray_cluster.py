"""A Ray cluster that is not Guildhall's own: a process of its own, with somebody else's actor on it.

It prints its address. For each line on its input it says whether that actor lives; it ends with its input.
"""

from __future__ import annotations

import sys

import ray
from ray.cluster_utils import Cluster


class Other:
    """Not ours."""

    def alive(self) -> bool:
        return True


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 16, "include_dashboard": False})
    ray.init(cluster.address, namespace="others", log_to_driver=False, configure_logging=False)
    other = ray.remote(Other).options(name="other", lifetime="detached", num_cpus=0).remote()
    assert ray.get(other.alive.remote())
    say(cluster.address)
    for _ in sys.stdin:
        say(ray.get(other.alive.remote(), timeout=10))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
