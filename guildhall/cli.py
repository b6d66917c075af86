"""The command line: ``guildhall demo``, ``guildhall up``, ``guildhall migrate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from stamina.instrumentation import set_on_retry_hooks

from adapters.migrate import migrate as run_migrations
from domain.errors import ConfigurationInvalid, GuildhallError
from guildhall import operate
from guildhall.run import Demo, run
from guildhall.settings import load_settings, secret_of

app = typer.Typer(
    help="Guildhall: the live control plane of a Discord bot network.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Port = Annotated[int | None, typer.Option(help="Port of the dashboard.", show_default="8000")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where the embedded services keep data.", show_default=".guildhall")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON when ready.")]


@app.command()
def demo(
    port: Port = None,
    guilds: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated guilds.")] = 200,
    rate: Annotated[float, typer.Option(min=0, max=600, help="Simulated messages per second.")] = 20.0,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Start everything on this machine, with a simulated Discord full of traffic."""
    settings = load_settings(host="127.0.0.1", port=port, data_dir=data_dir)
    uvloop.run(run(settings, Demo(guilds, rate), as_json=as_json))


@app.command()
def up(port: Port = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Start for real Discord: on this machine, or on the Ray cluster at RAY_ADDRESS."""
    settings = load_settings(port=port, data_dir=data_dir)
    uvloop.run(run(settings, None, as_json=as_json))


@app.command()
def migrate() -> None:
    """Bring the schema of GUILDHALL_DATABASE_URL up to date."""
    settings = load_settings()
    if settings.database_url is None:
        raise ConfigurationInvalid("GUILDHALL_DATABASE_URL is not set; an embedded database migrates itself.")
    ran = uvloop.run(run_migrations(secret_of(settings.database_url)))
    typer.echo("\n".join(ran) if ran else "The schema is up to date.")


app.add_typer(operate.hosts, name="hosts")
app.add_typer(operate.poison, name="poison")


@app.command()
def openapi() -> None:
    """Print the description of the HTTP API, as a running Guildhall serves it at /api/openapi.json."""
    from serve_app.openapi import describe_api  # noqa: PLC0415 - no other command has need of the whole API

    described = json.dumps(describe_api(), indent=1, sort_keys=True, ensure_ascii=False)
    typer.echo(described)


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def bench(context: typer.Context) -> None:
    """Print the figures that the documentation states."""
    from benchmarks.cli import bench as benchmarks  # noqa: PLC0415 - no other command needs any of them

    benchmarks(context.args, prog_name="guildhall bench")


def main() -> None:
    """Run a command; tell what does not work in one sentence, and exit with 1."""
    set_on_retry_hooks([])  # while something starts, asking again is no news
    try:
        app()
    except GuildhallError as error:
        typer.echo(f"guildhall: {error}", err=True)
        sys.exit(1)
