"""The benchmarks run, and what they measured was exact. How fast it was, no test says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.attack.run import attack
from benchmarks.runner_kills import Plan, kill_runners
from guildhall.testing import DemoProcess


async def bench(*arguments: str) -> dict[str, Any]:
    """Run a benchmark as a user does; return what it printed."""
    program = Path(sys.executable).with_name("guildhall")
    process = await asyncio.create_subprocess_exec(
        program, "bench", *arguments, "--json", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        printed, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it ends what it started
            await process.wait()
    assert process.returncode == 0, said.decode()
    [line] = printed.decode().splitlines()
    result: dict[str, Any] = json.loads(line)
    assert result.keys() == {"name", "figures", "baseline", "ratio"}
    assert result["name"] == arguments[0]
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """Start a demo for those that bring none of their own: two runners with two shards each."""
    shards = {"GUILDHALL_SHARDS": "4", "GUILDHALL_SHARDS_PER_RUNNER": "2"}
    demo = DemoProcess(tmp_path_factory.mktemp("demo"), "--guilds", "60", "--rate", "0", **shards)
    try:
        demo.wait_ready()
        yield demo
        code, said = demo.end()
        assert code == 0, said
    finally:
        demo.make_sure_it_ended()


@pytest.mark.timeout(240)
async def test_guilds_all_wake_and_all_sleep_again() -> None:
    """Every guild that has rows is activated by each wave of events, and deactivated after it."""
    result = await bench("guilds", "--count", "300")

    figures = result["figures"]
    assert figures["presence_live_guilds"] == figures["count_live_guilds"] == 300
    assert figures["deactivations"] == 600
    # The guild, its three earlier hours, and the running one that the count has written.
    assert figures["rows_in_store"] == 300 * 5
    assert result["ratio"] is not None


@pytest.mark.timeout(240)
async def test_scale_says_of_each_part_whether_its_bound_is_kept() -> None:
    """All that lives was counted; quiet hosts only answer pings, and what is remembered is believed."""
    parts = ("memory", "sleepers", "placing", "chatter")
    few = ("--guilds", "2000", "--sleepers", "500", "--hosts", "5", "--replicas", "3", "--seconds", "2")
    result = await bench("scale", *few, *(word for part in parts for word in ("--part", part)))

    figures = result["figures"]
    assert figures.keys() == {*parts, "all_met"}
    assert all({"bound", "met"} <= figures[part].keys() for part in parts)
    assert figures["memory"]["live_guilds"] == 2_000
    assert figures["sleepers"]["watched_guilds"] == 500
    assert figures["placing"]["hosts"] == 256
    assert 0 < figures["chatter"]["idle_per_s"] <= 2 * 5
    assert figures["chatter"]["still_believed"] == 1.0


@pytest.mark.timeout(240)
async def test_ingest_stores_each_row_that_it_acknowledges() -> None:
    """As many violations are stored, and counted by hour, as were acknowledged."""
    result = await bench("ingest", "--seconds", "2", "--rounds", "1")

    figures = result["figures"]
    assert figures["rows_acknowledged"] == figures["rows_stored"] > 0
    assert figures["peers_rows_acknowledged"] == figures["peers_rows_stored"] > 0
    assert figures["rows_counted_by_hour"] == figures["rows_stored"] + figures["peers_rows_stored"]
    assert {"asyncpg_thousand_rows_per_s", "asyncpg_one_row_per_s"} <= result["baseline"].keys()
    assert result["ratio"] > 0


@pytest.mark.timeout(240)
async def test_write_costs_compare_each_schema_with_the_whole_one() -> None:
    """Each lacks one thing, and each was written to; what is missing is not written to the log."""
    result = await bench("write-costs", "--thousands", "3", "--rounds", "1")

    figures = result["figures"]
    parts = {name.removesuffix("_wal_percent") for name in figures if name.endswith("_wal_percent")}
    assert parts == {"severity_index", "detection_index", "both_indexes", "people_by_hour", "all_rollups"}
    assert figures["both_indexes_wal_percent"] > 0
    assert figures["all_rollups_wal_percent"] > figures["people_by_hour_wal_percent"]


@pytest.mark.timeout(240)
async def test_analytics_say_what_python_counts() -> None:
    """Each answer of each period, and each page and total, is the one that plain counting gives."""
    result = await bench("analytics", "--violations", "20000", "--rounds", "1")

    figures = result["figures"]
    assert figures["violations"] == 20_000
    assert figures["answers_compared"] == 5 * 4 + 14
    assert figures["answers_wrong"] == []
    asked = {name.removeprefix("store_") for name in figures if name.startswith("store_")}
    assert asked == {name.removeprefix("http_") for name in figures if name.startswith("http_")}
    assert len(asked) == figures["answers_compared"]
    assert result["ratio"] > 0


@pytest.mark.timeout(400)
async def test_nothing_is_lost_or_doubled_by_what_chaos_does() -> None:
    """Nor when a host and a shard hang, and another Director begins beside the first."""
    result = await bench(
        "chaos",
        "--seconds",
        "40",
        "--rate",
        "200",
        "--kills",
        "3",
        "--postgres-away",
        "4",
        "--freeze",
        "12",
        "--runner-kills",
        "0",
    )

    figures = result["figures"]
    assert figures["events_acknowledged"] > 1_000
    assert figures["host_kills"] > 0
    assert figures["second_director_refusals"] > 0
    wrong = {
        name: figures[name]
        for name in (
            "acknowledged_lost",
            "stored_twice",
            "counts_wrong_by",
            "rollup_minus_rows",
            "hours_wrong",
            "rollups_wrong",
            "guilds_with_two_writers",
            "placements_by_an_older_director",
            "not_drained",
            "hosts_never_back",
        )
    }
    assert not any(wrong.values()), figures


@pytest.mark.timeout(240)
async def test_each_shard_identifies_once_whatever_process_it_is_in() -> None:
    """Runners in processes of their own ask one book: Discord's limiter refuses none of them."""
    plan = ("--shards", "12", "--runners", "3", "--processes", "3", "--max-concurrency", "2")
    result = await bench("identify", *plan)

    figures = result["figures"]
    assert (figures["identifies"], figures["identifies_refused"]) == (12, 0)
    assert figures["closest_in_a_bucket_s"] >= figures["interval_s"]


@pytest.mark.timeout(240)
async def test_people_go_on_working_under_each_attack(demo: DemoProcess) -> None:
    """Everything that was read and watched was answered, and what was held for attackers is let go."""
    result = await attack(demo, 1.0)

    figures = result.figures
    assert len(figures["attacks"]) == 12
    for name, under in figures["attacks"].items():
        assert under["reads"] > 0, name
        assert under["events"] > 0, name
        assert under["failed"] == {}, name
        assert sum(under["ended"].values()) > 0, name
    assert figures["attacks"]["cookie"]["ended"].keys() <= {"401", "429"}
    assert figures["attacks"]["body"]["ended"].keys() <= {"404", "429"}
    assert figures["held_after"]["haproxy_connections"] <= figures["held_before"]["haproxy_connections"]
    assert result.baseline["http_p99_ms"] > 0
    assert result.ratio is not None
    assert result.ratio > 0


@pytest.mark.timeout(240)
async def test_runners_that_are_killed_miss_nothing_and_count_nothing_twice(demo: DemoProcess) -> None:
    """Once with the spool empty and once with it full; the sessions are taken up, nobody identifies again."""
    figures = await kill_runners(demo, Plan(kills=2))
    assert figures["kills_with_full_spool"] == 1
    assert figures["offences_posted"] > 0
    wrong = ("missing", "doubled", "counts_wrong_by", "not_an_offence", "identifies_beyond_the_first", "gaps")
    assert {name: figures[name] for name in wrong} == dict.fromkeys(wrong, 0)
