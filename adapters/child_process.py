"""Programs that Guildhall runs for itself and that never outlive it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from domain.errors import ServiceFailed

_LAUNCHER = Path(__file__).with_name("child_launcher.py")
_TAIL_LINES = 3
_TAIL_CHARACTERS = 600
_TAIL_BYTES = 8192

_PASSED_ON = frozenset({"HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "TZDIR"})

# sockaddr_un.sun_path is 108 bytes with its closing zero.
SOCKET_PATH_LIMIT_BYTES = 107


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAs:
    """Another user to run as, and the one capability (its Linux number) to keep."""

    uid: int
    gid: int
    capability: int | None = None


class ChildProcess:
    """One program, in a session of its own, that gets its stop signal when we die, however we die.

    Linux sends that signal when the *thread* that started the child ends, so `start()` belongs to the
    event loop of the main thread. A session of its own keeps Ctrl-C in a terminal from reaching the child
    before we have finished with it. Output is appended to `log`.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        run_as: RunAs | None = None,
    ) -> None:
        self.name = name
        self._argv = list(argv)
        self._log = log
        self._stop_signal = stop_signal
        self._run_as = run_as
        self._process: asyncio.subprocess.Process | None = None
        self._exit: asyncio.Task[int] | None = None

    @property
    def pid(self) -> int:
        """The process id; the program must have been started."""
        if self._process is None:
            raise ServiceFailed(f"{self.name} is not running.")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._exit is not None and not self._exit.done()

    async def start(self) -> None:
        """Launch the program; it may still fail, which `wait()` tells."""
        orders = {
            "parent": os.getpid(),
            "death_signal": int(self._stop_signal),
            "uid": self._run_as.uid if self._run_as else None,
            "gid": self._run_as.gid if self._run_as else None,
            "capability": self._run_as.capability if self._run_as else None,
        }
        output = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_LAUNCHER),
                json.dumps(orders),
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(),
                start_new_session=True,
            )
        finally:
            os.close(output)
        self._exit = asyncio.create_task(self._process.wait(), name=f"exit of {self.name}")

    async def wait(self, within_s: float | None = None) -> int | None:
        """Return the exit code once it ended, or None if it still runs after `within_s`."""
        if self._exit is None:
            raise ServiceFailed(f"{self.name} is not running.")
        done, _ = await asyncio.wait({self._exit}, timeout=within_s)
        return self._exit.result() if done else None

    async def stop(self, *signals: signal.Signals, deadline_s: float) -> None:
        """Ask with the stop signal, then with each of `signals`, then kill; each step has `deadline_s`."""
        for asked in (self._stop_signal, *signals, signal.SIGKILL):
            if not self.running:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, asked)
            await self.wait(deadline_s)

    def failure(self, what: str) -> ServiceFailed:
        """Say in one sentence what went wrong, with the last lines the program wrote."""
        said = tail(self._log)
        return ServiceFailed(
            f"{self.name} {what}: {said} (log: {self._log})" if said else f"{self.name} {what}."
        )


def _environment() -> dict[str, str]:
    """Return what any program may know of ours: how to run, and no secret.

    Tokens stand in ``GUILDHALL_*`` and ``RAY_*``, and PGPORT and friends are about a person's other servers.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(("LC_", "PYTHON"))
    }


def tail(log: Path) -> str:
    """Return the last lines of a log, joined into one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]


def rotate(log: Path) -> None:
    """Begin a new log and keep exactly one old one."""
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def require_short(socket: Path) -> None:
    """Refuse a socket path that the kernel would refuse with a riddle."""
    if (length := len(os.fsencode(socket))) > SOCKET_PATH_LIMIT_BYTES:
        raise ServiceFailed(
            f"The socket path {socket} has {length} bytes and {SOCKET_PATH_LIMIT_BYTES} is the limit; "
            "choose a shorter folder for sockets."
        )


async def end_leftovers(program: str, folder: Path, asked: signal.Signals, *, deadline_s: float) -> None:
    """End what a previous run left at work in `folder`, so that two servers never share one data set.

    After a SIGKILL of the parent the child gets its stop signal but may still be writing when we start again.
    Only processes called `program` whose working folder is exactly `folder` are meant.
    """
    await asyncio.to_thread(_end_leftovers, program, folder, asked, deadline_s)


def _end_leftovers(program: str, folder: Path, asked: signal.Signals, deadline_s: float) -> None:
    found = {
        process.pid: process
        for process in psutil.process_iter(["name", "cwd", "ppid"])
        if process.info["name"] == program and process.info["cwd"] == str(folder)
    }
    for process in found.values():
        # A server ends its own helpers; only they that have no parent among them are asked.
        if process.info["ppid"] not in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(asked)
    _, alive = psutil.wait_procs(list(found.values()), timeout=deadline_s)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=deadline_s)
