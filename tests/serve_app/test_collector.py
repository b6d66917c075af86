"""The collector's view of a process with many sockets."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from serve_app.collector import FREEZE_EVERY, YOUNG_OBJECTS, Collector


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_lives_long_is_taken_out_of_sight() -> None:
    """Each time that so many sockets have been opened, and not before."""
    gc.unfreeze()
    collector = Collector()
    assert gc.get_threshold()[0] == YOUNG_OBJECTS
    for _ in range(FREEZE_EVERY - 1):
        collector.opened()
    assert gc.get_freeze_count() == 0
    collector.opened()
    frozen = gc.get_freeze_count()
    assert frozen > 0
    kept = [[] for _ in range(1_000)]
    for _ in range(FREEZE_EVERY):
        collector.opened()
    assert gc.get_freeze_count() >= frozen + len(kept)
