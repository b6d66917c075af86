"""What operators do to a running network: ``guildhall hosts …`` and ``guildhall poison …``."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
import uvloop
from rich.console import Console
from rich.table import Table

from adapters.guild_store import PostgresGuildStore
from domain.errors import ConfigurationInvalid
from domain.ids import parse_snowflake
from guildhall.settings import load_settings, secret_of

if TYPE_CHECKING:
    from actors.handles import DirectorHandle

hosts = typer.Typer(help="Look at the guild hosts, add one, or take one away.", no_args_is_help=True)
poison = typer.Typer(help="Look at events that were set aside, and try them again.", no_args_is_help=True)

DataDir = Annotated[
    Path | None, typer.Option(help="Data folder of the running Guildhall.", show_default=".guildhall")
]
T = TypeVar("T")


@hosts.command("list")
def list_hosts(data_dir: DataDir = None) -> None:
    """Show every host and what it holds."""
    table = Table("host", "incarnation", "guilds", "watched", "waiting", "committed", "poison", "database")
    for host in _ask(data_dir, lambda director: director.list_hosts()):
        if isinstance(host, str):
            table.add_row(host, "does not answer")
            continue
        commit = host.commit
        table.add_row(
            host.host_id,
            str(host.incarnation),
            str(host.guilds),
            str(host.watched_guilds),
            str(commit.waiting_events),
            str(commit.committed_events),
            str(commit.poison_events),
            "ok" if commit.store_available else "away",
        )
    Console().print(table)


@hosts.command("add")
def add_host(data_dir: DataDir = None) -> None:
    """Add a host; it takes over its share of the guilds while traffic flows."""
    typer.echo(f"Host {_ask(data_dir, lambda director: director.add_host())} has its share of the guilds.")


@hosts.command("drain")
def drain_host(host_id: str, data_dir: DataDir = None) -> None:
    """Give a host's guilds to the others, then end it."""
    _ask(data_dir, lambda director: director.drain_host(host_id))
    typer.echo(f"Host {host_id} is gone; its guilds live on the others.")


@hosts.command("dedicate")
def dedicate(
    guild_id: str,
    host_id: Annotated[
        str | None, typer.Option("--host", help="An existing host.", show_default="a new one")
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="Put the guild among the others again.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Give a busy guild a host of its own, or take it back."""
    guild = parse_snowflake(guild_id)
    if guild is None:
        raise ConfigurationInvalid(f"{guild_id} is no guild's id.")
    wanted = "" if release else host_id
    given = _ask(data_dir, lambda director: director.dedicate(guild, wanted))
    typer.echo(
        f"Guild {guild} has host {given} to itself." if given else f"Guild {guild} is among the others."
    )


@poison.command("list")
def list_poison(
    data_dir: DataDir = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Rows at most.")] = 100,
) -> None:
    """Show the events that could not be taken, oldest first."""

    async def read() -> None:
        store = await PostgresGuildStore.open(_database_url(data_dir))
        try:
            rows = await store.poison(limit=limit)
        finally:
            await store.close()
        table = Table("id", "since", "guild", "source", "reason")
        for row in rows:
            since = datetime.fromtimestamp(row.at_ms / 1000, UTC).isoformat(timespec="seconds")
            table.add_row(
                str(row.poison_id), since, str(row.event.guild_id or "?"), row.event.source, row.event.reason
            )
        Console().print(table)

    uvloop.run(read())


@poison.command("retry")
def retry_poison(poison_id: int, data_dir: DataDir = None) -> None:
    """Send an event that was set aside once more."""
    taken = _ask(data_dir, lambda director: director.retry_poison(poison_id))
    typer.echo(
        f"Event {poison_id} was taken."
        if taken
        else f"Event {poison_id} was refused again: `guildhall poison list` says why."
    )


def _ask(data_dir: Path | None, question: Callable[[DirectorHandle], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with _director(data_dir) as director:
            return await question(director)

    return uvloop.run(ask())


@asynccontextmanager
async def _director(data_dir: Path | None) -> AsyncIterator[DirectorHandle]:
    """Connect to the Ray cluster of a running Guildhall."""
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        address = _addresses(data_dir)["ray_address"]
        # As for the cluster itself (guildhall/environment.py): without it this process would look for Ray at
        # the machine's address, where nothing listens, and wait.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = (_folder(data_dir) / "ray-token").read_text(encoding="ascii").strip()
    # Imported here, because Ray reads the environment when it is imported.
    import ray  # noqa: PLC0415

    from actors.handles import NAMESPACE, find_director  # noqa: PLC0415

    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    try:
        yield find_director()
    finally:
        ray.shutdown()


def _database_url(data_dir: Path | None) -> str:
    own = secret_of(load_settings(data_dir=data_dir).database_url)
    return own or _addresses(data_dir)["database_url"]


def _addresses(data_dir: Path | None) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((_folder(data_dir) / "addresses.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationInvalid(
            f"No Guildhall runs on {_folder(data_dir)}: start one, or name its folder with --data-dir."
        ) from error
    return found


def _folder(data_dir: Path | None) -> Path:
    return load_settings(data_dir=data_dir).data_dir
