"""The one folder that holds everything a local Guildhall keeps."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from domain.errors import DataFolderUnusable


class DataFolder:
    """A folder that this process alone uses, from `acquire()` until `release()` or its death.

    The lock is the kernel's (`flock`), so a killed process leaves none behind. The file stays: removing it
    would let two processes lock two files of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self._lock: int | None = None

    def acquire(self) -> Self:
        """Create the folder (0700) if need be, see that it can be written, and lock it."""
        if self._lock is not None:
            return self
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderUnusable(
                f"The data folder {self.path} cannot be written ({error.strerror}); "
                "make it writable or choose another with --data-dir."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise DataFolderUnusable(
                    f"The data folder {self.path} cannot be locked ({error.strerror}); "
                    "choose one on a local disk with --data-dir."
                ) from error
            who = f" (process {holder})" if holder else ""
            raise DataFolderUnusable(
                f"Another Guildhall{who} uses {self.path}; stop it or choose another --data-dir."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor
        return self

    def release(self) -> None:
        """Let another process use the folder."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
