"""Run a local Discord from the command line."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import uvloop

from .app import DiscordSim, Settings
from .gateway_session import GatewayOptions
from .traffic import MAX_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

_STDIN = 0
_MAX_PORT = 65_535
_MAX_GUILDS = 100_000
_MAX_IDENTIFY_INTERVAL_S = 60.0


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the arguments, listen, print one line of JSON, and serve until told to stop."""
    parser = _parser()
    options = parser.parse_args(argv)
    problem = _problem(options)
    if problem is not None:
        parser.exit(2, f"discord-sim: {problem}\n")
    logging.basicConfig(
        stream=sys.stderr, level=options.log_level, format="%(levelname)s %(name)s %(message)s"
    )
    settings = Settings(
        host=options.host,
        port=options.port,
        guilds=options.guilds,
        rate=options.rate,
        offence_share=options.offence_share,
        seed=options.seed,
        token=options.token,
        client_id=options.client_id,
        client_secret=options.client_secret,
        app_name=options.app_name,
        redirect_uris=tuple(options.redirect_uri),
        gateway=GatewayOptions(identify_interval_s=options.identify_interval),
    )
    sys.exit(uvloop.run(_serve(settings, exit_with_stdin=options.exit_with_stdin)))


async def _serve(settings: Settings, *, exit_with_stdin: bool) -> int:
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    sim = DiscordSim(settings)
    try:
        await sim.start()
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        sys.stderr.write(f"discord-sim: cannot listen on {where}: {error.strerror or error}.\n")
        return 1
    if exit_with_stdin:
        _call_at_eof(loop, told_to_stop)
    ready = {
        "url": sim.url,
        "gateway": sim.gateway_url,
        "token": settings.token,
        "client_id": str(settings.client_id),
        "client_secret": settings.client_secret,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await told_to_stop.wait()
    await sim.stop()
    return 0


def _call_at_eof(loop: asyncio.AbstractEventLoop, told_to_stop: asyncio.Event) -> None:
    """Set the event when stdin ends. A thread, because a loop cannot watch every kind of stdin."""

    def wait() -> None:
        while os.read(_STDIN, 65_536):
            pass
        loop.call_soon_threadsafe(told_to_stop.set)

    threading.Thread(target=wait, name="stdin", daemon=True).start()


def _problem(options: argparse.Namespace) -> str | None:
    if not options.allow_remote and not _is_loopback(options.host):
        return f"--host {options.host} can be reached from other machines; add --allow-remote if you mean it."
    if not 0 <= options.port <= _MAX_PORT:
        return f"--port must be from 0 to {_MAX_PORT}."
    if not 0 <= options.guilds <= _MAX_GUILDS:
        return f"--guilds must be from 0 to {_MAX_GUILDS}."
    if not 0 <= options.rate <= MAX_RATE:
        return f"--rate must be from 0 to {MAX_RATE:g} messages per second."
    if options.offence_share is not None and not 0 <= options.offence_share <= 1:
        return "--offence-share must be from 0 to 1."
    if not 0 <= options.identify_interval <= _MAX_IDENTIFY_INTERVAL_S:
        return f"--identify-interval must be from 0 to {_MAX_IDENTIFY_INTERVAL_S:g} seconds."
    if not options.token or not options.client_secret:
        return "--token and --client-secret must not be empty."
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(prog="discord-sim", description="A Discord that runs on this machine.")
    add = parser.add_argument
    add("--host", default=default.host, help="address to listen on (default %(default)s)")
    add("--port", type=int, default=default.port, help="port to listen on, 0 takes a free one")
    add("--allow-remote", action="store_true", help="allow a --host other machines can reach")
    add("--guilds", type=int, default=default.guilds, help="number of guilds (default %(default)s)")
    add("--rate", type=float, default=20.0, help="messages per second over all guilds (default %(default)s)")
    add("--offence-share", type=float, help="share of messages that offend (default 0.035)")
    add("--seed", type=int, default=default.seed, help="the same seed makes the same world")
    add("--token", default=default.token, help="the bot's token (default %(default)s)")
    add("--client-id", type=_snowflake, default=default.client_id, help="the application's id, a number")
    add("--client-secret", default=default.client_secret, help="the application's OAuth2 secret")
    add("--app-name", default=default.app_name, help="the bot's and the application's name")
    add("--redirect-uri", action="append", default=[], help="one more allowed OAuth2 redirect URI")
    add("--identify-interval", type=float, default=5.0, help="seconds between identifies of one shard bucket")
    add("--exit-with-stdin", action="store_true", help="stop when stdin ends")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    return parser


def _snowflake(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 63:
        raise argparse.ArgumentTypeError("must be a snowflake, that is a positive number")
    return int(text)


if __name__ == "__main__":
    main()
