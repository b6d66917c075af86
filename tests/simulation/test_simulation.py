"""Storms over a whole network of bots, in virtual time: each seed is one of them, the same every time.

``SIMULATION_SEED=123 .venv/bin/pytest tests/simulation`` runs one seed again, ``SIMULATION_RUNS=5000`` as
many as one likes, on all cores: thousands a minute. Without either, as many as fit in a few seconds; in CI
always the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.checks import complaints
from tests.simulation.world import World

FIRST_SEED = 1
AT_LEAST, WITHIN_S = 200, 20.0
AT_ONCE = 100


def run_seed(seed: int) -> list[str]:
    """Run one storm and return what was wrong after it."""
    world = World(seed)
    world.run()
    return complaints(world)


@pytest.mark.timeout(0)
def test_storms_leave_nothing_lost_doubled_or_out_of_order() -> None:
    """After any storm, everything that was given is stored once, and shown."""
    if "SIMULATION_SEED" in os.environ:
        seeds = [int(os.environ["SIMULATION_SEED"])]
    else:
        seeds = list(range(FIRST_SEED, FIRST_SEED + int(os.environ.get("SIMULATION_RUNS", "100000"))))
    bounded = not os.environ.keys() & {"SIMULATION_SEED", "SIMULATION_RUNS"}
    began = time.monotonic()
    ran = 0
    # Spawned: this process may have Ray's threads. Seeds are independent of each other.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for some in batched(seeds, AT_ONCE):
            enough = "CI" in os.environ or time.monotonic() - began > WITHIN_S
            if bounded and ran >= AT_LEAST and enough:
                break
            for seed, wrong in zip(some, pool.map(run_seed, some), strict=True):
                if wrong:
                    again = f"SIMULATION_SEED={seed} .venv/bin/pytest tests/simulation"
                    pytest.fail("\n  ".join([f"Seed {seed}; again with: {again}", *wrong[:10]]))
            ran += len(some)
    took_s = time.monotonic() - began
    print(f"\n{ran} storms in {took_s:.1f} s: {ran / took_s * 60:.0f} a minute")  # noqa: T201


def batched(seeds: list[int], size: int) -> Iterator[list[int]]:
    """Cut seeds into lists of so many at most."""
    return (seeds[start : start + size] for start in range(0, len(seeds), size))


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_is_the_same_storm_every_time(seed: int) -> None:
    """Two runs of a seed take the same steps and end in the same database."""
    first, second = World(seed), World(seed)
    first.run()
    second.run()
    assert first.loop.steps == second.loop.steps
    assert first.loop.time() == second.loop.time()
    assert first.database.violations == second.database.violations
    assert first.database.marks == second.database.marks
