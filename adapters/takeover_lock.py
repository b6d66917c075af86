"""A lock on a file that the newest process takes, also from one that hangs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

import psutil
import structlog

log = structlog.get_logger()

RETRY_S = 0.05


class TakeoverLock:
    """Held by one process at a time. Whoever takes it ends the process that holds it, which may be frozen.

    The process is known by its id, and only ended when it has the very file open: an id that another
    process has by now, or that counts in another container, ends nobody.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, within_s: float) -> None:
        """Take the lock. Blocks. Raises ``OSError`` when its holder cannot be ended."""
        if self._descriptor is not None:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        ends_at = time.monotonic() + within_s
        while not _locked(descriptor):
            self._end_holder(descriptor)
            if time.monotonic() >= ends_at:
                os.close(descriptor)
                raise BlockingIOError(f"another process holds {self._path}")
            time.sleep(RETRY_S)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _end_holder(self, descriptor: int) -> None:
        with contextlib.suppress(ValueError, psutil.Error):
            process = psutil.Process(int(os.pread(descriptor, 20, 0)))
            has_it_open = any(file.path == str(self._path.resolve()) for file in process.open_files())
            if has_it_open and process.pid != os.getpid():
                log.warning("lock_taken_over", file=str(self._path), ended=process.pid)
                process.kill()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
