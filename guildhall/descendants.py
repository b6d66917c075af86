"""No process of ours outlives us, not even those that the libraries we use start and forget."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import shutil
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
END_WITHIN_S = 5.0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, instead of process 1."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def end_descendants() -> None:
    """End whatever still descends from this process: HAProxy, when the actor that ran it was killed."""
    await asyncio.to_thread(_end, psutil.Process().children(recursive=True))


async def end_leftovers(runtime_dir: Path) -> None:
    """End what a run that was killed has left, and remove its runtime folder.

    Most of it dies with its parent, but HAProxy does not, and holds the front door's port; nor do Ray's
    agents. They are known by their environment or their open files, which name that very folder.
    """
    await asyncio.to_thread(_end, [p for p in psutil.process_iter() if _belongs_to(p.pid, f"{runtime_dir}/")])
    shutil.rmtree(runtime_dir, ignore_errors=True)


def _belongs_to(pid: int, folder: str) -> bool:
    """Whether a process has the folder in its environment, or a file in it open.

    The environment alone will not do: a process that renamed itself, as Ray's agents do, has overwritten
    the beginning of it, or all of a small one.
    """
    process = Path(f"/proc/{pid}")
    try:
        if f"={folder}".encode() in (process / "environ").read_bytes():
            return True
        return any(_target(link).startswith(folder) for link in (process / "fd").iterdir())
    except OSError:  # it is gone, or somebody else's
        return False


def _target(link: Path) -> str:
    with contextlib.suppress(OSError):
        return str(link.readlink())
    return ""


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=END_WITHIN_S)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=END_WITHIN_S)
