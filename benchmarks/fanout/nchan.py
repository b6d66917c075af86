"""nchan, the fan-out module of nginx, in an nginx of our own: one worker, on loopback, as who runs this."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.fanout.peer import Peer, running_peer
from guildhall.settings import free_port

NAME = "nchan"

_CONFIGURATION = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/error.log error;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /publish {{
            nchan_publisher websocket;
            nchan_channel_id guild;
            nchan_message_buffer_length 1000;
        }}
        location = /listen {{
            nchan_subscriber websocket;
            nchan_channel_id guild;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


def is_installed() -> bool:
    """Whether nginx and the module are on this machine."""
    return _module() is not None


@asynccontextmanager
async def nchan() -> AsyncIterator[Peer]:
    """Start nginx in a folder of its own; end it."""
    with tempfile.TemporaryDirectory(prefix="guildhall-bench-") as name:
        folder, port = Path(name), free_port()
        configuration = folder / "nginx.conf"
        # Started by root, the worker would become somebody who may not look into the folder.
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        text = _CONFIGURATION.format(module=_module(), user=user, folder=folder, port=port)
        await asyncio.to_thread(configuration.write_text, text, encoding="utf-8")
        command = [_nginx() or "nginx", "-p", name, "-c", str(configuration), "-e", f"{name}/start.log"]
        async with running_peer(NAME, command, port, listen="/listen", publish="/publish") as peer:
            yield peer


def _nginx() -> str | None:
    """Return where nginx is: as often as not in a folder that only root has on its path."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _module() -> Path | None:
    """Return nchan where this nginx looks for its modules."""
    nginx = _nginx()
    if nginx is None:
        return None
    said = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    found = re.search(r"--modules-path=(\S+)", said)
    module = Path(found[1] if found else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    return module if module.is_file() else None
