"""The command line of the benchmarks: ``guildhall bench NAME``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from benchmarks import (
    analytics,
    api,
    guilds,
    identify,
    ingest,
    memory,
    reconnect,
    scale,
    steady,
    storm,
    write_costs,
)
from benchmarks import runner_kills as runners
from benchmarks import runner_moves as moves
from benchmarks.attack import run as attack
from benchmarks.chaos import run as chaos
from benchmarks.fanout import run as fanout
from benchmarks.outages import run as outages
from benchmarks.result import Result

DataDir = Annotated[
    Path | None, typer.Option(help="Where the embedded services keep data.", show_default=".guildhall")
]

bench = typer.Typer(help="Print the figures that the documentation states.", no_args_is_help=True)

BenchJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]


@bench.command("storm")
def bench_storm(
    seconds: Annotated[float, typer.Option(min=1, help="How long it lasts.")] = 60.0,
    rate: Annotated[float, typer.Option(min=1, max=600, help="Messages per second.")] = storm.RATE,
    as_json: BenchJson = False,
) -> None:
    """Send a message storm through a whole demo, and hold what arrived against what was sent."""
    _show(uvloop.run(storm.run(seconds=seconds, rate=rate)), as_json=as_json)


@bench.command("steady")
def bench_steady(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long it lasts.")] = steady.MINUTES,
    rate: Annotated[float, typer.Option(min=1, max=600, help="Messages per second.")] = steady.RATE,
    guilds: Annotated[int, typer.Option(min=1, max=10_000, help="Simulated guilds.")] = steady.GUILDS,
    as_json: BenchJson = False,
) -> None:
    """Let the same traffic run for long, and see whether the memory of our processes grows."""
    _show(uvloop.run(steady.run(minutes=minutes, rate=rate, guilds=guilds)), as_json=as_json)


@bench.command("memory")
def bench_memory(data_dir: DataDir = None, as_json: BenchJson = False) -> None:
    """Add up the memory of the Guildhall that is running on a data folder."""
    _show(uvloop.run(memory.run(data_dir or Path(".guildhall"))), as_json=as_json)


@bench.command("chaos")
def bench_chaos(  # noqa: PLR0917 - one option each
    seconds: Annotated[float, typer.Option(min=30, help="How long it lasts.")] = 270.0,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 400.0,
    kills: Annotated[int, typer.Option(min=0, help="Hosts that are killed.")] = 20,
    postgres_away: Annotated[float, typer.Option(min=1, help="Seconds without Postgres.")] = 30.0,
    freeze: Annotated[float, typer.Option(min=1, help="Seconds that a host is frozen.")] = 60.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same plan.")] = 1,
    runner_kills: Annotated[
        int,
        typer.Option(min=0, help="Shard runners that are killed afterwards, in a demo; 0 moves none."),
    ] = runners.Plan().kills,
    as_json: BenchJson = False,
) -> None:
    """Kill and freeze hosts, nodes, the Director, shards and Postgres, and see whether anything is lost."""
    plan = chaos.Plan(seconds, rate, kills, postgres_away, freeze, seed)
    _show(uvloop.run(chaos.run(plan)), as_json=as_json)
    if runner_kills:
        _show(uvloop.run(runners.run(runners.Plan(kills=runner_kills))), as_json=as_json)
        _show(uvloop.run(moves.run()), as_json=as_json)


@bench.command("runner-kills")
def bench_runner_kills(
    kills: Annotated[int, typer.Option(min=1, help="How often a runner is killed.")] = runners.Plan().kills,
    rate: Annotated[float, typer.Option(min=1, help="Messages per second.")] = runners.Plan().rate,
    as_json: BenchJson = False,
) -> None:
    """Kill shard runners under traffic, and hold what is stored against what the local Discord sent."""
    _show(uvloop.run(runners.run(runners.Plan(kills=kills, rate=rate))), as_json=as_json)


@bench.command("runner-moves")
def bench_runner_moves(
    rate: Annotated[float, typer.Option(min=1, help="Messages per second.")] = moves.Plan().rate,
    as_json: BenchJson = False,
) -> None:
    """Take the node of a shard runner away, with a full spool; let one go on that was replaced."""
    _show(uvloop.run(moves.run(moves.Plan(rate))), as_json=as_json)


@bench.command("guilds")
def bench_guilds(
    count: Annotated[int, typer.Option(min=1, help="How many guilds.")] = guilds.GUILDS,
    as_json: BenchJson = False,
) -> None:
    """Bring guilds to life in one host and let them sleep; weigh them beside a Ray actor a guild."""
    _show(uvloop.run(guilds.run(count=count)), as_json=as_json)


@bench.command("ingest")
def bench_ingest(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long a turn lasts.")] = ingest.SECONDS,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = ingest.ROUNDS,
    as_json: BenchJson = False,
) -> None:
    """Make violations durable through a host, and beside it by the plain driver."""
    _show(uvloop.run(ingest.run(seconds=seconds, rounds=rounds)), as_json=as_json)


@bench.command("write-costs")
def bench_write_costs(
    thousands: Annotated[
        int, typer.Option(min=1, help="How many thousand rows a turn writes.")
    ] = write_costs.THOUSANDS,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = write_costs.ROUNDS,
    as_json: BenchJson = False,
) -> None:
    """Write violations by the plain driver, with and without the indexes and rollups that answers need."""
    _show(uvloop.run(write_costs.run(thousands=thousands, rounds=rounds)), as_json=as_json)


@bench.command("analytics")
def bench_analytics(
    violations: Annotated[
        int, typer.Option(min=1_000, help="Violations of one guild in 60 days.")
    ] = analytics.VIOLATIONS,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is asked.")] = analytics.ROUNDS,
    as_json: BenchJson = False,
) -> None:
    """Ask everything of a guild with a million violations, by the store and over HTTP, uncached."""
    _show(uvloop.run(analytics.run(violations=violations, rounds=rounds)), as_json=as_json)


@bench.command("api")
def bench_api(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long a turn lasts.")] = api.SECONDS,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = api.ROUNDS,
    crowd: Annotated[int, typer.Option(min=1, max=5_000, help="How many ask at once.")] = api.CROWD,
    as_json: BenchJson = False,
) -> None:
    """Ask for what the API remembers, beside a route that answers a constant; then let a crowd ask."""
    _show(uvloop.run(api.run(seconds=seconds, rounds=rounds, crowd=crowd)), as_json=as_json)


@bench.command("fanout")
def bench_fanout(
    seconds: Annotated[float, typer.Option(min=0.5, help="How long a turn lasts.")] = fanout.Plan().seconds,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = fanout.Plan().rounds,
    as_json: BenchJson = False,
) -> None:
    """Let one server's events reach hundreds and thousands of WebSockets, beside nchan and ws."""
    _show(uvloop.run(fanout.run(fanout.Plan(seconds=seconds, rounds=rounds))), as_json=as_json)


@bench.command("reconnect")
def bench_reconnect(
    clients: Annotated[int, typer.Option(min=1, max=3_000, help="How many watch.")] = 500,
    kills: Annotated[int, typer.Option(min=1, help="How many processes are killed.")] = 8,
    as_json: BenchJson = False,
) -> None:
    """Kill relays and hosts under those who watch, and compare what each has seen with the database."""
    _show(uvloop.run(reconnect.run(clients=clients, kills=kills)), as_json=as_json)


@bench.command("outages")
def bench_outages(  # noqa: PLR0917 - one option each
    gone: Annotated[float, typer.Option(min=1, help="Seconds without Discord.")] = outages.Plan().gone_s,
    ago: Annotated[
        float, typer.Option(min=1, help="To how many seconds ago the database is put back.")
    ] = outages.Plan().ago_s,
    kills: Annotated[
        int, typer.Option(min=1, help="How often the Rbac actor is killed.")
    ] = outages.Plan().kills,
    watchers: Annotated[
        int, typer.Option(min=1, max=outages.MOST_WATCHERS, help="How many watch.")
    ] = outages.Plan().watchers,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be given again.")] = None,
    as_json: BenchJson = False,
) -> None:
    """Take Discord, the roles and the database's last minutes away under those who watch."""
    parts = tuple(part) if part else outages.PARTS
    plan = outages.Plan(gone_s=gone, ago_s=ago, kills=kills, watchers=watchers, parts=parts)
    _show(uvloop.run(outages.run(plan)), as_json=as_json)


@bench.command("identify")
def bench_identify(
    shards: Annotated[int, typer.Option(min=1, help="How many shards connect.")] = identify.Plan().shards,
    runners: Annotated[int, typer.Option(min=1, help="In how many runners.")] = identify.Plan().runners,
    processes: Annotated[int, typer.Option(min=1, help="In how many processes.")] = identify.Plan().processes,
    max_concurrency: Annotated[
        int, typer.Option(min=1, help="How many Discord lets in at once.")
    ] = identify.Plan().max_concurrency,
    as_json: BenchJson = False,
) -> None:
    """Connect very many shards in many runners, and count the IDENTIFYs that the local Discord was sent."""
    plan = identify.Plan(shards, runners, processes, max_concurrency)
    _show(uvloop.run(identify.run(plan)), as_json=as_json)


@bench.command("attack")
def bench_attack(
    seconds: Annotated[float, typer.Option(min=1, help="How long each attack lasts.")] = attack.SECONDS,
    as_json: BenchJson = False,
) -> None:
    """Attack a demo in nine ways, from loopback, while people read and watch; say what they notice."""
    _show(uvloop.run(attack.run(seconds=seconds)), as_json=as_json)


@bench.command("scale")
def bench_scale(  # noqa: PLR0917 - one option each
    guilds: Annotated[int, typer.Option(min=1, help="Guilds that live.")] = scale.Plan().guilds,
    sleepers: Annotated[int, typer.Option(min=1, help="Guilds asked for at once.")] = scale.Plan().sleepers,
    hosts: Annotated[int, typer.Option(min=1, help="Hosts whose messages are counted.")] = scale.Plan().hosts,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas that listen.")] = scale.Plan().replicas,
    seconds: Annotated[float, typer.Option(min=1, help="How long messages are counted.")] = 10.0,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be given again.")] = None,
    as_json: BenchJson = False,
) -> None:
    """Measure what grows with guilds, hosts, replicas and shards; each part says if its bound is kept."""
    parts = tuple(part) if part else scale.PARTS
    plan = scale.Plan(
        guilds=guilds, sleepers=sleepers, hosts=hosts, replicas=replicas, seconds=seconds, parts=parts
    )
    _show(uvloop.run(scale.run(plan)), as_json=as_json)


@bench.command("all")
def bench_all(as_json: BenchJson = False) -> None:
    """Run every benchmark that brings its own system; with --json, one line each."""
    _show(uvloop.run(storm.run()), as_json=as_json)
    _show(uvloop.run(guilds.run()), as_json=as_json)
    _show(uvloop.run(scale.run(scale.Plan())), as_json=as_json)
    _show(uvloop.run(ingest.run()), as_json=as_json)
    _show(uvloop.run(write_costs.run()), as_json=as_json)
    _show(uvloop.run(analytics.run()), as_json=as_json)
    _show(uvloop.run(api.run()), as_json=as_json)
    _show(uvloop.run(fanout.run()), as_json=as_json)
    _show(uvloop.run(reconnect.run()), as_json=as_json)
    _show(uvloop.run(attack.run()), as_json=as_json)


def _show(result: Result, *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode(result))
        return
    typer.echo(result.name)
    for name, value in result.figures.items():
        typer.echo(f"  {name:<28} {value}")
    for name, value in result.baseline.items():
        typer.echo(f"  baseline: {name:<28} {value}")
    if result.ratio is not None:
        typer.echo(f"  ratio to the baseline: {result.ratio:.3g}")
