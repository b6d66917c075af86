"""No process of ours outlives us, not even those that the libraries we use start and forget."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
END_WITHIN_S = 5.0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of process 1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_descendants() -> None:
    """End whatever still descends from this process: HAProxy, when the actor that ran it was killed."""
    await asyncio.to_thread(_end_descendants)


def _end_descendants() -> None:
    descendants = psutil.Process().children(recursive=True)
    for process in descendants:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(descendants, timeout=END_WITHIN_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=END_WITHIN_S)
